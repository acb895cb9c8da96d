"""Several objects under way to a remote at one time: a far line is idle while one is waited for.

They are begun in the order in which they come, each when there is a lane for it, so no more of them
are in memory than there are lanes. A remote has one lane of its own, so that none waits for
another's, and more out of a pool that all remotes of a process share.

The lanes are threads that nobody waits for at the end of the process, as a network may hang.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Generic, NamedTuple, TypeVar

#: Objects under way to one remote.
AT_ONCE = 4
#: Lanes in the pool: with one for each remote, so many objects may be in memory.
POOL = 6

_Key = TypeVar("_Key")


class Job(NamedTuple, Generic[_Key]):
    """An object to be sent; `key`: what the caller knows it by."""

    key: _Key
    name: str
    content: bytes


class _End(NamedTuple, Generic[_Key]):
    """What came of a job."""

    key: _Key
    size: int
    error: BaseException | None


class Lanes:
    """Those to one remote, whose objects `put` sends. `pool`: shared with others."""

    def __init__(self, put: Callable[[str, bytes], object], pool: threading.Semaphore) -> None:
        self._put = put
        self._own = threading.Semaphore(1)
        self._pool = pool

    def send(self, jobs: Iterable[Job[_Key]], done: Callable[[_Key, int], None]) -> None:
        """Send all `jobs`, taken one by one as there is a lane; `done` hears of each that is there,
        and of its bytes, in this thread.

        When one fails no more are begun; what `put` raised first is raised when nothing is under
        way any more, and `done` has heard of all that are there.
        """
        ends: SimpleQueue[_End[_Key]] = SimpleQueue()
        pending = iter(jobs)
        under_way = 0
        error: BaseException | None = None
        is_over = False
        while under_way or not is_over:
            lane = None if is_over or under_way == AT_ONCE else self._lane(wait=not under_way)
            if lane and ends.empty():
                is_over = not self._begin(pending, lane, ends)
                under_way += not is_over
                continue
            if lane:
                lane.release()
            end = ends.get()
            under_way -= 1
            if end.error is None:
                done(end.key, end.size)
            else:
                error, is_over = error or end.error, True
        if error is not None:
            raise error

    def _lane(self, *, wait: bool) -> threading.Semaphore | None:
        """A lane, taken; None where all are."""
        for lane in (self._own, self._pool):
            if lane.acquire(blocking=False):
                return lane
        if wait:  # for an object of an earlier call, which nobody waits for any more
            self._own.acquire()
            return self._own
        return None

    def _begin(
        self,
        pending: Iterator[Job[_Key]],
        lane: threading.Semaphore,
        ends: "SimpleQueue[_End[_Key]]",
    ) -> bool:
        """Send the next object by a lane; whether there was one."""
        try:
            job = next(pending, None)
        except BaseException:
            lane.release()
            raise
        if job is None:
            lane.release()
            return False
        # A daemon thread, and not one of an executor, which the interpreter's end waits for.
        threading.Thread(target=self._carry, args=(job, lane, ends), daemon=True).start()
        return True

    def _carry(
        self, job: Job[_Key], lane: threading.Semaphore, ends: "SimpleQueue[_End[_Key]]"
    ) -> None:
        error: BaseException | None = None
        try:
            self._put(job.name, job.content)
        except BaseException as raised:  # whoever waits for it gets it
            error = raised
        lane.release()
        ends.put(_End(job.key, len(job.content), error))
