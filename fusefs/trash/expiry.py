"""What the trash gives up by itself: what is due, what is above a cap, history that is old.

Deadlines are times of `steady`, and nothing expires while they are being made anew. A cap purges
the oldest entries first, as many as it takes by their sizes, says so in the log, and looks again
when these are gone.
"""

from itertools import islice

import structlog

from fusefs.model.entry import State
from fusefs.model.job import Job, Selector
from fusefs.store.margins import DEFAULT
from fusefs.store.plan import allowed_dead_bytes
from fusefs.store.store import Store
from fusefs.trash.policy import FOREVER
from fusefs.trash.purge import Purger
from fusefs.trash.trash import Trash

#: Entries that one look at a cap adds up at most.
_LOOK = 2000
#: The user in whose name the trash purges by itself.
_ROOT = 0

EXPIRED, OVER_SIZE, LOW_SPACE = "its time is over", "above max-size", "below min-free"

log = structlog.get_logger(__name__)


class Expiry:
    """The trash's own purges."""

    def __init__(self, store: Store, trash: Trash, purger: Purger) -> None:
        self._store = store
        self._trash = trash
        self._purger = purger

    def look(self) -> list[Job]:
        """Ask for the purges that are due now; returns them. Raises DiskFull, StoreError."""
        trash = self._trash
        trash.steady.mark_if_due()
        if not trash.steady.is_settled or trash.retention.needs_replan:
            return []
        causes = {job.cause for job in self._purger.jobs()}
        asked = []
        if EXPIRED not in causes and (due := self._due()):
            asked.append(self._purger.ask(due, EXPIRED, _ROOT))
        if not causes & {OVER_SIZE, LOW_SPACE}:
            asked += self._look_at_caps()
        return asked

    def _due(self) -> Selector | None:
        """What is due, the most overdue first."""
        now = self._trash.steady.now_ns()
        found = self._trash.ledger.due(now, _LOOK)
        return Selector(numbers=tuple(found), due_ns=now) if found else None

    def _look_at_caps(self) -> list[Job]:
        policy, totals = self._trash.retention.policy, self._store.totals
        if policy.max_bytes and totals.trash_bytes > policy.max_bytes:
            return self._ask_for_oldest(totals.trash_bytes - policy.max_bytes, OVER_SIZE)
        missing = self.missing_bytes()
        if missing > 0:
            missing -= self._to_come()
        return self._ask_for_oldest(missing, LOW_SPACE) if missing > 0 else []

    def missing_bytes(self) -> int:
        """By how much the disk has less free than `min_free_bytes`; below 1 where it has enough."""
        least = self._trash.retention.policy.min_free_bytes
        return least - self._store.space.refresh() if least else 0

    def _to_come(self) -> int:
        """What the collector is about to give back to the disk."""
        needed = self._store.usage.total_bytes
        dead = self._store.segments_bytes - needed
        return max(0, int(dead - allowed_dead_bytes(needed, DEFAULT)))

    def _ask_for_oldest(self, size_bytes: int, cause: str) -> list[Job]:
        upto, found, count = 0, 0, 0
        for one in islice(self._trash.ledger.entries(), _LOOK):
            if found >= size_bytes:
                break
            if one.state is State.PENDING and self._purger.why_not(one, _ROOT) is None:
                upto, count = one.number, count + 1
                found += one.size_bytes
        if not upto:
            return []
        log.warning("purging early", why=cause, entries=count, size_bytes=found)
        return [self._purger.ask(Selector(upto=upto), cause, _ROOT)]

    def clean_history(self) -> int:
        """Forget some records that are old enough; returns how many."""
        keep_s = self._trash.retention.policy.history_s
        now = self._trash.steady.now_ns()
        if not now or keep_s == FOREVER:
            return 0
        return self._trash.ledger.clean_history(now - int(keep_s * 1e9), now)
