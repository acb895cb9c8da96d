"""What becomes of a request to purge: which jobs it begins or joins, and what is refused, and why.

Every item has an outcome of its own, and none stops the others. What an earlier purge has already
is that one's; what is gone by a purge is a success.
"""

from fusefs.daemon.filesystem import Filesystem
from fusefs.daemon.trash_records import Record, TrashRecords
from fusefs.daemon.wire import describe_error
from fusefs.errors import FusefsError, InUse, NoSuchEntry, NotPermitted, StoreError
from fusefs.model.entry import Entry, Operation, State, after
from fusefs.model.job import Job, Selector


class PurgeRequests:
    """Asks the purger of `filesystem`."""

    def __init__(self, filesystem: Filesystem, records: TrashRecords) -> None:
        self._store = filesystem.store
        self._steady = filesystem.trash.steady
        self._ledger = filesystem.trash.ledger
        self._purger = filesystem.purger
        self._records = records

    def ask_for_all(self, older_than_s: float | None, owner: int | None, uid: int) -> Job:
        """Begin to purge all that there is now, or of it what is older, or belongs to `owner`."""
        before = 0
        if older_than_s is not None:
            before = max(1, self._steady.now_ns() - int(older_than_s * 1e9))
        selector = Selector(upto=self._store.counters.cookie, before_ns=before, uid=owner)
        return self._ask(selector, uid)

    def ask_for(self, numbers: list[int], uid: int) -> tuple[list[Job], list[Record]]:
        """Begin to purge entries and batches; returns the jobs, and an item for each number."""
        active = self._purger.jobs()
        jobs: dict[int, Job] = {}
        items: dict[int, Record] = {}
        wanted: list[int] = []
        for number in numbers:
            items[number] = {"id": number, "job": None}
            try:
                job = self._job_for(number, active, uid)
            except FusefsError as error:
                items[number].update(describe_error(error))
                continue
            if job is None:
                if self._is_to_begin(number):
                    wanted.append(number)
                continue
            jobs[job.number] = job
            items[number]["job"] = job.number
        if wanted:
            job = self._ask(Selector(tuple(dict.fromkeys(wanted))), uid)
            jobs[job.number] = job
            for number in wanted:
                items[number]["job"] = job.number
        return list(jobs.values()), list(items.values())

    def _job_for(self, number: int, active: list[Job], uid: int) -> Job | None:
        """The job that has an entry, or that is begun for a batch; None if there is none yet.

        Raises NoSuchEntry, WrongState, NotPermitted, InUse.
        """
        sums = self._ledger.find_batch(number)
        if sums is None:
            one = self._purgeable(number, uid)
            return self._purger.job_of(one, active) if one is not None else None
        selector = Selector(upto=sums.last, batch=number)
        same = (job for job in active if job.selector == selector)
        return next(same, None) or self._ask(selector, uid)

    def _is_to_begin(self, number: int) -> bool:
        """Not what is gone, nor what somebody purges with rm and has open still."""
        one = self._ledger.find(number)
        return one is not None and one.state is not State.ONGOING

    def _ask(self, selector: Selector, uid: int) -> Job:
        try:
            return self._purger.ask(selector, f"purged by user {uid}", uid)
        except StoreError as error:
            for number in selector.numbers:
                self._purger.note_failure(number, error)
            raise

    def _purgeable(self, number: int, uid: int) -> Entry | None:
        """The entry, or None where it was purged before.

        Raises NoSuchEntry, WrongState, NotPermitted, InUse.
        """
        one = self._ledger.find(number)
        if one is None:
            past = self._ledger.find_past(number)
            if past is None:
                raise NoSuchEntry(f"no entry {number} in the trash: see fusefs trash list")
            after(past.state, Operation.PURGE, number, past.origin)
            return None
        reason = self._purger.why_not(one, uid)
        if reason is None:
            return one
        path = one.origin.decode(errors="backslashreplace")
        kind = InUse if one.state is State.PENDING and reason.endswith("use") else NotPermitted
        raise kind(f"entry {number} (/{path}) {reason}")

    def outcome(self, number: int) -> Record:
        """Where an entry or a batch stands that was to be purged."""
        sums = self._ledger.find_batch(number)
        one = self._ledger.find(number)
        if sums is not None:
            one = next(self._ledger.of_batch(sums), None)
        if one is None:
            return {"id": number, "state": State.COMPLETE.value}
        record = self._records.of_entry(one)
        return {"id": number, **{key: record[key] for key in ("state", "errno", "error")}}
