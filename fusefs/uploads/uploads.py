"""An upload from its announcement to its name.

::

    begin    the staging file gets its length and its row; the room for what is to come is promised
    offer    a window of digests -> which bytes are missing; what the store has is put in place
    finish   the map has what was read: the name, in one act

An upload needs nobody to end well: with the last offer its row knows the root hash, and one that
has all its blocks is finished as soon as all its senders have ended (`finish_left`), or at the next
start (`settle`); unless a sender has seen its source change, and told so (`withdraw`).

What is kept from before is not believed. A block that was in the staging file when its sender came,
or anywhere in the store, is read and verified before it counts; one that does not verify is asked
for again, and healed when it comes.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import msgspec
import structlog
import trio
from blake3 import blake3
from msgspec.structs import replace

from fusefs.errors import (
    ContentDiffers,
    NoSuchUpload,
    NotPermitted,
    Refused,
    WrongUpload,
)
from fusefs.files.extents import joined_ranges
from fusefs.files.files import Files
from fusefs.model import dirent, keys
from fusefs.model.extent import BLOCK_SIZE, Extent
from fusefs.model.inode import IN_TRASH, Inode
from fusefs.model.partial import Partial, Upload
from fusefs.tree.act import Act
from fusefs.tree.places import places_of
from fusefs.tree.removal import Caller
from fusefs.tree.tree import SET_ID, Tree
from fusefs.uploads.content import DIGEST_SIZE, Content, block_range, count_blocks
from fusefs.uploads.counts import UploadCounts
from fusefs.uploads.sending import EXPIRY_S, Sending

#: Blocks of one offer.
WINDOW_BLOCKS = 32
#: Finished ones that are remembered, for senders that come late.
_REMEMBERED = 1000

log = structlog.get_logger(__name__)

Range = tuple[int, int]


class Answer(msgspec.Struct):
    """To an offer of `size` bytes. `missing`: half-open byte ranges. `is_taken`: another sender is
    at it, so that nothing needs to be sent now."""

    size: int
    missing: list[Range]
    is_taken: bool = False


class Finished(msgspec.Struct):
    """An upload that has its name. `uid`: who gave it that. `was_already`: another sender was
    faster."""

    parent: int
    staged: bytes
    name: bytes
    ino: int
    uid: int
    was_already: bool = False


class Uploads:
    """The uploads of a store."""

    def __init__(self, tree: Tree, files: Files) -> None:
        self._tree = tree
        self._files = files
        self._store = tree.store
        self._partials = files.partials
        self._content = Content(tree.store, files.extents)
        self._sending: dict[int, Sending] = {}
        #: Of those whose senders have all ended: (parent, name) of the staging file.
        self._left: dict[int, tuple[int, bytes]] = {}
        self._finished: OrderedDict[int, tuple[Upload, Finished]] = OrderedDict()
        self.counts = UploadCounts()
        #: Called after a rename, see `Tree.rename`.
        self.after_rename: Callable[[], object] = lambda: None

    # -- the beginning

    def begin(self, path: bytes, declared: Upload, pid: int, uid: int) -> tuple[Inode, int]:
        """Announce what the file at `path` is to become, or join who has; returns its inode and
        how many bytes of it are there.

        Raises NoSuchUpload, WrongUpload, NotPermitted, DiskFull, StoreError.
        """
        inode = self._staging_file(path, uid)
        if not declared.name or b"/" in declared.name or declared.name in (b".", b".."):
            raise WrongUpload(f"{_shown(declared.name)} cannot be the name of a file")
        one = self._partials.get(inode.ino)
        if one is None and inode.size:
            raise WrongUpload(f"/{_shown(path)} is a complete file: remove it, or choose another")
        if one is not None and one.upload is not None:
            self._check_same(one.upload, declared)
            declared = replace(declared, root=one.upload.root)
        self._files.flush_one(inode.ino)
        present = inode.blocks_bytes
        self._promise(inode.ino, max(0, declared.size - present))
        try:
            if inode.size != declared.size:
                self._files.truncate(inode, declared.size, keeps=SET_ID)
            self._declare(inode, declared)
        except BaseException:
            self._store.space.release_promise(inode.ino)
            raise
        now_s = self._store.clock.monotonic()
        head, _, name = path.strip(b"/").rpartition(b"/")
        place = self._tree.resolve(head).ino, name
        sending = self._sending.setdefault(inode.ino, Sending(now_s, place))
        sending.place = place
        sending.join(pid, self._store.counters.block + 1)
        self._files.expected[inode.ino] = partial(self._arrives, inode.ino, sending)
        self.counts.resumes += present > 0
        return inode, present

    def _staging_file(self, path: bytes, uid: int) -> Inode:
        try:
            inode = self._tree.resolve(path)
        except Refused as refusal:
            raise NoSuchUpload(f"/{_shown(path)} does not exist in this store") from refusal
        if not inode.is_file or inode.nlink != 1 or inode.flags & IN_TRASH:
            raise WrongUpload(f"/{_shown(path)} is no ordinary file with one name")
        if uid not in (0, inode.uid):
            raise NotPermitted(f"/{_shown(path)} belongs to another user")
        return inode

    def _check_same(self, known: Upload, declared: Upload) -> None:
        mine, other = ((one.token, one.size, one.name, one.mtime_ns) for one in (declared, known))
        if mine != other:
            raise WrongUpload("the file belongs to another upload: its token or size is not this")

    def _promise(self, ino: int, size: int) -> None:
        self.tend()
        self._store.space.promise(ino, size, self._files.waiting_bytes)

    def _declare(self, inode: Inode, declared: Upload) -> None:
        one = self._partials.get(inode.ino)
        if one is None:
            one = Partial(self._store.clock.time_ns(), is_new=True)
        if one.upload != declared:
            with self._tree.act() as act:
                self._partials.put(act, inode.ino, replace(one, upload=declared))

    def _arrives(self, ino: int, sending: Sending, size: int) -> None:
        sending.active_s = self._store.clock.monotonic()
        self.counts.received_bytes += size
        self._store.space.use_promise(ino, size)

    # -- what is missing

    async def offer(
        self, ino: int, token: bytes, pid: int, window: int, digests: Sequence[bytes],
        root: bytes = b"",
    ) -> Answer:  # fmt: skip
        """Which bytes of a window are missing, after what the store has of it was put in place.

        `digests`: of its blocks, in order. `root`: with the last window, see `Upload`. Raises
        NoSuchUpload, WrongUpload, ContentDiffers (the upload was finished with other content),
        DiskFull, StoreError.
        """
        self.counts.requests += 1
        if (over := self._finished.get(ino)) and over[0].token == token:
            return await self._compare(ino, over[0], window, digests)
        self._known(ino, token)
        if (
            self._store.blocks.lacks_hints
        ):  # after a crash: what is known is worth more than the time
            for _ in self._store.blocks.refill_hints():
                await trio.lowlevel.checkpoint()
        inode, upload = self._known(ino, token)
        first = window * WINDOW_BLOCKS
        expected = min(WINDOW_BLOCKS, count_blocks(upload.size) - first)
        if len(digests) != expected or any(len(one) != DIGEST_SIZE for one in digests):
            raise WrongUpload(f"window {window} has {expected} blocks of the size declared")
        offered = min(upload.size - first * BLOCK_SIZE, WINDOW_BLOCKS * BLOCK_SIZE)
        named = self._store.blocks.name(root) if root else b""
        if named not in (b"", upload.root):
            self._declare(inode, replace(upload, root=named))
        sending = self._sending_of(ino)
        sending.active_s = self._store.clock.monotonic()
        sending.drop_dead()
        self._files.flush_one(ino)
        different = self._different(inode, upload.size, first, digests)
        if sending.is_taken(window, pid, len(different), sending.active_s):
            return Answer(offered, [], is_taken=True)
        missing = await self._missing(inode, upload.size, first, digests, pid)
        if missing and pid in sending.senders:
            sending.lease(window, pid, len(missing), sending.active_s)
        else:
            sending.leases.pop(window, None)
        ranges = joined_ranges(block_range(upload.size, at) for at in missing)
        needed = sum(end - start for start, end in ranges)
        self.counts.needed_bytes += needed
        self.counts.already_present_bytes += offered - needed
        return Answer(offered, ranges)

    def _different(
        self, inode: Inode, size: int, first: int, digests: Sequence[bytes]
    ) -> list[int]:
        """The positions that by the map have other content, or have to be read."""
        parts = self._content.parts(inode, size, first, len(digests))
        pairs = zip(range(first, first + len(digests)), digests, parts, strict=True)
        return [at for at, digest, part in pairs if self._content.plain_digest(part) != digest]

    async def _missing(
        self, inode: Inode, size: int, first: int, digests: Sequence[bytes], pid: int
    ) -> list[int]:
        """The positions that are missing, after what the store has was put in place."""
        content, store, tree = self._content, self._store, self._tree
        sender = self._sending_of(inode.ino).senders.get(pid)
        new_from = sender.first_new_block if sender else store.counters.block + 1
        parts = list(content.parts(inode, size, first, len(digests)))
        missing: list[int] = []
        kept: dict[int, int] = {}  # position -> block that is in place, and is to be proved
        found: dict[int, int] = {}  # position -> block that is elsewhere in the store
        batch = store.batch()
        for at, digest, part in zip(
            range(first, first + len(digests)), digests, parts, strict=True
        ):
            start, end = block_range(size, at)
            if content.plain_digest(part) == digest:
                number = content.stored_number(part)
                if number is not None and number < new_from:
                    kept[at] = number
            elif (number := store.blocks.find(batch, digest, end - start)) is not None:
                found[at] = number
            elif content.plain_digest(part) or await content.read_digest(part) != digest:
                missing.append(at)
        bad = await content.damaged({*kept.values(), *found.values()})
        self._known(inode.ino)  # it may have come to its end meanwhile
        with tree.act() as act:
            new = []
            for at, number in found.items():
                start, end = block_range(size, at)
                # Looked up once more: the collector may have been at work.
                again = store.blocks.find(act, digests[at - first], end - start)
                if again != number or number in bad:
                    missing.append(at)
                else:
                    new.append(Extent(start, end - start, number, 0))
            if new:
                self._files.extents.replace(act, inode, new)
        store.space.use_promise(inode.ino, sum(one.length for one in new))
        missing += [at for at, number in kept.items() if number in bad]
        if bad:
            log.warning("damaged blocks are asked for again", inode=inode.ino, blocks=len(bad))
        return sorted(missing)

    async def _compare(
        self, ino: int, upload: Upload, window: int, digests: Sequence[bytes]
    ) -> Answer:
        """For a sender that comes after another has finished."""
        first = window * WINDOW_BLOCKS
        inode = self._tree.inodes.find(ino)
        if inode is None:
            raise NoSuchUpload("the upload was finished, and its file is gone since: begin again")
        if await self._content.digests(inode, upload.size, first, len(digests)) != list(digests):
            raise ContentDiffers("the upload was finished by a sender of other content")
        return Answer(0, [])

    def missing(self, ino: int, token: bytes) -> list[Range]:
        """The ranges that nothing was stored for yet; what is there is not proved."""
        inode, upload = self._known(ino, token)
        self._files.flush_one(ino)
        return self._files.extents.missing(inode, upload.size)

    async def digests(self, path: bytes, first: int, count: int) -> list[bytes | None]:
        """The digests of blocks of a file; None for what is lost. Raises NoSuchUpload."""
        try:
            inode = self._tree.resolve(path)
        except Refused as refusal:
            raise NoSuchUpload(f"/{_shown(path)} does not exist in this store") from refusal
        self._files.flush_one(inode.ino)
        count = max(0, min(count, count_blocks(inode.size) - first))
        return await self._content.digests(inode, inode.size, first, count)

    # -- the end

    async def finish(self, ino: int, token: bytes, root: bytes, caller: Caller) -> Finished:
        """Give the file its name, by one act; durable when this returns.

        Raises NoSuchUpload, WrongUpload, ContentDiffers (nothing has changed then, but whoever has
        the staging file open must open it anew), Refused, DiskFull, StoreError.
        """
        named = self._store.blocks.name(root)
        if (over := self._finished.get(ino)) and over[0].token == token:
            if over[0].root != named:
                raise ContentDiffers("the upload was finished by a sender of other content")
            return msgspec.structs.replace(over[1], was_already=True)
        self._known(ino, token)
        done = await self._finish(ino, token, named, self._name_of(ino), caller)
        await self._files.sync()
        return done

    async def _finish(
        self, ino: int, token: bytes, named: bytes, place: tuple[int, bytes], caller: Caller
    ) -> Finished:
        """See `finish`. `named`: what the root hash must be, as it stands in `Upload`. `place`:
        parent and name of the staging file."""
        inode, upload = self._known(ino, token)
        self._files.cut_off(ino)
        written_ns = inode.mtime
        found = await self._named_root(inode, upload.size)
        inode, upload = self._known(ino, token)
        is_still = inode.size == upload.size and inode.mtime == written_ns
        if not is_still or found != named:
            raise ContentDiffers(
                f"{_shown(upload.name)}: what has arrived is not what was read from its source"
            )
        return self._rename(inode, replace(upload, root=named), *place, caller)

    async def _named_root(self, inode: Inode, size: int) -> bytes:
        """The root hash of what is there, as it stands in `Upload`."""
        hasher = blake3()
        for digest in await self._content.digests(inode, size, 0, count_blocks(size)):
            hasher.update(digest or b"")
        return self._store.blocks.name(hasher.digest())

    async def finish_left(self) -> AsyncIterator[Finished]:
        """Finish those whose senders have all ended, and that have all their blocks.

        Raises DiskFull, StoreError; those that are left then are finished at the next start.
        """
        left, self._left = self._left, {}
        for ino, place in left.items():
            one, inode = self._partials.get(ino), self._tree.inodes.find(ino)
            if one is None or one.upload is None or inode is None or ino in self._sending:
                continue
            upload, caller = one.upload, Caller(inode.uid, inode.gid, 0)
            self._files.flush_one(ino)
            if not upload.root or await self._named_root(inode, upload.size) != upload.root:
                continue
            try:
                done = await self._finish(ino, upload.token, upload.root, place, caller)
            except Refused as refusal:  # a directory has its name, say
                log.warning("an upload cannot get its name", inode=ino, errno=refusal.errno)
            except (NoSuchUpload, ContentDiffers):  # somebody had to do with it meanwhile
                continue
            else:
                await self._files.sync()
                yield done

    def _rename(
        self, inode: Inode, upload: Upload, parent: int, staged: bytes, caller: Caller
    ) -> Finished:
        def complete(act: Act, moved: Inode) -> None:
            self._partials.end(act, moved.ino)
            if upload.mtime_ns:
                moved.mtime = upload.mtime_ns

        self._tree.rename(parent, staged, parent, upload.name, 0, caller, also=complete)
        self._tree.inodes.unpin(inode)
        self.after_rename()
        self._forget(inode.ino)
        done = Finished(parent, staged, upload.name, inode.ino, caller.uid)
        self._finished[inode.ino] = upload, done
        if len(self._finished) > _REMEMBERED:
            self._finished.popitem(last=False)
        self.counts.finished += 1
        return done

    def withdraw(self, ino: int, token: bytes) -> None:
        """The source is another by now: nobody ends the upload but a sender that was not told so.

        Raises NoSuchUpload, WrongUpload, DiskFull, StoreError.
        """
        inode, upload = self._known(ino, token)
        self._declare(inode, replace(upload, root=b""))

    def abort(self, ino: int, token: bytes) -> Finished:
        """Give it up: the staging file is gone, not to the trash, and what it took is free.

        Raises NoSuchUpload, WrongUpload, DiskFull, StoreError.
        """
        inode, upload = self._known(ino, token)
        place = self._name_of(ino)
        self._delete(inode, *place)
        self._forget(ino)
        self.counts.aborted += 1
        return Finished(*place, upload.name, ino, inode.uid)

    def take_back(self, path: bytes, declared: Upload) -> Finished | None:
        """An upload was refused for want of room: the staging file is gone, unless somebody has
        begun it. Raises DiskFull, StoreError."""
        head, _, staged = path.strip(b"/").rpartition(b"/")
        parent, inode = self._tree.resolve(head), self._tree.resolve(path)
        one = self._partials.get(inode.ino)
        if inode.size or (one is not None and one.upload is not None):
            return None
        self._delete(inode, parent.ino, staged)
        return Finished(parent.ino, staged, declared.name, inode.ino, inode.uid)

    def _delete(self, inode: Inode, parent_ino: int, staged: bytes) -> None:
        parent = self._tree.inode(parent_ino)
        row = self._store.get(keys.name(parent_ino, staged)) or b""
        self._store.space.admit_removal()
        self._files.cut_off(inode.ino)
        now = self._store.clock.time_ns()
        with self._tree.act() as act:
            act.change(inode, parent)
            self._tree.delete_name(act, parent, staged, dirent.unpack(row))
            inode.nlink = 0
            self._tree.free_if_unnamed(act, inode)
            self._partials.end(act, inode.ino)
            parent.mtime = parent.ctime = now

    def settle(self) -> int:
        """At a start: finish those that have all their blocks, and these verify; returns how many.

        Raises DiskFull, StoreError.
        """
        whole = {}
        for ino, one in self._partials:
            inode = self._tree.inodes.find(ino)
            if inode is None or one.upload is None or not one.upload.root:
                continue
            content, size = self._content, one.upload.size
            if content.named_root(inode, size) == one.upload.root and content.is_good(inode, size):
                whole[ino] = one.upload
        places = [one for one in places_of(self._tree, whole) if one and not one.is_in_trash]
        for place in places:
            inode, upload = self._tree.inode(place.ino), whole[place.ino]
            try:
                self._rename(
                    inode, upload, place.parent, place.name, Caller(inode.uid, inode.gid, 0)
                )
            except Refused as refusal:  # a directory has its name, say
                log.warning("an upload cannot get its name", inode=place.ino, errno=refusal.errno)
            else:
                log.info("an upload was complete", inode=place.ino, name=_shown(upload.name))
        return len(places)

    # -- who sends

    def tend(self) -> None:
        """Take back the room that was promised to uploads that nobody sends any more."""
        now_s = self._store.clock.monotonic()
        for ino, sending in list(self._sending.items()):
            sending.drop_dead()
            is_gone = self._partials.get(ino) is None
            if is_gone or not sending.senders or now_s - sending.active_s > EXPIRY_S:
                if not is_gone and not sending.senders:
                    self._left[ino] = sending.place
                self._forget(ino)

    def _forget(self, ino: int) -> None:
        self._store.space.release_promise(ino)
        self._files.expected.pop(ino, None)
        sending = self._sending.pop(ino, None)
        if sending is not None:
            sending.close()

    def _sending_of(self, ino: int) -> Sending:
        sending = self._sending.get(ino)
        if sending is None:
            raise NoSuchUpload("nobody has begun this upload since the mount: begin again")
        return sending

    def _known(self, ino: int, token: bytes | None = None) -> tuple[Inode, Upload]:
        """Raises NoSuchUpload, WrongUpload."""
        one = self._partials.get(ino)
        inode = self._tree.inodes.find(ino)
        if one is None or one.upload is None or inode is None or not inode.nlink:
            raise NoSuchUpload("there is no such upload: it was finished, given up or never begun")
        if token is not None and one.upload.token != token:
            raise WrongUpload("the file belongs to another upload: its token is not this")
        return inode, one.upload

    def _name_of(self, ino: int) -> tuple[int, bytes]:
        """(parent, name) of a staging file."""
        if (sending := self._sending.get(ino)) is not None:
            inode = self._tree.lookup(*sending.place)
            if inode is not None and inode.ino == ino:
                return sending.place
        for found in places_of(self._tree, {ino}):
            if found is not None and not found.is_in_trash:
                return found.parent, found.name
        raise NoSuchUpload("the staging file has no name any more")


def _shown(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
