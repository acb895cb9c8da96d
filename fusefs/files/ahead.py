"""What another core does while writers go on: it hashes whole blocks, and has the disk begin.

A span of a file that has become a whole block is hashed and compressed there. It waits on
meanwhile, for readers to see. The next write to its file stores it, or whatever flushes before.
"""

import os
from collections.abc import Iterator
from functools import partial

from fusefs.base import writeback
from fusefs.base.worker import Job, Worker
from fusefs.files.waiting import Piece, contents
from fusefs.model.extent import BLOCK_SIZE
from fusefs.store.blocks import Blocks, Prepared
from fusefs.store.log import Written
from fusefs.store.store import Store

#: Whole blocks that may be with the other core, of one file and of all; with them come as many MiB.
_AHEAD_FILE, _AHEAD = 4, 8


class Ahead:
    """The other core, for all files. `count`: blocks that are there, or back and not yet stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._worker = Worker("hashing")
        self.count = 0

    def hash(self, parts: list[Piece]) -> Job[Prepared]:
        """Have parts that are a whole block made ready; they must not change any more."""
        return self._worker.submit(partial(_prepare, self._store.blocks, parts))

    def begin_writing(self) -> None:
        """Have the disk begin with what is in the log, if that is enough by now."""
        for written in self._store.take_written():
            self._worker.submit(partial(_begin, written))


class Coming:
    """The spans of one file that are whole blocks and hashed ahead."""

    __slots__ = ("_ahead", "_jobs")

    def __init__(self, ahead: Ahead) -> None:
        self._ahead = ahead
        self._jobs: dict[int, Job[Prepared]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._jobs))

    def add(self, span: int, parts: list[Piece]) -> bool:
        """Have a span hashed; False where enough are, of all files."""
        if self._ahead.count >= _AHEAD:
            return False
        self._jobs[span] = self._ahead.hash(parts)
        self._ahead.count += 1
        return True

    def due(self, offset: int, end: int) -> Iterator[int]:
        """Before a write of [offset, end): what is to be stored, because it is hashed, or the write
        would change it or be too many beside it. Each must be, before the next is asked for."""
        first, last = offset // BLOCK_SIZE, (end - 1) // BLOCK_SIZE
        is_hit = any(first <= span <= last for span in self._jobs)
        for span, job in list(self._jobs.items()):
            if not (is_hit or job.is_done or len(self._jobs) >= _AHEAD_FILE):
                return
            yield span

    def result(self, span: int) -> Prepared | None:
        """A span as a block, if it was hashed ahead; waits for that.

        Raises what hashing it raised, and forgets it: the next try does without.
        """
        job = self._jobs.get(span)
        try:
            return job.result() if job else None
        except BaseException:
            self.drop(span)
            raise

    def drop(self, span: int) -> None:
        """Forget a span that is stored, or changed."""
        job = self._jobs.pop(span, None)
        if job is not None:
            job.wait()  # it holds memory until then
            self._ahead.count -= 1

    def truncate(self, size: int) -> None:
        """Forget the spans that do not end within `size`."""
        for span in self:
            if (span + 1) * BLOCK_SIZE > size:
                self.drop(span)


def _prepare(blocks: Blocks, parts: list[Piece]) -> Prepared:
    prepared = blocks.prepare(contents(parts))
    prepared.encoded()
    return prepared


def _begin(written: Written) -> None:
    try:
        writeback.begin(*written)
    finally:
        os.close(written.descriptor)
