"""Giving the space of blocks that nothing needs back to the disk, segment by segment.

::

    plan -> prepare -> read -> move, in slices -> delete

What a segment still holds of use is written to the log again, under the same block numbers; rows of
blocks without references are deleted. Deleting is the reverse order of writing: a segment goes only
when its live blocks stand in newer segments, these are synced, and a checkpoint knows it. A crash
at any point leaves a segment with nothing of use in it, which the next round deletes. The newest
segment is no exception: the log first goes on in another one (`prepare`).

A segment also holds batches, of which the index was made. Before the first one goes, a copy of the
index, as of that checkpoint, is laid beside it (STORE/snapshot): copy and later log are what an
index can be made from again.

Somebody else who reads segments (fsck of a mounted store) holds a shared lock meanwhile
(`reading_segments`), and nothing is deleted then.
"""

import fcntl
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fusefs.base import failpoints
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.store import format
from fusefs.store.margins import DEFAULT, Margins
from fusefs.store.plan import Plan, allowed_dead_bytes, choose, merge
from fusefs.store.reading import NOT_ITS_HASH
from fusefs.store.usage import needed_bytes

if TYPE_CHECKING:
    from fusefs.store.store import Store

READERS_LOCK = "readers.lock"


class Held(NamedTuple):
    """A block as a segment holds it: `offset` of its payload."""

    number: int
    offset: int
    payload: memoryview


class Collector:
    """The collector of an open store. Segments that are only in remotes are not collected.

    `damaged`: segments with records that do not verify; they are left as they are. `failed`: why
    the disk did not let others be read or deleted; they are left until `failed` is cleared.
    """

    def __init__(self, store: "Store", margins: Margins = DEFAULT) -> None:
        self._store = store
        self._margins = margins
        self._directory = store.path / "segments"
        self._own_changes = 0
        self.damaged: set[int] = set()
        self.failed: dict[int, str] = {}

    @property
    def activity(self) -> int:
        """Grows with every change of what is needed that is not made by the collector itself."""
        return self._store.usage.changes - self._own_changes

    @property
    def dead_bytes(self) -> int:
        """Of no use in all segments together. Costs nothing to ask."""
        return self._store.segments_bytes - self._store.usage.local_bytes

    def plan(self, *, only_mostly_dead: bool = False) -> Plan:
        """What to collect now; nothing is touched.

        With `only_mostly_dead`, what can be collected in a busy store: not the newest segment.
        """
        store, live_bytes = self._store, self._store.usage.local_bytes
        allowed = allowed_dead_bytes(live_bytes, self._margins)
        if self.dead_bytes <= allowed and not self.damaged and not self.failed:
            return Plan((), live_bytes, self.dead_bytes)
        live = store.usage.live_bytes
        found = (
            (number, size, live(number))
            for number, size in store.segments.items()
            if number not in self.damaged and number not in self.failed
        )
        return choose(
            found,
            live_bytes,
            self._margins,
            store.newest_segment,
            only_mostly_dead=only_mostly_dead,
        )

    def plan_merge(self, last: int) -> Plan:
        """What small segments to make fewer of, none behind `last`; nothing is touched."""
        store, live = self._store, self._store.usage.live_bytes
        last = min(last, store.newest_segment - 1)
        found = (
            (number, size, live(number))
            for number, size in store.segments.items()
            if size < self._margins.small_bytes
            and number <= last
            and number not in self.damaged
            and number not in self.failed
        )
        return merge(found, store.usage.local_bytes, store.index_bytes, self._margins)

    def prepare(self, plan: Plan) -> None:
        """End the newest segment if it is to be collected. Raises DiskFull or StoreError."""
        if any(one.number >= self._store.newest_segment for one in plan.segments):
            self._store.roll()

    def read(self, number: int) -> list[Held]:
        """All blocks of a segment; waits for the disk, so best in another thread.

        Where it cannot be read it is `failed` afterwards, where a record does not verify `damaged`.
        """
        try:
            failpoints.hit("collect.read")
            data = memoryview((self._directory / format.segment_name(number)).read_bytes())
        except OSError as error:
            self.failed[number] = f"cannot be read: {error.strerror}"
            return []
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
            if row is None:
                continue
            block = Block.unpack(row)
            if (block.segment, block.offset) != (segment, one.offset):
                continue
            if not block.refs:
                store.blocks.drop(batch, one.number)
            elif store.blocks.decode(block, one.payload) is None:
                self.damaged.add(segment)
                store.blocks.note_damage(one.number, block, NOT_ITS_HASH)
            else:
                store.blocks.write_again(batch, one.number, block, one.payload)
                moved += needed_bytes(row, block)
        before = store.usage.changes
        store.commit(batch)
        self._own_changes += store.usage.changes - before
        failpoints.hit("collect.moved")
        return moved

    def delete(
        self, segments: Mapping[int, Sequence[int]]
    ) -> Generator[tuple[int, int], None, None]:
        """Delete segments, given with the numbers of the blocks that were in each, one at a step.

        A checkpoint and then a snapshot have been made since they were emptied. Yields each that
        is gone with the size of its file: none while somebody reads segments. One that cannot be
        deleted, or is still of use against all books, is `failed` afterwards.

        None of this is made durable: a segment that is there again after a power cut has nothing of
        use in it, and goes with the next collection.
        """
        with no_readers(self._store.path) as is_alone:
            for number, blocks in segments.items():
                if not is_alone or number in self.damaged:
                    continue
                if not self._is_empty(number, blocks):
                    self.failed[number] = "has blocks of use left: run fusefs fsck"
                    continue
                size = self._store.segments[number]
                try:
                    failpoints.hit("collect.delete")
                    (self._directory / format.segment_name(number)).unlink()
                except OSError as error:
                    self.failed[number] = f"cannot be deleted: {error.strerror}"
                    continue
                failpoints.hit("collect.deleted")
                self._store.forget_segment(number)
                yield number, size

    def may_delete(self) -> bool:
        """Whether nobody reads segments just now."""
        with no_readers(self._store.path) as is_alone:
            return is_alone

    def _is_empty(self, segment: int, blocks: Sequence[int]) -> bool:
        if segment >= self._store.checkpointed.segment:
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
def no_readers(store: Path) -> Iterator[bool]:
    """Whether nobody else reads segments of the store; and nobody begins to, meanwhile."""
    descriptor = _open_lock(store)
    try:
        yield descriptor >= 0 and _is_locked(descriptor)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _open_lock(store: Path) -> int:
    """-1 where the disk refuses writes, and so nothing can be deleted either."""
    try:
        return os.open(store / READERS_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return -1
