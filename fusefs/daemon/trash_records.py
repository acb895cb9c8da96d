"""What answers about the trash look like: entries, batches and the history as plain records."""

import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from fusefs.base.clock import utc
from fusefs.daemon.filesystem import Filesystem
from fusefs.model.batch import RemovalBatch
from fusefs.model.entry import Entry, State

Record = dict[str, Any]

One = TypeVar("One", Entry, RemovalBatch)

_PAGE = 1000
#: Rows that one page looks at, be they wanted or not: some 30 ms.
_LOOK = 5000


class TrashRecords:
    """Makes records of what the trash of `filesystem` holds."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._clock = filesystem.store.clock
        self._trash = filesystem.trash
        self._ledger = filesystem.trash.ledger
        self._unrecorded = filesystem.purger.unrecorded

    def of_entry(self, one: Entry) -> Record:
        """A line of the list."""
        state, errno, message = one.state, one.errno, one.message
        unrecorded = self._unrecorded.get(one.number)
        if unrecorded is not None:
            state, errno, message = State.ERROR, unrecorded.errno, unrecorded.message
        is_there = one.state is State.PENDING
        return {
            "id": one.number,
            "batch": one.batch,
            "entries": 1,
            "original_path": "/" + os.fsdecode(one.origin),
            "trash_path": "/" + os.fsdecode(self._trash.path_in_trash(one)) if is_there else None,
            "kind": _kind(one.kind),
            "size": one.size_bytes,
            "deleted_at": utc(one.deleted_ns),
            "purge_at": self._purge_at(one),
            "cause": one.cause.value,
            "uid": one.uid,
            "comm": one.process.decode(errors="backslashreplace"),
            "state": state.value,
            "job": one.job or None,
            "errno": errno,
            "error": message,
        }

    def of_batch(self, sums: RemovalBatch) -> Record:
        """The same for all that was removed in one go; one entry is a line of its own."""
        first = next(self._ledger.of_batch(sums), None)
        if first is None or sums.entries == 1:
            return self.of_entry(first) if first is not None else {"id": sums.number, "entries": 0}
        states = ((sums.failed, State.ERROR), (sums.ongoing, State.ONGOING))
        return {
            **self.of_entry(first),
            "id": sums.number,
            "entries": sums.entries,
            "original_path": "/" + os.fsdecode(sums.top),
            "trash_path": None,
            "kind": "directory" if sums.is_whole else "several",
            "size": sums.size_bytes,
            "deleted_at": utc(sums.ended_ns),
            "state": next((state for count, state in states if count), State.PENDING).value,
        }

    def _purge_at(self, one: Entry) -> str | None:
        """The wall time at which an entry is due, as it looks now."""
        now = self._trash.steady.now_ns()
        if one.state is not State.PENDING or not one.deadline_ns or not now:
            return None
        return utc(self._clock.time_ns() + one.deadline_ns - now)

    @staticmethod
    def of_past(one: Entry) -> Record:
        """A line of the history, with every transition."""
        return {
            "id": one.number,
            "original_path": "/" + os.fsdecode(one.origin),
            "kind": _kind(one.kind),
            "uid": one.uid,
            "comm": one.process.decode(errors="backslashreplace"),
            "state": one.state.value,
            "history": [
                {"state": stamp.state.value, "time": utc(stamp.time_ns), "cause": stamp.cause}
                for stamp in one.history
            ],
        }


def page(
    rows: Iterator[One], takes: Callable[[One], bool], shown: Callable[[One], Record]
) -> Record:
    """The next records of `rows`, and the number to go on behind, or None at the end."""
    found: list[Record] = []
    last = None
    for count, one in enumerate(rows):
        if len(found) == _PAGE or count == _LOOK:
            return {"records": found, "next": last}
        if takes(one):
            found.append(shown(one))
        last = one.number
    return {"records": found, "next": None}


def _kind(kind: int) -> str:
    return {0o100000: "file", 0o120000: "symlink", 0o040000: "directory"}.get(kind, "special")
