"""Do the books of the trash fit together: entries, their names, queue, batches, jobs, history?

Entries are gone through once, in the order of their numbers. Sums are kept for the batches that
entries can still come for, and four bytes for each number of a batch, a job or a past entry, so a
trash of millions of entries takes tens of megabytes.

Where an entry does not decode (that was told already), rows that may be about it are passed over:
those of its number, and the sums of the batches and jobs that it may belong to.
"""

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from heapq import heappop, heappush

from fusefs.base.counts import Counts
from fusefs.fsck.problem import Places, Problem
from fusefs.fsck.tables import Tables
from fusefs.model import keys
from fusefs.model.batch import RemovalBatch
from fusefs.model.entry import FINAL, Entry, State
from fusefs.model.inode import IN_TRASH

#: The batch of entries that an earlier version of fusefs made, which knew no batches.
_NO_BATCH = 0


def trash(tables: Tables, places: Places) -> Iterator[Problem]:
    """Every misfit among the rows of the trash."""
    batches, ongoing, unknown = _Batches(tables), Counts(), array("Q")
    for number, one in tables.entries():
        if one is None:
            unknown.append(number)
            batches.pass_over(number)
            continue
        if one.state is State.ONGOING and one.job:
            ongoing.add(one.job)
        for message in _misfits(tables, one):
            yield _of_entry(one, message)
        yield from batches.take(one)
    yield from batches.end()
    yield from _queue(tables)
    yield from _jobs(tables, ongoing, len(unknown))
    yield from _history(tables)
    yield from _orphans(tables, places)
    yield from _revivals(tables, places)


def _of_entry(one: Entry, message: str) -> Problem:
    return Problem("trash", "/" + os.fsdecode(one.origin), f"entry {one.number} {message}")


# -- entries


def _misfits(tables: Tables, one: Entry) -> Iterator[str]:
    yield from _misfits_of_name(tables, one)
    yield from _misfits_of_past(one)
    if one.state in FINAL:
        yield f"is {one.state}, and in the trash all the same"
    if _is_queued(one) and not tables.has(keys.queue(one.deadline_ns, one.number)):
        yield "is not in the queue of what is to be purged"
    if one.state is State.ONGOING and one.job and not tables.has(keys.job(one.job)):
        yield f"is being purged by purge {one.job}, which does not exist"


def _misfits_of_name(tables: Tables, one: Entry) -> Iterator[str]:
    found = tables.dirent(one.parent, one.name)
    if found is None and tables.has(keys.name(one.parent, one.name)):
        return
    has_name = found is not None and found.cookie == one.number
    is_orphan = tables.orphaned_entry(one.ino) == one.number
    above = tables.inode(one.parent)
    if one.state is State.ONGOING and has_name:
        yield "is being purged, but has a name in the trash"
    elif one.state is not State.PENDING and not has_name and not is_orphan:
        yield f"is {one.state}, but its inode is not marked to be freed"
    elif one.state is State.PENDING and not has_name:
        yield "has no name in the trash"
    elif found is not None and has_name and (found.ino, found.kind) != (one.ino, one.kind):
        yield f"is of inode {one.ino}, its name leads to {found.ino}"
    elif has_name and above is not None and not above.flags & IN_TRASH:
        yield "has its name in a directory that is no part of the trash"
    elif not tables.has(keys.inode(one.ino)):
        yield f"is of inode {one.ino}, which does not exist"


def _misfits_of_past(one: Entry) -> Iterator[str]:
    if not one.history or one.history[-1].state is not one.state:
        yield f"is {one.state}, its history says otherwise"


def _is_queued(one: Entry) -> bool:
    return one.state is State.PENDING and one.deadline_ns > 0


def _queue(tables: Tables) -> Iterator[Problem]:
    for deadline_ns, number in tables.queue():
        one = tables.entry(number)
        if one is None:
            if not tables.has(keys.entry(number)):
                message = "is to be purged some time, but does not exist"
                yield Problem("trash", f"entry {number}", message)
        elif one.state is not State.PENDING:
            yield _of_entry(one, f"is to be purged some time, but is {one.state}")
        elif one.deadline_ns != deadline_ns:
            yield _of_entry(one, f"is to be purged at {deadline_ns}, says {one.deadline_ns}")


# -- batches


class _Sums:
    """What the entries of one batch say, to be compared with what its row says."""

    __slots__ = ("failed", "ongoing", "pending", "row", "size_bytes")

    def __init__(self, row: RemovalBatch) -> None:
        self.row = row
        self.pending = self.ongoing = self.failed = self.size_bytes = 0

    def take(self, one: Entry) -> None:
        self.pending += one.state is State.PENDING
        self.ongoing += one.state is State.ONGOING
        self.failed += one.state is State.ERROR
        self.size_bytes += one.size_bytes


class _Batches:
    """Batches, summed up while their entries come by in the order of their numbers.

    A batch is open from its first entry until one with a number above its last has come.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._open: dict[int, _Sums] = {}
        self._lasts: list[tuple[int, int]] = []  # a heap of (last entry, batch), of the open ones
        self._found = Counts()
        self._unknown = array("Q")  # in order

    def pass_over(self, number: int) -> None:
        """An entry that does not decode, so may belong to any batch around its number."""
        self._unknown.append(number)

    def take(self, one: Entry) -> Iterator[Problem]:
        """What is wrong with a batch because of `one`, and with those that it is behind."""
        while self._lasts and self._lasts[0][0] < one.number:
            yield from self._close(heappop(self._lasts)[1])
        if one.batch == _NO_BATCH:
            return
        sums = self._open.get(one.batch)
        row = sums.row if sums else self._tables.batch(one.batch)
        if row is None:
            if not self._tables.has(keys.batch(one.batch)):
                yield _of_entry(one, f"is of batch {one.batch}, which does not exist")
            return
        if not row.is_within(one.origin):
            yield _of_entry(one, f"was not below /{os.fsdecode(row.top)}, as all of its batch")
        if not row.number < one.number <= row.last:
            yield _of_entry(one, f"is not between the numbers of its batch, {one.batch}")
            return
        if sums is None:
            sums = self._open[one.batch] = _Sums(row)
            heappush(self._lasts, (row.last, one.batch))
            self._found.add(one.batch)
        sums.take(one)

    def end(self) -> Iterator[Problem]:
        """All entries have come by."""
        for _, number in sorted(self._lasts):
            yield from self._close(number)
        for row in self._tables.batches():
            if not self._found.of(row.number) and not self._is_doubtful(row):
                yield Problem("trash", f"batch {row.number}", "has no entries")

    def _close(self, number: int) -> Iterator[Problem]:
        sums = self._open.pop(number)
        if self._is_doubtful(sums.row):
            return
        for what in ("pending", "ongoing", "failed", "size_bytes"):
            counted, found = getattr(sums.row, what), getattr(sums, what)
            if counted != found:
                message = f"counts {counted} {what}, its entries have {found}"
                yield Problem("trash", f"batch {number}", message)

    def _is_doubtful(self, row: RemovalBatch) -> bool:
        """Whether some entry that does not decode may be of this batch."""
        at = bisect_right(self._unknown, row.number)
        return at < len(self._unknown) and self._unknown[at] <= row.last


# -- jobs, history


def _jobs(tables: Tables, ongoing: Counts, unknown: int) -> Iterator[Problem]:
    """`ongoing`: entries under way by job; `unknown`: how many entries do not decode."""
    for job in tables.jobs():
        found = ongoing.of(job.number)
        if not found <= job.ongoing <= found + unknown:
            message = f"counts {job.ongoing} entries under way, there are {found}"
            yield Problem("trash", f"purge {job.number}", message)


def _history(tables: Tables) -> Iterator[Problem]:
    times = Counts()
    for number in tables.finished():
        times.add(number)
        if not tables.has(keys.history(number)):
            message = "has a time at which it left the trash, but no record"
            yield Problem("trash", f"entry {number}", message)
    for one in tables.past():
        for message in _misfits_of_past(one):
            yield _of_entry(one, message)
        if times.of(one.number) != 1:
            yield _of_entry(one, f"has left the trash at {times.of(one.number)} times")
        if tables.has(keys.entry(one.number)):
            yield _of_entry(one, "is in the trash, and has left it")


# -- inodes that the trash has to do with


def _orphans(tables: Tables, places: Places) -> Iterator[Problem]:
    """An orphan without an inode is told with the names."""
    for ino, number in tables.orphans():
        if not number:
            continue
        one = tables.entry(number)
        if one is None:
            if not tables.has(keys.entry(number)):
                message = f"is to be freed for entry {number}, which does not exist"
                yield Problem("trash", places.path(ino), message)
        elif one.ino != ino:
            yield _of_entry(one, f"is of inode {one.ino}, to be freed for it is {ino}")
        elif one.state is State.PENDING:
            yield _of_entry(one, f"is {one.state}, but its inode is to be freed for it")


def _revivals(tables: Tables, places: Places) -> Iterator[Problem]:
    """A directory that is being taken back may be removed meanwhile: no inode is no damage."""
    for ino in tables.revivals():
        inode = tables.inode(ino)
        if inode is not None and not inode.is_dir:
            message = "is being taken back with what is in it, but is no directory"
            yield Problem("trash", places.path(ino), message)
