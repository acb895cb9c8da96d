"""When the trash is purged, and how much of the loop's time that may take.

The purges themselves are the trash's; freeing is the files' reaper's. Here is the worker that
drives both, in slices of some 10 ms with pauses in between, so that requests come first; and the
timer that looks for what is due. A worker that is cut off by a stop or a crash leaves everything to
the next one: what is to be done stands in the store.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import structlog
import trio

from fusefs.daemon.pace import Pace
from fusefs.errors import DiskFull, StoreError
from fusefs.files.reaper import Reaper
from fusefs.model.job import Job
from fusefs.trash.expiry import Expiry
from fusefs.trash.purge import Purger
from fusefs.trash.trash import Trash

#: Jobs under way at one time; others wait for their turn.
PURGES_AT_ONCE = 2
#: Between two looks at whether there is anything to free, where nobody asks.
IDLE_S = 0.25
#: Between two looks at deadlines, caps and old history.
LOOK_EVERY_S = 1.0
#: Between two looks for directories of the trash that were left empty.
SWEEP_EVERY_S = 60.0
#: After an error of the store.
RETRY_S = 10.0

#: Jobs that are over and can still be asked for.
_OVER_KEPT = 1000

log = structlog.get_logger(__name__)


class Purging:
    """The worker of one open filesystem."""

    def __init__(
        self, trash: Trash, purger: Purger, expiry: Expiry, reaper: Reaper, pace: Pace
    ) -> None:
        self._trash = trash
        self._monotonic = trash.steady.clock.monotonic
        self._purger = purger
        self._expiry = expiry
        self._reaper = reaper
        self._pace = pace
        self._asked = trio.Event()
        self._next_look = self._next_sweep = 0.0
        self._trouble = ""
        self._over: OrderedDict[int, Job] = OrderedDict()
        self._leftovers: Iterator[None] | None = purger.leftovers()
        self._is_freeing = False
        self._turn = 0
        #: Hears of each job that is over.
        self.tell_over: Callable[[Job], None] = lambda job: None

    def wake(self) -> None:
        """Somebody has asked for something."""
        self._asked.set()

    async def run(self) -> None:
        """Purge, expire and free whatever is due, until cancelled."""
        while True:
            started = time.perf_counter()
            try:
                is_busy = self.step()
                self._trouble = ""
            except (DiskFull, StoreError) as error:
                self._say(error)
                await self._wait(RETRY_S)
                continue
            except Exception as error:  # the mount goes on without its worker for a while
                log.exception("purging failed", error=str(error))
                await self._wait(RETRY_S)
                continue
            if is_busy:
                await trio.sleep(self._pace.rest_s(time.perf_counter() - started))
            else:
                await self._wait(IDLE_S)

    def work_for(self, seconds: float) -> None:
        """Work without pauses, where no requests come. Raises DiskFull, StoreError."""
        deadline = time.monotonic() + seconds
        while self.step() and time.monotonic() < deadline:
            pass

    def step(self) -> bool:
        """Do a slice of everything; whether there was anything to do.

        Raises DiskFull, StoreError; whatever was done stays done.
        """
        if self._look_if_due():
            return True
        self._is_freeing = not self._is_freeing
        jobs = self._purger.jobs()
        turns = (self._free, self._begin) if self._is_freeing else (self._begin, self._free)
        return any(turn(jobs) for turn in turns) or self._end(jobs) or self._tidy()

    def _begin(self, jobs: list[Job]) -> bool:
        """A slice of the running jobs, each in its turn."""
        running = [job for job in jobs if not job.is_begun][:PURGES_AT_ONCE]
        self._turn += 1
        return bool(running) and self._purger.step(running[self._turn % len(running)].number)

    def _free(self, _jobs: list[Job]) -> bool:
        return bool(self._reaper.step())

    def _end(self, jobs: list[Job]) -> bool:
        over = [job for job in jobs if job.is_over]
        for job in over:
            self._purger.end(job)
            self._say_over(job)
        return bool(over)

    def _tidy(self) -> bool:
        """Find directories of the trash that an earlier run left empty."""
        if self._leftovers is None:
            return False
        if next(self._leftovers, self._leftovers) is self._leftovers:
            self._leftovers = None
            self._purger.sweep()
        return True

    def _look_if_due(self) -> bool:
        if self._trash.retention.needs_replan and self._trash.steady.is_settled:
            self._trash.retention.replan_step()
            return True
        now = self._monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_EVERY_S
        with suppress(StoreError):  # another time, then
            self._purger.record_failures()
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_EVERY_S
            self._purger.sweep()
        is_busy = bool(self._expiry.look())
        if self._expiry.clean_history():
            self._next_look = now
            is_busy = True
        return is_busy

    async def _wait(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._asked.wait()
        self._asked = trio.Event()

    def _say(self, error: StoreError) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("purging waits", error=str(error))

    def _say_over(self, job: Job) -> None:
        log.info(
            "purged", job=job.number, why=job.cause, entries=job.done, failed=job.failed,
            in_use=job.skipped,
        )  # fmt: skip
        self._over[job.number] = job
        if len(self._over) > _OVER_KEPT:
            self._over.popitem(last=False)
        self.tell_over(job)

    def job_record(self, number: int) -> dict[str, Any]:
        """How far a job is; one of long ago is over, and that is all that is known of it."""
        active = self._purger.find(number)
        known = active or self._over.get(number)
        if known is None:
            return {"job": number, "is_over": True}
        return {
            "job": number,
            "is_over": active is None,
            "why": known.cause,
            "ongoing": known.ongoing,
            "done": known.done,
            "failed": known.failed,
            "in_use": known.skipped,
        }

    def record(self) -> dict[str, Any]:
        """Where the purges stand, for status."""
        jobs = self._purger.jobs()
        running = jobs[:PURGES_AT_ONCE]
        return {
            "purges_running": len(running),
            "purges_queued": len(jobs) - len(running),
            "purge_trouble": self._trouble,
        }
