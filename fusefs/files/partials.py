"""Which files are half-written: begun by a writer who has not closed them, or never will.

A file that somebody is writing has a row from the act that makes it, empties it or stores the first
of it to the one that stores the last, when its writer closes it. A row that is there at a start was
left by a daemon that died; that of a killed writer is kept when the kernel closes its files. Either
is a partial until a writer closes it in good order or it is said to be complete.

A copy that is repeated by a tool that begins anew, as cp does, empties the file first. What it held
until then is kept by another inode until the file is complete: the blocks are still there when the
tool comes to them, however slow it is.

The offset of a partial is a promise, as in the resumable uploads of the IETF HTTP working group
(draft-ietf-httpbis-resumable-upload): what lies before it is stored and did verify, so it need not
be sent again. It ends at the first hole and at a multiple of the block size.
"""

from collections.abc import Callable, Iterator

import msgspec
import structlog
import trio
from msgspec.structs import replace

from fusefs.errors import FusefsError, NotLocal, StoreDamaged
from fusefs.files.extents import Extents
from fusefs.model import keys, partial
from fusefs.model.extent import BLOCK_SIZE, DAMAGED, Extent
from fusefs.model.inode import Inode
from fusefs.model.partial import Partial
from fusefs.store.reading import ColdBlock
from fusefs.tree.act import Act
from fusefs.tree.tree import Tree

#: How much of a partial's end a start verifies. What was written before that is checked by whoever
#: continues it, by a scrub and by `check`.
_LAST_BYTES = 8 << 20
_WINDOW = 64 << 20

DAEMON_ENDED = "the daemon ended"

log = structlog.get_logger(__name__)


class Partials:
    """The half-written files of a store.

    `date` is asked for the time to note in an act, 0 if it is not known.
    """

    def __init__(self, tree: Tree, extents: Extents) -> None:
        self._tree = tree
        self._extents = extents
        self._rows: dict[int, Partial] = {}
        self._formers: dict[int, int] = {}  # inode that keeps what a file held -> that file
        for key, row in tree.store.scan(keys.PARTIAL):
            try:
                self._note(keys.number(key), partial.unpack(row))
            except msgspec.MsgspecError as error:
                log.error("a half-written file is not known", key=key.hex(), error=str(error))
        self.date: Callable[[Act], int] = lambda act: 0

    def __contains__(self, ino: int) -> bool:
        return ino in self._rows

    def __iter__(self) -> Iterator[tuple[int, Partial]]:
        """(inode number, partial) of all, those included that are being written."""
        return iter(list(self._rows.items()))

    def get(self, ino: int) -> Partial | None:
        return self._rows.get(ino)

    def holds(self, ino: int) -> bool:
        """Whether the inode, which has no name, keeps what a partial held."""
        return ino in self._formers

    def _note(self, ino: int, one: Partial | None) -> None:
        before = self._rows.pop(ino, None)
        if before is not None:
            self._formers.pop(before.former, None)
        if one is not None:
            self._rows[ino] = one
            if one.former:
                self._formers[one.former] = ino

    # -- changes, inside an act

    def begin(self, act: Act, inode: Inode, *, size: int | None = None) -> None:
        """Note that the file is being written. `size`: what it is cut to first, if it is."""
        before = self._rows.get(inode.ino)
        kept = inode.stored_size if size is None else size
        if before is None or not kept:
            if before and before.is_writing and before.is_new and not before.offset:
                return
            one = Partial(self._tree.store.clock.time_ns(), is_new=not kept)
            if before is not None:
                one = replace(one, upload=before.upload, former=before.former)
            self.put(act, inode.ino, one)
        elif before.why or kept < before.offset:
            offset = min(before.offset, _floor(kept))
            changed = replace(before, offset=offset, why="", stopped_ns=0)
            self.put(act, inode.ino, changed)

    def end(self, act: Act, ino: int) -> None:
        """Note that the file is complete, or gone."""
        if ino in self._rows:
            act.delete(keys.partial(ino))
            act.then(lambda: self._note(ino, None))

    def put(self, act: Act, ino: int, changed: Partial) -> None:
        """Note all of it anew."""
        act.put(keys.partial(ino), partial.pack(changed))
        act.then(lambda: self._note(ino, changed))

    # -- acts

    def stop(self, inode: Inode, why: str) -> None:
        """Note that its writer is gone too early. Raises DiskFull, StoreError."""
        one = self._rows[inode.ino]
        end = self._stored_end(inode, one)
        self._put_dated(inode.ino, replace(one, offset=_floor(end), why=why))

    def set_aside(self, inode: Inode) -> None:
        """Before a file is emptied: if it is a partial that nobody goes on with, keep what it
        holds, unless more is kept already. Raises DiskFull, StoreError; it may be shorter then."""
        one = self._rows.get(inode.ino)
        if one is None or one.is_writing:
            return
        kept = self._tree.inodes.find(one.former) if one.former else None
        if kept is not None and kept.stored_size >= inode.stored_size:
            return
        with self._tree.act() as act:
            former = self._tree.make_orphan(act, inode)
            self._extents.extend(act, former, inode.stored_size)
            former.size = former.stored_size
            self.put(act, inode.ino, replace(one, former=former.ino))
        while inode.stored_size:
            with self._tree.act() as act:
                self._extents.move(act, inode, former)

    def complete(self, ino: int) -> None:
        """Say that the file is as it should be. Raises DiskFull, StoreError."""
        with self._tree.act() as act:
            self.end(act, ino)

    def settle(self, *, is_read_only: bool = False) -> None:
        """At a start: the writers of all files are gone. With `is_read_only` only we know it.

        The last blocks of each are verified, and its offset moves back where one is bad. Raises
        DiskFull, StoreError.
        """
        for ino, one in self:
            inode = self._tree.inodes.find(ino)
            if inode is None:  # for fsck to say
                continue
            stored = self._stored_end(inode, one)
            end = self._verified_end(inode, stored)
            if one.is_writing or _floor(end) != one.offset:
                changed = replace(
                    one, offset=_floor(end), why=one.why or DAEMON_ENDED,
                    is_damaged=one.is_damaged or end < stored,
                )  # fmt: skip
                if is_read_only:
                    self._rows[ino] = changed
                else:
                    self._put_dated(ino, changed)

    def date_undated(self) -> None:
        """Note the time for partials of when it was not known. Raises DiskFull, StoreError."""
        undated = [(ino, one) for ino, one in self if one.why and not one.stopped_ns]
        if not undated:
            return
        with self._tree.act() as act:
            now = self.date(act)
            for ino, one in undated:
                self.put(act, ino, replace(one, stopped_ns=now))

    def _put_dated(self, ino: int, one: Partial) -> None:
        with self._tree.act() as act:
            stopped = one.stopped_ns or self.date(act)
            self.put(act, ino, replace(one, stopped_ns=stopped))

    # -- how much is good

    async def check(self, ino: int) -> None:
        """Verify all of a partial up to its offset, which moves back to before the first bad block.

        Raises DiskFull, StoreError.
        """
        inode = self._tree.inodes.get(ino)
        start = 0
        while ino in self._rows and start < (offset := self._rows[ino].offset):
            end = min(start + _LAST_BYTES, offset)
            pieces = self._pieces(inode, start, end)
            bad = await trio.to_thread.run_sync(_first_bad, pieces)
            if bad is not None:
                self.cut(ino, bad, is_damaged=True)
                return
            start = end

    def cut(self, ino: int, offset: int, *, is_damaged: bool = False) -> None:
        """What lies behind `offset` is gone, or damaged. Raises DiskFull, StoreError."""
        one = self._rows.get(ino)
        if one is not None and offset < one.offset:
            is_damaged = is_damaged or one.is_damaged
            with self._tree.act() as act:
                changed = replace(one, offset=_floor(offset), is_damaged=is_damaged)
                self.put(act, ino, changed)

    def _stored_end(self, inode: Inode, one: Partial) -> int:
        """Up to where it is stored, and where damage was found before, verified from there on."""
        if not one.is_writing:
            return one.offset
        stored = self._good_end(inode, one.offset)
        if one.is_damaged:
            for start in range(one.offset, stored, _LAST_BYTES):
                end = min(start + _LAST_BYTES, stored)
                if (bad := _first_bad(self._pieces(inode, start, end))) is not None:
                    return bad
        return stored

    def _good_end(self, inode: Inode, start: int) -> int:
        """Where the bytes from `start` on end that lie in blocks."""
        end = start
        try:
            while end < inode.stored_size:
                stop = min(end + _WINDOW, inode.stored_size)
                for one in self._extents.covering(inode.ino, end, stop):
                    if not one.has_block:
                        return end
                    end = one.end
        except StoreDamaged:  # a gap
            pass
        return end

    def _verified_end(self, inode: Inode, end: int) -> int:
        """`end`, or where the first bad block begins of the last few before it, and so on."""
        while end > 0:
            bad = _first_bad(self._pieces(inode, max(0, end - _LAST_BYTES), end))
            if bad is None:
                return end
            end = bad
        return 0

    def _pieces(self, inode: Inode, start: int, end: int) -> list[tuple[Extent, ColdBlock | None]]:
        try:
            extents = self._extents.covering(inode.ino, start, end)
        except StoreDamaged:
            return [(Extent(start, end - start, DAMAGED, 0), None)]
        found = []
        for one in extents:
            try:
                block = self._tree.store.blocks.locate(one.block) if one.has_block else None
            except NotLocal:
                continue
            except FusefsError:
                block = None
            found.append((one, block))
        return found


def _first_bad(pieces: list[tuple[Extent, ColdBlock | None]]) -> int | None:
    """Where the first extent begins whose block is missing or does not verify."""
    for one, block in pieces:
        try:
            if block is None or block.read_part(one.skip, one.length) is None:
                return one.offset
        except StoreDamaged:
            return one.offset
        except NotLocal:
            continue  # proved when it came there
    return None


def _floor(offset: int) -> int:
    return offset // BLOCK_SIZE * BLOCK_SIZE
