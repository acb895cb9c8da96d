"""Several objects on their way at one time: in order, bounded, and none forgotten."""

import threading
from collections.abc import Callable, Iterator

import pytest

from fusefs.sync.lanes import AT_ONCE, Job, Lanes


class Line:
    """A remote whose puts wait until they are let go; what is in memory is counted."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.threads: dict[str, threading.Thread] = {}
        self.made = 0
        self.ended = 0
        self.most = 0
        self._lock = threading.Condition()
        self._free: set[str] = set()
        self._is_open = False
        self.failing: set[str] = set()

    def jobs(self, count: int) -> Iterator[Job[int]]:
        for number in range(count):
            with self._lock:
                self.made += 1
                self.most = max(self.most, self.made - self.ended)
            yield Job(number, f"o{number}", b"x" * number)

    def put(self, name: str, content: bytes) -> bool:
        with self._lock:
            self.begun.append(name)
            self.threads[name] = threading.current_thread()
            self._lock.notify_all()
            assert self._lock.wait_for(lambda: self._is_open or name in self._free, 20)
            self.ended += 1
        if name in self.failing:
            raise OSError(name)
        return True

    def until_begun(self, count: int) -> None:
        with self._lock:
            assert self._lock.wait_for(lambda: len(self.begun) >= count, 20)

    def release(self, *names: str) -> None:
        with self._lock:
            self._free.update(names)
            self._is_open = not names
            self._lock.notify_all()


class Sending(threading.Thread):
    """One call of `Lanes.send`."""

    def __init__(
        self,
        lanes: Lanes,
        jobs: Iterator[Job[int]],
        tell: Callable[[int, int], None] = lambda key, size: None,
    ) -> None:
        super().__init__(daemon=True)
        self._call = lanes, jobs
        self._tell = tell
        self.done: list[tuple[int, int]] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        lanes, jobs = self._call
        try:
            lanes.send(jobs, self._done)
        except BaseException as error:
            self.error = error

    def _done(self, key: int, size: int) -> None:
        self._tell(key, size)
        self.done.append((key, size))

    def end(self) -> None:
        self.join(20)
        assert not self.is_alive()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.release()


def test_some_are_under_way_at_once_begun_in_their_order(line: Line) -> None:
    sending = Sending(Lanes(line.put, threading.Semaphore(100)), line.jobs(20))
    line.until_begun(AT_ONCE)
    assert sorted(line.begun) == [f"o{n}" for n in range(AT_ONCE)]
    line.release("o2")
    line.until_begun(AT_ONCE + 1)
    assert line.begun[AT_ONCE:] == [f"o{AT_ONCE}"]
    line.release()
    sending.end()
    assert sending.error is None
    assert sorted(sending.done) == [(n, n) for n in range(20)]
    assert line.most <= AT_ONCE


def test_a_remote_has_a_lane_though_others_have_the_whole_pool(line: Line) -> None:
    pool = threading.Semaphore(AT_ONCE - 1)
    first = Sending(Lanes(line.put, pool), line.jobs(10))
    line.until_begun(AT_ONCE)
    other = Line()
    second = Sending(Lanes(other.put, pool), other.jobs(5))
    for number in range(5):
        other.until_begun(number + 1)
        assert other.begun == [f"o{n}" for n in range(number + 1)]
        other.release(f"o{number}")
    second.end()
    assert (second.error, other.most) == (None, 1)
    line.release()
    first.end()
    assert len(first.done) == 10
    assert [pool.acquire(blocking=False) for _ in range(AT_ONCE)] == [True] * 3 + [False]


def test_after_a_failure_none_is_begun_and_what_is_there_is_told(line: Line) -> None:
    pool = threading.Semaphore(100)
    line.failing = {"o1"}
    sending = Sending(Lanes(line.put, pool), line.jobs(20))
    line.until_begun(AT_ONCE)
    line.release("o1")
    line.threads["o1"].join(20)  # its end is told before the others'
    line.release("o0", "o2", "o3")
    sending.end()
    assert isinstance(sending.error, OSError)
    assert sorted(key for key, _ in sending.done) == [0, 2, 3]
    assert len(line.begun) == AT_ONCE


def test_one_that_an_earlier_call_left_behind_is_waited_for(line: Line) -> None:
    pool = threading.Semaphore(1)
    lanes = Lanes(line.put, pool)

    def give_up(key: int, size: int) -> None:
        raise KeyError(key)

    first = Sending(lanes, line.jobs(2), give_up)
    line.until_begun(2)
    line.release("o1")
    first.end()
    assert isinstance(first.error, KeyError)
    assert pool.acquire(blocking=False)
    second = Sending(lanes, line.jobs(2))
    line.release()
    second.end()
    assert [key for key, _ in second.done] == [0, 1]
