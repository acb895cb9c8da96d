"""The books of the trash: entries, their order of purge, batches, and the history.

The rows of one entry change here together, in the act of somebody else::

    t entry       the entry, as long as it is in the trash
    q deadline    that it is to be purged then, while it is pending and has a deadline
    g batch       sums of the batch that it belongs to
    h entry       the entry, once it has left the trash, and
    f time        when that was
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
import structlog

from fusefs.base import failpoints
from fusefs.errors import StoreDamaged
from fusefs.model import batch, entry, job, keys
from fusefs.model.batch import RemovalBatch
from fusefs.model.entry import FINAL, Entry, Operation, State
from fusefs.model.job import Job
from fusefs.store.store import Store
from fusefs.trash.steady import Steady
from fusefs.tree.act import Act

#: What one act of bookkeeping changes at most: some 10 ms.
STEP = 250

log = structlog.get_logger(__name__)


class Ledger:
    """The books of one store."""

    def __init__(self, store: Store, steady: Steady) -> None:
        self._store = store
        self._steady = steady

    # -- changing

    def add(self, act: Act, one: Entry) -> None:
        """Enter what was just removed; its batch has counted it."""
        act.put(keys.entry(one.number), entry.pack(one))
        if one.deadline_ns:
            act.put(keys.queue(one.deadline_ns, one.number), b"")

    def change(self, act: Act, one: Entry, operation: Operation, cause: str, **more: Any) -> Entry:
        """Make `operation` happen to an entry, and change the fields `more`. Raises WrongState."""
        changed = one.changed(operation, self._store.clock.time_ns(), cause)
        if more:
            changed = msgspec.structs.replace(changed, **more)
        self._rewrite(act, one, changed)
        return changed

    def set_deadline(self, act: Act, one: Entry, since_ns: int, deadline_ns: int) -> None:
        """Date a pending entry anew."""
        changed = msgspec.structs.replace(one, since_ns=since_ns, deadline_ns=deadline_ns)
        self._rewrite(act, one, changed)

    def _rewrite(self, act: Act, old: Entry, new: Entry) -> None:
        number = old.number
        old_queue = _queued(old)
        new_queue = _queued(new)
        if old_queue and old_queue != new_queue:
            act.delete(keys.queue(old_queue, number))
        if new_queue and old_queue != new_queue:
            act.put(keys.queue(new_queue, number), b"")
        if new.state in FINAL:
            act.delete(keys.entry(number))
            act.put(keys.history(number), entry.pack(new))
            act.put(keys.finished(self._steady.now_ns(), number), b"")
        else:
            act.put(keys.entry(number), entry.pack(new))
        if old.state is not new.state:
            self._count(act, old, new)

    def _count(self, act: Act, old: Entry, new: Entry) -> None:
        row = act.get(keys.batch(old.batch))
        if row is not None:
            sums = batch.unpack(row)
            sums.count(old.state, -1)
            sums.count(new.state, 1)
            if new.state in FINAL:
                sums.size_bytes -= old.size_bytes
            if sums.entries > 0:
                act.put(keys.batch(sums.number), batch.pack(sums))
            else:
                act.delete(keys.batch(sums.number))
        if new.job and act.get(keys.job(new.job)) is not None:
            active = self.job_in(act, new.job)
            if old.job == new.job:
                active.count(old.state, -1)
            active.count(new.state, 1)
            act.put(keys.job(active.number), job.pack(active))

    def job_in(self, act: Act, number: int) -> Job:
        """A job as an act sees it."""
        row = act.get(keys.job(number))
        if row is None:
            raise StoreDamaged(f"purge {number} is not in the index: run fusefs fsck")
        return job.unpack(row)

    # -- looking

    def find(self, number: int) -> Entry | None:
        """The entry with this id, while it is in the trash. Raises StoreDamaged."""
        return self._unpacked(self._store.get(keys.entry(number)), number)

    def found_in(self, act: Act, number: int) -> Entry | None:
        """The same, as an act sees it."""
        return self._unpacked(act.get(keys.entry(number)), number)

    def find_past(self, number: int) -> Entry | None:
        """The record of an entry that has left the trash, or of one of a batch that has.

        Raises StoreDamaged.
        """
        found = self._unpacked(self._store.get(keys.history(number)), number)
        if found is None:  # the entries of a batch come after its number, the first at once
            near = islice(self.past(number), STEP)
            found = next((one for one in near if one.batch == number), None)
        return found

    @staticmethod
    def _unpacked(row: bytes | None, number: int) -> Entry | None:
        try:
            return entry.unpack(row) if row is not None else None
        except msgspec.MsgspecError as error:
            raise StoreDamaged(f"trash entry {number} does not decode: run fusefs fsck") from error

    def find_batch(self, number: int) -> RemovalBatch | None:
        """The batch with this id, while anything of it is in the trash. Raises StoreDamaged."""
        row = self._store.get(keys.batch(number))
        try:
            return batch.unpack(row) if row is not None else None
        except msgspec.MsgspecError as error:
            raise StoreDamaged(f"batch {number} does not decode: run fusefs fsck") from error

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """Entries behind the number `after`, oldest first, but for those that do not decode.

        Must not be kept over a change of the index; so for the others.
        """
        return self._decoded(keys.ENTRY, after, entry.unpack)

    def past(self, after: int = 0) -> Iterator[Entry]:
        """Entries that have left the trash, by number."""
        return self._decoded(keys.HISTORY, after, entry.unpack)

    def batches(self, after: int = 0) -> Iterator[RemovalBatch]:
        return self._decoded(keys.BATCH, after, batch.unpack)

    def of_batch(self, one: RemovalBatch, after: int = 0) -> Iterator[Entry]:
        """The entries of a batch behind the number `after`."""
        for found in self.entries(max(after, one.number)):
            if found.number > one.last:
                return
            if found.batch == one.number:
                yield found

    def _decoded(self, table: bytes, after: int, unpack: Any) -> Iterator[Any]:
        for key, row in self._store.scan(table + (after + 1).to_bytes(8, "big"), table):
            try:
                yield unpack(row)
            except msgspec.MsgspecError as error:
                log.error(
                    "damaged row of the trash", table=table.decode(), number=keys.number(key),
                    error=str(error),
                )  # fmt: skip

    def due(self, now_ns: int, limit: int) -> list[int]:
        """Numbers of up to `limit` entries whose deadline has passed, the most overdue first."""
        found = []
        for key, _ in islice(self._store.scan(keys.QUEUE), limit):
            if keys.number(key) > now_ns:
                break
            found.append(keys.second(key))
        return found

    # -- forgetting

    def clean_history(self, before_ns: int, now_ns: int, limit: int = STEP) -> int:
        """Drop up to `limit` records of entries that left the trash before that time.

        What left it while the time was not known is dated `now_ns`. Returns how many it changed.
        """
        found = [key for key, _ in islice(self._store.scan(keys.FINISHED), limit)]
        old = [key for key in found if keys.number(key) < max(1, before_ns)]
        if old:
            cleaned = self._store.batch()
            for key in old:
                cleaned.delete(key)
                if keys.number(key):
                    cleaned.delete(keys.history(keys.second(key)))
                else:
                    cleaned.put(keys.finished(now_ns, keys.second(key)), b"")
            self._store.commit(cleaned)
            failpoints.hit("history.cleaned")
        return len(old)


def _queued(one: Entry) -> int:
    """When an entry is to be purged by itself; 0 for never."""
    return one.deadline_ns if one.state is State.PENDING else 0
