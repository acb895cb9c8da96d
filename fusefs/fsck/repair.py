"""Putting right what can be put right, after saying what that is.

::

    plan:   rows + segments -> repairs, each with the rows that it puts or deletes
    apply:  each repair an act of the log -> damaged segments are emptied -> count again,
            checkpoint, snapshot -> these segments are put aside

Corrected is what follows from the rest: listings from names, link counts from both, references from
extents, sums and counters from all. What has no name and is not to be freed gets one in
``lost+found``. Bytes that are lost become extents that say so (model.extent.DAMAGED). Whatever is
damaged otherwise is left, and told by the check that follows.

A segment with anything that does not verify is emptied: content that its row proves right is
written again, elsewhere. Then it lies in STORE/cut, and the snapshot stands for the acts in it.

Rows are put as they are to be, so every repair can be repeated; killed anywhere, it is begun anew.
"""

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import astuple

from fusefs.base import failpoints
from fusefs.base.clock import Clock
from fusefs.base.counts import Counts
from fusefs.fsck.census import Census
from fusefs.fsck.copies import unknown
from fusefs.fsck.partials import good_end, is_file
from fusefs.fsck.problem import Places
from fusefs.fsck.segments import Blocks, Progress, copy_of_index, segments
from fusefs.fsck.selection import Selection
from fusefs.fsck.tables import Tables
from fusefs.fsck.view import Rows, view
from fusefs.model import dirent, extent, keys, partial
from fusefs.model.block import Block
from fusefs.model.dirent import Dirent
from fusefs.model.extent import BLOCK_SIZE, DAMAGED, HOLE, Extent
from fusefs.model.inode import IN_TRASH, ROOT_INO, TRASH_INO, Inode
from fusefs.model.totals import Totals
from fusefs.store import format, identity, snapshot
from fusefs.store.cipher import Cipher
from fusefs.store.counters import Counters
from fusefs.store.log import Position
from fusefs.store.rebuild import alone
from fusefs.store.recovery import list_segments
from fusefs.store.salvage import mapped
from fusefs.store.store import Store
from fusefs.tree.tree import TRASH_NAME

LOST_FOUND = b"lost+found"

_Changes = dict[bytes, bytes | None]


@dataclass(frozen=True)
class Repair:
    """One act: `where` and `what` for people, `rows` for the log."""

    kind: str
    where: str
    what: str
    rows: tuple[tuple[bytes, bytes | None], ...]

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}"


@dataclass(frozen=True)
class Plan:
    """`repairs`, in this order; then segments to be emptied and put aside; then `last`: while the
    row of a lost block is there, whoever goes on with a repair sees that its segment is damaged."""

    repairs: tuple[Repair, ...]
    segments: tuple[int, ...]
    last: tuple[Repair, ...] = ()


class Draft:
    """Rows as they are after the repairs planned so far."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._changes: _Changes = {}
        self.repairs: list[Repair] = []

    def get(self, key: bytes) -> bytes | None:
        return self._changes[key] if key in self._changes else self._rows.get(key)

    def scan(self, start: bytes, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """The rows as they are at the first step."""
        prefix = start if prefix is None else prefix
        added = sorted(
            (key, row)
            for key, row in self._changes.items()
            if row is not None and key >= start and key.startswith(prefix)
        )
        changes = dict(self._changes)
        pending = iter(added)
        new = next(pending, None)
        for key, row in self._rows.scan(start, prefix):
            while new is not None and new[0] <= key:
                yield new
                new = next(pending, None)
            if key not in changes:
                yield key, row
        while new is not None:
            yield new
            new = next(pending, None)

    def repair(self, kind: str, where: str, what: str, rows: _Changes) -> None:
        self._changes |= rows
        self.repairs.append(Repair(kind, where, what, tuple(rows.items())))


def repair(
    path: Path,
    selection: Selection,
    clock: Clock,
    *,
    is_dry: bool = False,
    progress: Progress | None = None,
    cipher: Cipher | None = None,
) -> Plan:
    """Repair the store at `path`, which nobody has open, or, if `is_dry`, only plan it.

    `cipher`: of an encrypted one.

    Raises NotAStore, FormatTooNew, WrongKey, StoreLocked, StoreReadOnly, DiskFull, StoreError;
    StoreDamaged where there is no index to be read at all.
    """
    known = identity.read(path)
    known.require_key(path, cipher)
    directory, uuid = path / "segments", known.uuid_bytes
    with alone(path), view(path, cipher) as rows:
        if is_dry:
            end = rows.replayed.end
            return plan(
                rows, directory, uuid, end, rows.counters(), rows.totals(), selection, progress,
                cipher,
            )  # fmt: skip
    store = Store.open(path, clock=clock, cipher=cipher)
    try:
        end = store.replay.end
        wanted = plan(
            store, directory, uuid, end, store.counters, store.totals, selection, progress, cipher
        )
        apply(store, wanted)
    except BaseException:
        store.abandon()
        raise
    store.close()
    return wanted


def plan(
    rows: Rows,
    directory: Path,
    uuid: bytes,
    end: Position,
    counters: Counters,
    totals: Totals,
    selection: Selection,
    progress: Progress | None = None,
    cipher: Cipher | None = None,
) -> Plan:
    """What is to be repaired of the index `rows` and the segments in `directory`.

    `end`: of the log. `counters`, `totals`: as the index keeps them. Blocks in `selection` are
    read; damage to the content of others is not found. Nothing is changed.
    """
    draft = Draft(rows)
    census = Census()
    for key, row in rows.scan(b""):
        census.add(key, row)
    highest = Counters(*map(max, astuple(counters), astuple(census.highest)))
    if highest != counters:
        draft.repair("counters", "index", "are raised to what is in use", {})
    tables = Tables(draft)
    places = Places(Tables(rows))
    damaged = {
        int(one.where, 16)
        for one in segments(directory, uuid, end, lambda: True)
        if one.kind == "segment"
    }
    blocks = Blocks(directory, tables, selection, progress, lambda: True, cipher)
    blocks.check()

    def is_readable(block: Block | None) -> bool:
        """Whether the row finds what it says, be the record damaged otherwise or not."""
        return block is not None and _payload(directory, block, cipher) is not None

    damaged |= {block.segment for block in map(tables.block, blocks.bad) if block is not None}
    damaged &= set(list_segments(directory))
    lost = {number for number in blocks.bad if not is_readable(tables.block(number))}
    lost |= {  # what is to be moved is read in any case
        number
        for number, block in tables.blocks()
        if block is not None and block.segment in damaged and not is_readable(block)
    }
    _strays(draft, tables)
    _extents(draft, tables, places, lost)
    _listings(draft, tables, places)
    _orphans(draft, tables, highest)
    _links(draft, tables, places)
    _partials(draft, tables, places)
    _remotes(draft, tables, list_segments(directory))
    last = _references(draft, tables, lost, damaged)
    _records(draft, tables, {number for one in last for number in _blocks_in(one)})
    if next(copy_of_index(directory.parent, read_data=True), None):
        draft.repair("snapshot", snapshot.NAME, "is written anew", {})
    if draft.repairs or census.totals != totals:
        draft.repair("totals", "index", "are counted again", {})
    return Plan(tuple(draft.repairs), tuple(sorted(damaged)), tuple(last))


def _payload(directory: Path, block: Block, cipher: Cipher | None) -> memoryview | None:
    if not (directory / format.segment_name(block.segment)).is_file():
        return None
    payload = mapped(directory, block.segment)[block.offset : block.offset + block.stored]
    content = format.decode(block.codec, payload, block.length, block.digest, cipher)
    return payload if content is not None else None


# -- files


def _extents(draft: Draft, tables: Tables, places: Places, lost: set[int]) -> None:
    """Lay an extent that says so over everything that is lost."""
    for inode in list(tables.inodes()):
        if not inode.is_file:
            continue
        prefix = keys.EXTENT + inode.ino.to_bytes(8, "big")
        old = dict(draft.scan(prefix))
        found = [one for _, one in _decoded(tables, old) if one is not None]
        new = _whole(tables, inode, found, lost)
        rows: _Changes = {keys.extent(inode.ino, one.offset): extent.pack(one) for one in new}
        changes: _Changes = {key: row for key, row in rows.items() if old.get(key) != row}
        changes |= dict.fromkeys(old.keys() - rows.keys())
        data_bytes = sum(one.length for one in new if one.block != HOLE)
        size = new[-1].end if new else 0
        if not changes and (inode.stored_size, inode.blocks_bytes) == (size, data_bytes):
            continue
        before = {(one.offset, one.end) for one in found if one.block == DAMAGED}
        gone = [one for one in new if one.block == DAMAGED and (one.offset, one.end) not in before]
        what = ", ".join(f"{one.offset} to {one.end}" for one in gone)
        inode.stored_size, inode.blocks_bytes = size, data_bytes
        message = f"bytes {what} are lost, and marked so" if what else "its extents are set right"
        changes[keys.inode(inode.ino)] = inode.pack()
        draft.repair("extent", places.path(inode.ino), message, changes)


def _strays(draft: Draft, tables: Tables) -> None:
    """Extents of what is no file, or of nothing at all, are of no use."""
    stray: dict[int, _Changes] = {}
    for key, _ in draft.scan(keys.EXTENT):
        ino = keys.number(key)
        inode = tables.inode(ino)
        if not inode.is_file if inode is not None else not tables.has(keys.inode(ino)):
            stray.setdefault(ino, {})[key] = None
    for ino, rows in stray.items():
        draft.repair("extent", f"inode {ino}", "is no file, and has no extents any more", rows)


def _decoded(tables: Tables, rows: dict[bytes, bytes]) -> Iterator[tuple[bytes, Extent | None]]:
    return ((key, tables.extent(key)) for key in sorted(rows))


def _whole(tables: Tables, inode: Inode, found: list[Extent], lost: set[int]) -> list[Extent]:
    """Extents that cover the file without gap or overlap; of what is lost they say so."""
    whole: list[Extent] = []

    def add(one: Extent) -> None:
        last = whole[-1] if whole else None
        if last and one.block == last.block and not one.has_block:
            whole[-1] = last._replace(length=last.length + one.length)
        else:
            whole.append(one)

    position = 0
    for one in found:
        if one.end <= position:
            continue
        if one.offset > position:
            add(Extent(position, one.offset - position, DAMAGED, 0))
        part = one.part(max(one.offset, position), one.end)
        if part.has_block and _is_lost(tables, part, lost):
            part = part._replace(block=DAMAGED, skip=0)
        while part.has_block and part.offset // BLOCK_SIZE != (part.end - 1) // BLOCK_SIZE:
            border = (part.offset // BLOCK_SIZE + 1) * BLOCK_SIZE
            add(part.part(part.offset, border))
            part = part.part(border, part.end)
        add(part)
        position = one.end
    if position < inode.stored_size:
        add(Extent(position, inode.stored_size - position, DAMAGED, 0))
    return whole


def _is_lost(tables: Tables, one: Extent, lost: set[int]) -> bool:
    block = tables.block(one.block)
    return block is None or one.block in lost or one.skip + one.length > block.length


# -- names


def _listings(draft: Draft, tables: Tables, places: Places) -> None:
    """Make every directory list its names, and nothing else."""
    for parent, name, found in list(tables.names()):
        if (parent, name) == (ROOT_INO, TRASH_NAME):
            continue
        inode = tables.inode(found.ino)
        kind = found.kind if inode is None else stat.S_IFMT(inode.mode)
        row = dirent.pack_listed(found.ino, kind, name)
        rows: _Changes = {}
        if draft.get(keys.order(parent, found.cookie)) != row:
            rows[keys.order(parent, found.cookie)] = row
        if kind != found.kind:
            rows[keys.name(parent, name)] = dirent.pack(found._replace(kind=kind))
        if rows:
            draft.repair("listing", places.named(parent, name), "is listed as it is", rows)
    for parent, cookie, ino, kind, name in list(tables.listing()):
        by_name = tables.dirent(parent, name)
        if by_name is not None and by_name.cookie == cookie:
            continue
        key, where = keys.order(parent, cookie), places.named(parent, name)
        inode = tables.inode(ino)
        is_there = inode is not None and stat.S_IFMT(inode.mode) == kind
        if by_name is None and is_there and tables.inode(parent) is not None:
            rows = {keys.name(parent, name): dirent.pack(Dirent(ino, kind, cookie))}
            draft.repair("listing", where, "can be looked up again", rows)
        else:
            draft.repair("listing", where, "is not listed any more", {key: None})


def _counts(tables: Tables) -> tuple[Counts, Counts, Counts]:
    """Live names and names in the trash by inode, subdirectories by directory."""
    live, trashed, subdirectories = Counts(), Counts(), Counts()
    for parent, name, found in tables.names():
        if (parent, name) == (ROOT_INO, TRASH_NAME):
            continue
        is_dir = found.kind == stat.S_IFDIR
        if is_dir:
            subdirectories.add(parent)
        is_entry = not is_dir and tables.has(keys.entry(found.cookie))
        (trashed if is_entry else live).add(found.ino)
    return live, trashed, subdirectories


def _orphans(draft: Draft, tables: Tables, counters: Counters) -> None:
    """Name what has no name and is not to be freed; what has one is not to be freed."""
    live, trashed, _ = _counts(tables)
    ino_of_home, cookie = 0, counters.cookie
    for inode in list(tables.inodes()):
        ino = inode.ino
        has_name = bool(live.of(ino) or trashed.of(ino))
        is_marked = tables.has(keys.orphan(ino))
        if is_marked and has_name and not tables.orphaned_entry(ino):
            rows: _Changes = {keys.orphan(ino): None}
            draft.repair("orphan", f"inode {ino}", "has a name, and is not freed", rows)
        if is_marked or has_name or ino in (ROOT_INO, TRASH_INO) or inode.flags & IN_TRASH:
            continue
        rows = {}
        if not ino_of_home:
            ino_of_home, cookie = _home(tables, counters, inode, cookie, rows)
        cookie += 1
        name = _free_name(tables, ino_of_home, b"%d" % ino)
        kind = stat.S_IFMT(inode.mode)
        rows[keys.name(ino_of_home, name)] = dirent.pack(Dirent(ino, kind, cookie))
        rows[keys.order(ino_of_home, cookie)] = dirent.pack_listed(ino, kind, name)
        if inode.is_dir:
            inode.parent = ino_of_home
            rows[keys.directory(ino)] = name
        else:
            inode.nlink, inode.trash_names = 1, 0
        rows[keys.inode(ino)] = inode.pack()
        path = f"/{LOST_FOUND.decode()}/{name.decode()}"
        draft.repair("orphan", f"inode {ino}", f"had no name, is {path} now", rows)
    for ino, _ in list(tables.orphans()):
        if not tables.has(keys.inode(ino)) and not tables.orphaned_entry(ino):
            rows = {keys.orphan(ino): None}
            draft.repair("orphan", f"inode {ino}", "does not exist, and is not freed", rows)


def _partials(draft: Draft, tables: Tables, places: Places) -> None:
    """Promise of half-written files what is there; what is no file is not half-written."""
    for ino, one in list(tables.partials()):
        if not is_file(tables, ino):
            rows: _Changes = {keys.partial(ino): None}
            draft.repair("partial", f"inode {ino}", "is not half-written", rows)
        elif (end := good_end(tables, ino, one.offset, ())) < one.offset:
            one.offset = end
            rows = {keys.partial(ino): partial.pack(one)}
            draft.repair("partial", places.path(ino), f"is good up to byte {end}", rows)


def _home(
    tables: Tables, counters: Counters, like: Inode, cookie: int, rows: _Changes
) -> tuple[int, int]:
    """The inode of lost+found, made by `rows` where there is none; and the last cookie taken."""
    found = tables.dirent(ROOT_INO, LOST_FOUND)
    if found is not None and found.kind == stat.S_IFDIR:
        return found.ino, cookie
    name = _free_name(tables, ROOT_INO, LOST_FOUND)
    cookie += 1
    ino = counters.ino + 1
    home = Inode(ino, stat.S_IFDIR | 0o700, 0, 0, like.ctime, nlink=2, parent=ROOT_INO)
    rows[keys.inode(ino)] = home.pack()
    rows[keys.name(ROOT_INO, name)] = dirent.pack(Dirent(ino, stat.S_IFDIR, cookie))
    rows[keys.order(ROOT_INO, cookie)] = dirent.pack_listed(ino, stat.S_IFDIR, name)
    rows[keys.directory(ino)] = name
    return ino, cookie


def _free_name(tables: Tables, parent: int, wanted: bytes) -> bytes:
    name, number = wanted, 0
    while tables.has(keys.name(parent, name)):
        number += 1
        name = b"%s.%d" % (wanted, number)
    return name


def _links(draft: Draft, tables: Tables, places: Places) -> None:
    """Count names; what has none and is to be freed counts none."""
    live, trashed, subdirectories = _counts(tables)
    for inode in list(tables.inodes()):
        ino = inode.ino
        if tables.has(keys.orphan(ino)):
            continue
        if inode.is_dir:
            counted = 2 + subdirectories.of(ino), inode.trash_names
        elif not (live.of(ino) or trashed.of(ino)):
            continue
        else:
            counted = live.of(ino), trashed.of(ino)
        if (inode.nlink, inode.trash_names) != counted:
            inode.nlink, inode.trash_names = counted
            message = f"has {counted[0]} links, and {counted[1]} names in the trash"
            draft.repair("links", places.path(ino), message, {keys.inode(ino): inode.pack()})


# -- remotes


def _remotes(draft: Draft, tables: Tables, local: Collection[int]) -> None:
    """Forget copies in remotes that the store has not, but for what is nowhere else: there it is
    known at least what it was. A row that does not decode keeps the store from being mounted."""
    for key, _ in list(draft.scan(keys.REMOTE)):
        if tables.remote(key) is None:
            where = f"remote {os.fsdecode(key[1:])}"
            draft.repair(
                "row", where, "cannot be read, and is forgotten: add it again", {key: None}
            )
    for one in unknown(tables, local):
        going = sorted(set(one.segments) - set(one.only))
        rows: _Changes = {keys.copy(segment, one.number): None for segment in going}
        if rows:
            draft.repair("copy", one.where, f"{len(rows)} copies there are forgotten", rows)


# -- blocks


def _references(draft: Draft, tables: Tables, lost: set[int], damaged: set[int]) -> list[Repair]:
    """Count references. What is lost and has none is to be forgotten, so that the same content,
    written again, is stored again; returned is what has to wait until its segment is put aside."""
    last = []
    references = Counts()
    for _, one in tables.extents():
        if one is not None and one.has_block:
            references.add(one.block)
    for number, block in list(tables.blocks()):
        counted = references.of(number)
        where, what = f"block {number}", "is of no use, and forgotten"
        if not counted and (block is None or number in lost):
            rows: _Changes = {keys.block(number): None}
            if block is None or block.segment not in damaged:
                draft.repair("references", where, what, rows)
                continue
            last.append(Repair("references", where, what, tuple(rows.items())))
        if block is not None and block.refs != counted:
            rows = {keys.block(number): block._replace(refs=counted).pack()}
            draft.repair("references", where, f"has {counted} references", rows)
    return last


def _blocks_in(one: Repair) -> list[int]:
    return [keys.number(key) for key, _ in one.rows if key[:1] == keys.BLOCK]


def _records(draft: Draft, tables: Tables, going: set[int]) -> None:
    """Forget records of bad blocks that do not exist or are not needed, and records that do not
    decode: the next scrub makes those anew. `going`: blocks that will not exist."""
    for key, _ in list(draft.scan(keys.CORRUPTION)):
        number = keys.number(key)
        block = tables.block(number)
        is_needed = block is not None and block.refs and number not in going
        if not is_needed or tables.corruption(key) is None:
            where = f"block {number}"
            draft.repair("record", where, "is not recorded as bad any more", {key: None})


# -- applying it


def apply(store: Store, wanted: Plan) -> None:
    """Do what was planned for `store`, which was opened before. Raises DiskFull, StoreError."""
    _commit(store, wanted.repairs)
    store.recount()
    _empty(store, set(wanted.segments), {key for one in wanted.last for key, _ in one.rows})
    store.roll()
    store.checkpoint()
    if wanted.segments or any(one.kind == "snapshot" for one in wanted.repairs):
        store.write_snapshot()
    existing = set(list_segments(store.path / "segments"))
    for number in wanted.segments:
        if number in existing:
            store.set_aside(number)
            failpoints.hit("repair.set_aside")
    _commit(store, wanted.last)


def _commit(store: Store, repairs: tuple[Repair, ...]) -> None:
    for one in repairs:
        batch = store.batch()
        batch.rows.update(one.rows)
        store.commit(batch)
        failpoints.hit("repair.act")


def _empty(store: Store, damaged: set[int], kept: set[bytes]) -> None:
    """Write again what of these segments is of use, and forget the rest but the rows `kept`."""
    if not damaged:
        return
    rows = ((keys.number(key), Block.unpack(row)) for key, row in store.scan(keys.BLOCK))
    for number, block in [one for one in rows if one[1].segment in damaged]:
        batch = store.batch()
        payload = (
            _payload(store.path / "segments", block, store.blocks.cipher) if block.refs else None
        )
        if payload is not None:
            store.blocks.write_again(batch, number, block, payload)
        elif not block.refs and keys.block(number) not in kept:
            store.blocks.drop(batch, number)
        store.commit(batch)
        failpoints.hit("repair.moved")
