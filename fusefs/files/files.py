"""Open files: what is written waits in memory, goes to the store as blocks, and is read back.

Waiting bytes are flushed by fsync, by close, by age, and when all files together hold more than
the limit. A flush that fails keeps the bytes and tells the caller.

A write that makes a span a whole block is answered at once, and the block stored later (see
`ahead`); what cannot be stored then waits on, and the error is that of the call that met it.
"""

import os
import time
from collections.abc import Callable
from errno import EBADF, EFBIG, EPERM, ESTALE
from stat import S_ISLNK, S_ISREG

import trio

from fusefs.base.process import Deaths, leader_of, name_of, signal_name
from fusefs.errors import NotLocal, Refused, StoreDamaged
from fusefs.files.ahead import Ahead
from fusefs.files.elsewhere import NOWHERE, Elsewhere
from fusefs.files.extents import Extents
from fusefs.files.opened import Handle, OpenFile
from fusefs.files.partials import Partials
from fusefs.files.waiting import joined
from fusefs.model.extent import BLOCK_SIZE, DAMAGED, HOLE, Extent
from fusefs.model.inode import Inode
from fusefs.store.log import Buffer
from fusefs.store.store import Store
from fusefs.tree.tree import Tree

FLUSH_AGE_S = 5.0
SIZE_MAX = (1 << 63) - 1
_READAHEAD = 4 << 20
#: One file may hold this part of the limit: a flush of all of it holds up everybody.
_FILE_SHARE = 4
#: A log tail up to this is synced on the loop: a thread's round trip would take longer.
_INLINE_SYNC = 256 << 10
#: Small reads are made on the loop, while the disk lately answered this fast; nobody asks before
#: whether it will then, which costs as much as what is in the kernel's memory.
_SMALL_READ = 64 << 10
_INLINE_READ_S = 0.5e-3
#: What takes less did not come from the disk.
_FROM_MEMORY_S = 50e-6


class Files:
    """The open files of a mount. `limit_bytes` bounds what waits in memory, all together."""

    def __init__(self, tree: Tree, *, limit_bytes: int) -> None:
        self.extents = Extents(tree)
        self.partials = Partials(tree, self.extents)
        self.deaths = Deaths()
        #: Which remotes have all of a file, for people; empty where there are none. Set from above.
        self.synced: Callable[[Inode], bytes] = lambda inode: b""
        self.waiting_bytes = 0
        #: Where content comes from that is not here; set by who knows.
        self.elsewhere: Elsewhere = NOWHERE
        #: Whoever waits for the content of a file, by inode, is told how much of it comes.
        self.expected: dict[int, Callable[[int], None]] = {}
        self._tree = tree
        self._store: Store = tree.store
        self._limit = limit_bytes
        self._open: dict[int, OpenFile] = {}
        self._handles: dict[int, Handle] = {}
        self._last_handle = 0
        self._ahead = Ahead(tree.store)
        self._sync_lock = trio.Lock()
        self._cold_read_s = 0.0  # moving average of small ones

    # -- handles

    def open(self, inode: Inode, *, for_writing: bool, pid: int = 0) -> int:
        """A new handle. Raises Refused(EPERM) for writing to what is in the trash."""
        if for_writing and self.is_frozen(inode):
            raise Refused(EPERM, "what is in the trash cannot be changed")
        file = self._open.get(inode.ino)
        if file is None:
            file = self._open[inode.ino] = OpenFile(inode, self._ahead)
            self._tree.inodes.held[inode.ino] = inode
        file.handles += 1
        file.writers += for_writing
        if inode.nlink:
            file.is_live = True
        self._last_handle += 1
        self._handles[self._last_handle] = Handle(file, for_writing, pid)
        return self._last_handle

    def close(self, handle: Handle) -> None:
        """A descriptor of a writer is closed: its file is complete, unless the writer is killed.

        Other descriptors of the handle may be open yet. Raises DiskFull, StoreError.
        """
        file = handle.file
        one = self.partials.get(file.inode.ino)
        if not one and not file.waiting:
            self.flush(file)
        elif signal := self.deaths.killed_by(handle.pid):
            self.flush(file)
            name = os.fsdecode(name_of(leader_of(handle.pid)))
            self._stop(file, f"{name} was killed by {signal_name(signal)}")
        else:
            self.flush(file, completes=not (one and one.upload))

    def release(self, number: int) -> None:
        """Let go of a handle; its file's bytes are flushed before."""
        handle = self._handles.pop(number)
        file = handle.file
        file.handles -= 1
        file.writers -= handle.is_writer
        if file.handles == 0:
            file.is_live = False
        one = self.partials.get(file.inode.ino)
        is_last = handle.is_writer and not file.writers and (one is None or one.is_writing)
        try:
            if file.handles == 0 or is_last:
                self.flush(file, completes=is_last and not (one and one.upload))
        finally:
            if is_last:
                self._stop(file, "it was not closed in good order")

    def _stop(self, file: OpenFile, why: str) -> None:
        one = self.partials.get(file.inode.ino)
        if one is not None and one.is_writing:
            self.partials.stop(file.inode, why)

    def handle(self, number: int) -> Handle:
        """Raises Refused(EBADF)."""
        try:
            return self._handles[number]
        except KeyError:
            raise Refused(EBADF) from None

    def cut_off(self, ino: int) -> None:
        """Let nobody who has the file open now write to it any more; flushes what waits.

        Raises DiskFull, StoreError.
        """
        for handle in self._handles.values():
            if handle.file.inode.ino == ino:
                handle.is_cut_off = True
        self.flush_one(ino)

    def flush_one(self, ino: int) -> None:
        """Make the waiting bytes of a file blocks, if it is open. Raises DiskFull, StoreError."""
        file = self._open.get(ino)
        if file is not None:
            self.flush(file)

    def is_open(self, ino: int) -> bool:
        return ino in self._open

    def is_written(self, ino: int) -> bool:
        """Whether anybody has it open for writing."""
        file = self._open.get(ino)
        return file is not None and file.writers > 0

    def is_frozen(self, inode: Inode) -> bool:
        """Whether it is in the trash, and nobody holds it open from before.

        Who has a pipe, a socket or a device open is known to the kernel alone: these never are.
        """
        if inode.nlink or not inode.trash_names or not (S_ISREG(inode.mode) or S_ISLNK(inode.mode)):
            return False
        file = self._open.get(inode.ino)
        return file is None or not file.is_live

    def allocated_bytes(self, inode: Inode) -> int:
        """Bytes that it takes: stored ones that are no hole, and waiting ones."""
        file = self._open.get(inode.ino)
        return inode.blocks_bytes + (file.waiting.size_bytes if file else 0)

    # -- writing

    def write(self, handle: Handle, offset: int, data: bytes) -> None:
        """Take `data`. Raises DiskFull or StoreError before anything is taken, also of what was
        written before; Refused(EFBIG, ESTALE)."""
        end = offset + len(data)
        if end > SIZE_MAX:
            raise Refused(EFBIG)
        if handle.is_cut_off:
            raise Refused(ESTALE, "the file is being made complete")
        if not data:
            return
        file = handle.file
        if self.expected and (tell := self.expected.get(file.inode.ino)):
            tell(len(data))
        if file.coming:
            for span in file.coming.due(offset, end):
                self._store_span(file, span)
        self._store.space.admit_data(len(data), self.waiting_bytes)
        inode, waiting = file.inode, file.waiting
        before = waiting.size_bytes
        whole = waiting.write(offset, data, self._store.clock.monotonic())
        self.waiting_bytes += waiting.size_bytes - before
        if end > inode.size:
            inode.size = end
        self._tree.wrote(inode)
        for span in whole:
            if not file.coming.add(span, waiting.parts(span)):
                self._store_span(file, span)
        if waiting.size_bytes > self._limit // _FILE_SHARE:
            self.flush(file)
        elif self.waiting_bytes > self._limit:
            self._flush_oldest()

    def _flush_oldest(self) -> None:
        holders = sorted(
            (file for file in self._open.values() if file.waiting), key=lambda f: f.waiting.since
        )
        for file in holders:
            self.flush(file)
            if self.waiting_bytes <= self._limit // 2:
                return

    def flush(self, file: OpenFile, *, completes: bool = False) -> None:
        """Make all waiting bytes of a file blocks in the log; with `completes` these are the last.

        Raises DiskFull or StoreError; what could not be stored still waits.
        """
        inode, partials = file.inode, self.partials
        if file.waiting:
            spans = file.waiting.spans()
            for span in spans:
                self._store_span(file, span, completes=completes and span == spans[-1])
        if inode.size != inode.stored_size:
            with self._tree.act() as act:
                self.extents.extend(act, inode, inode.size)
                if completes:
                    partials.end(act, inode.ino)
            self._tree.inodes.unpin(inode)
        elif completes and inode.ino in partials:
            partials.complete(inode.ino)
        if file.handles == 0:
            self._open.pop(inode.ino, None)
            self._tree.inodes.held.pop(inode.ino, None)

    def _store_span(self, file: OpenFile, span: int, *, completes: bool = False) -> None:
        inode, waiting = file.inode, file.waiting
        hashed = file.coming.result(span)
        with self._tree.act() as act:
            if not completes:
                self.partials.begin(act, inode)
            if hashed is not None:
                self.extents.store(act, inode, [(span * BLOCK_SIZE, hashed)])
            else:
                prepare, parts = self._store.blocks.prepare, joined(waiting.parts(span))
                self.extents.store(act, inode, [(at, prepare(piece)) for at, piece in parts])
            if completes and inode.size == inode.stored_size:
                self.partials.end(act, inode.ino)
        file.coming.drop(span)
        before = waiting.size_bytes
        waiting.drop(span)
        self.waiting_bytes += waiting.size_bytes - before
        if not waiting and inode.size == inode.stored_size:
            self._tree.inodes.unpin(inode)
        self._ahead.begin_writing()

    def flush_older_than(self, age_s: float) -> None:
        """Flush the files whose oldest waiting byte is older than that."""
        limit = self._store.clock.monotonic() - age_s
        for file in list(self._open.values()):
            if file.waiting and file.waiting.since <= limit:
                self.flush(file)

    def store_whole(self) -> None:
        """Store what waits as whole blocks, of any age, so that a crash takes little.

        Raises DiskFull or StoreError; so does the next write to the file then.
        """
        if self._ahead.count:
            for file in [file for file in self._open.values() if file.coming]:
                for span in file.coming:
                    self._store_span(file, span)

    def flush_all(self) -> None:
        """Flush every file, and the times that only memory knows."""
        for file in list(self._open.values()):
            self.flush(file)
        self._tree.flush_times()

    def truncate(self, inode: Inode, size: int, *, keeps: int) -> None:
        """Cut off or lengthen a file. Raises DiskFull, Refused(EFBIG)."""
        if size > SIZE_MAX:
            raise Refused(EFBIG)
        if size > inode.stored_size:
            self._store.space.admit_name()
        else:
            self._store.space.admit_removal()
        file = self._open.get(inode.ino)
        self._tree.wrote(inode, keeps=keeps)
        is_written = file is not None and file.writers > 0
        if not is_written:
            self.partials.cut(inode.ino, size)
        try:
            if is_written and not size:
                self.partials.set_aside(inode)
            while inode.stored_size > size:
                with self._tree.act() as act:
                    if is_written:
                        self.partials.begin(act, inode, size=size)
                    self.extents.cut(act, inode, size)
            with self._tree.act() as act:
                act.change(inode)
                if is_written:
                    self.partials.begin(act, inode)
                self.extents.extend(act, inode, size)
            inode.size = size
        finally:
            # Only now: where the disk refused, the file is as long as it was, or as it got.
            if file and file.waiting:
                file.coming.truncate(inode.size)
                before = file.waiting.size_bytes
                file.waiting.truncate(inode.size)
                self.waiting_bytes += file.waiting.size_bytes - before
        if not (file and file.waiting):
            self._tree.inodes.unpin(inode)

    # -- durability

    async def fsync(self, file: OpenFile) -> None:
        """Everything written to the file so far survives a power cut when this returns."""
        self.flush(file)
        await self.sync()

    async def sync(self) -> None:
        """Make the log durable; calls that wait at the same time share one fdatasync."""
        mark = self._store.appended_bytes
        async with self._sync_lock:
            if self._store.synced_bytes >= mark:
                return
            if self._store.unsynced_bytes <= _INLINE_SYNC:
                self._store.sync()
            else:
                await trio.to_thread.run_sync(self._store.sync)

    # -- reading

    async def read(self, file: OpenFile, offset: int, size: int) -> Buffer:
        """Up to `size` bytes from `offset`, fewer only at the end.

        Raises StoreDamaged, NotLocal.
        """
        inode = file.inode
        self._tree.accessed(inode)
        end = min(offset + size, inode.size)
        if offset >= end:
            return b""
        stored_end = min(end, inode.stored_size)
        found = self.extents.covering(inode.ino, offset, stored_end) if offset < stored_end else []
        if offset == file.next_read and found:
            self._read_ahead(file, end)
        file.next_read = end
        is_plain = not file.waiting or not file.waiting.touches(offset, end)
        if is_plain and len(found) == 1 and stored_end == end and found[0].has_block:
            return await self._part(found[0].part(offset, end))
        result = bytearray(end - offset)
        for one in found:
            if one.block == DAMAGED:
                raise StoreDamaged(
                    f"bytes {one.offset} to {one.end} of inode {inode.ino} are lost: a repair"
                    " found it so"
                )
            if one.block != HOLE:
                part = one.part(offset, stored_end)
                start = part.offset - offset
                result[start : start + part.length] = await self._part(part)
        if file.waiting:
            file.waiting.overlay(offset, result)
        return result

    async def _part(self, part: Extent) -> Buffer:
        content = self._store.blocks.cached(part.block)
        tries = 0
        while content is None:
            try:
                return await self._cold_part(part)
            except NotLocal as wanted:
                await self.elsewhere.fetch(wanted, tries)
                tries += 1
            except StoreDamaged:
                content = await self.elsewhere.heal(part.block)
                if content is None:
                    raise
        if part.length == len(content):
            return content
        return memoryview(content)[part.skip : part.skip + part.length]

    async def _cold_part(self, part: Extent) -> Buffer:
        cold = self._store.blocks.locate(part.block)
        is_small = part.length <= _SMALL_READ
        started = time.perf_counter()
        if is_small and self._cold_read_s < _INLINE_READ_S:
            found = cold.read_part(part.skip, part.length)
        else:
            found = cold.read_part(part.skip, part.length, no_wait=True)
            if found is None:
                found = await trio.to_thread.run_sync(cold.read_part, part.skip, part.length)
        took_s = time.perf_counter() - started
        if is_small and took_s > _FROM_MEMORY_S:
            self._cold_read_s += (took_s - self._cold_read_s) / 8
        assert found is not None  # only a read that does not wait finds nothing
        return found

    def _read_ahead(self, file: OpenFile, end: int) -> None:
        """Ask the kernel for what a sequential reader wants next, a span at a time."""
        start = max(end, file.prefetched)
        stop = min(end + _READAHEAD, file.inode.stored_size)
        if stop - start < BLOCK_SIZE and stop < file.inode.stored_size:
            return
        if start < stop:
            try:
                ahead = self.extents.covering(file.inode.ino, start, stop)
            except StoreDamaged:
                ahead = []  # for who reads there
            for one in ahead:
                if one.has_block and (wanted := self._store.blocks.prefetch(one.block)):
                    self.elsewhere.expect(wanted)
            file.prefetched = stop
