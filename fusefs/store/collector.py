"""Giving the space of blocks that nothing needs back to the disk, segment by segment.

::

    plan -> read -> move, in slices -> delete

What a segment still holds of use is written to the log again, under the same block numbers; rows of
blocks without references are deleted. Deleting is the reverse order of writing: a segment goes only
when its live blocks stand in newer segments, these are synced, and a checkpoint knows it. A crash
at any point leaves a segment with nothing of use in it, which the next round deletes.

A segment also holds batches, of which the index was made. Before the first one goes, a copy of the
index, as of that checkpoint, is laid beside it (STORE/snapshot): copy and later log are what an
index can be made from again.

Somebody else who reads segments (fsck of a mounted store) holds a shared lock meanwhile
(`reading_segments`), and nothing is deleted then.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fusefs.base import durable, failpoints
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.store import format
from fusefs.store.recovery import list_segments

if TYPE_CHECKING:
    from fusefs.store.store import Store

READERS_LOCK = "readers.lock"
#: A segment is emptied when at least this part of it is of no use.
LEAST_DEAD = 0.5


class Candidate(NamedTuple):
    """A segment worth emptying: bytes of its file, and of what is to be moved out of it."""

    number: int
    size: int
    live: int


class Held(NamedTuple):
    """A block as a segment holds it: `offset` of its payload."""

    number: int
    offset: int
    payload: memoryview


class Collector:
    """The collector of an open store. `damaged`: segments that are left as they are."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._directory = store.path / "segments"
        self.damaged: set[int] = set()

    def plan(self, least_dead: float = LEAST_DEAD) -> list[Candidate]:
        """Segments of which at least that part is of no use, the emptiest first.

        Only such as the index has caught up with: recovery needs the others.
        """
        found = []
        for number in list_segments(self._directory):
            if number >= self._store.checkpointed.segment:
                break
            live = self._store.usage.live_bytes(number)
            if number in self.damaged or live > format.SEGMENT_SIZE * (1 - least_dead):
                continue
            size = (self._directory / format.segment_name(number)).stat().st_size
            if live <= size * (1 - least_dead):
                found.append(Candidate(number, size, live))
        return sorted(found, key=lambda one: one.live)

    def read(self, number: int) -> list[Held]:
        """All blocks of a segment; waits for the disk, so best in another thread.

        Where it cannot be read, or a record does not verify, it counts as damaged.
        """
        try:
            data = memoryview((self._directory / format.segment_name(number)).read_bytes())
        except OSError:
            data = memoryview(b"")
            self.damaged.add(number)
        held = []
        for record in format.scan(data, format.HEADER_SIZE, verify_blocks=False):
            if isinstance(record, format.Torn):
                self.damaged.add(number)
            elif record.kind == format.BLOCK:
                block, _, _, payload = format.unpack_block(record.body)
                offset = record.start + format.BLOCK_OVERHEAD
                held.append(Held(block, offset, payload))
        return held

    def move(self, segment: int, held: list[Held]) -> int:
        """Move what is needed of `held`, blocks of `segment`, in one act; returns bytes moved.

        Raises DiskFull or StoreError. A block that does not verify stays, and so does its segment.
        """
        store = self._store
        batch = store.batch()
        moved = 0
        for one in held:
            row = store.get(keys.block(one.number))
            block = Block.unpack(row) if row is not None else None
            if block is None or (block.segment, block.offset) != (segment, one.offset):
                continue
            if not block.refs:
                batch.delete(keys.block(one.number))
            elif format.decode(block.codec, one.payload, block.length, block.digest) is None:
                self.damaged.add(segment)
                store.note_damage(one.number, block)
            else:
                store.write_again(batch, one.number, block, one.payload)
                moved += block.stored
        store.commit(batch)
        failpoints.hit("collect.moved")
        return moved

    def delete(self, segments: dict[int, list[int]]) -> dict[int, int]:
        """Delete segments, given with the numbers of the blocks that were in each.

        A checkpoint and then a snapshot have been made since they were emptied. Returns those that
        are gone, with the sizes of their files: none while somebody reads segments, and the next
        collection tries again.
        """
        deleted = {}
        with _no_readers(self._store.path) as is_alone:
            for number, blocks in segments.items():
                if not is_alone or not self._is_empty(number, blocks):
                    continue
                path = self._directory / format.segment_name(number)
                deleted[number] = path.stat().st_size
                path.unlink()
                failpoints.hit("collect.deleted")
                self._store.forget_segment(number)
        durable.sync_directory(self._directory)
        return deleted

    def _is_empty(self, segment: int, blocks: list[int]) -> bool:
        if segment >= self._store.checkpointed.segment or segment in self.damaged:
            return False
        if self._store.usage.live_bytes(segment):
            return False
        rows = (self._store.get(keys.block(number)) for number in blocks)
        return all(row is None or Block.unpack(row).segment != segment for row in rows)


@contextmanager
def reading_segments(store: Path) -> Iterator[None]:
    """Nothing is deleted from the store at `store` meanwhile."""
    descriptor = _open_lock(store)
    try:
        if descriptor >= 0:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


@contextmanager
def _no_readers(store: Path) -> Iterator[bool]:
    descriptor = _open_lock(store)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _open_lock(store: Path) -> int:
    """-1 where the disk refuses writes, and so nothing can be deleted either."""
    try:
        return os.open(store / READERS_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return -1
