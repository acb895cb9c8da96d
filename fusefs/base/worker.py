"""A thread that computes beside the loop, one thing after the other.

For what takes some 100 us and lets go of Python's lock meanwhile, so that it runs on another core:
to hand over a job and to fetch its result costs some 10 us, where trio's threads and the standard
library's futures take several times that. Whoever wants the result waits for it where it stands.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

_Result = TypeVar("_Result")


class Job(Generic[_Result]):
    """A call that is made, or will be soon."""

    __slots__ = ("_call", "_error", "_is_running", "_result")

    def __init__(self, call: Callable[[], _Result]) -> None:
        self._call: Callable[[], _Result] | None = call
        self._result: _Result
        self._error: BaseException | None = None
        self._is_running = threading.Lock()
        self._is_running.acquire()

    def run(self) -> None:
        """Make the call; by the worker."""
        assert self._call is not None
        try:
            self._result = self._call()
        except BaseException as error:  # whoever waits for it gets it
            self._error = error
        self._call = None
        self._is_running.release()

    @property
    def is_done(self) -> bool:
        return not self._is_running.locked()

    def wait(self) -> None:
        """Until it is done, however it ended."""
        with self._is_running:
            pass

    def result(self) -> _Result:
        """Wait for what the call returns; raises what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._result


class Worker:
    """Has a thread from the first job on, as long as it lives itself."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[Job[object] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, call: Callable[[], _Result]) -> Job[_Result]:
        """Have `call` made after those submitted before."""
        if self._thread is None:
            # Not of `self`: nobody would ever end it then.
            self._thread = threading.Thread(
                target=_work, args=(self._jobs,), name=self._name, daemon=True
            )
            self._thread.start()
        job = Job(call)
        self._jobs.put(job)  # type: ignore[arg-type]  # it is not asked for its result here
        return job

    def __del__(self) -> None:
        self._jobs.put(None)


def _work(jobs: "SimpleQueue[Job[object] | None]") -> None:
    while (job := jobs.get()) is not None:
        job.run()
        del job  # or what it holds would stay until the next
