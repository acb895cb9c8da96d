"""Several objects on their way at one time: in order, bounded, and none forgotten."""

import threading
from collections.abc import Iterator

import pytest

from fusefs.store.format import SEGMENT_SIZE
from fusefs.sync import lanes
from fusefs.sync.lanes import AT_ONCE, Job


class Line:
    """A remote whose puts wait until they are let go; what is in memory is counted."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.threads: dict[str, threading.Thread] = {}
        self.made = 0
        self.ended = 0
        self.most = 0
        self._under_way: dict[str, int] = {}
        self.largest = self.largest_of_several = 0
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
            self._under_way[name] = len(content)
            size = sum(self._under_way.values())
            self.largest = max(self.largest, size)
            if len(self._under_way) > 1:
                self.largest_of_several = max(self.largest_of_several, size)
            self.threads[name] = threading.current_thread()
            self._lock.notify_all()
            assert self._lock.wait_for(lambda: self._is_open or name in self._free, 120)
            self.ended += 1
            del self._under_way[name]
        if name in self.failing:
            raise OSError(name)
        return True

    def until_begun(self, count: int) -> None:
        with self._lock:
            assert self._lock.wait_for(lambda: len(self.begun) >= count, 120)

    def release(self, *names: str) -> None:
        with self._lock:
            self._free.update(names)
            self._is_open = not names
            self._lock.notify_all()


class Sending(threading.Thread):
    """One call of `lanes.send`."""

    def __init__(self, line: Line, jobs: Iterator[Job[int]]) -> None:
        super().__init__(daemon=True)
        self._line, self._jobs = line, jobs
        self.done: list[tuple[int, int]] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            lanes.send(self._line.put, self._jobs, lambda key, size: self.done.append((key, size)))
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        self.join(120)
        assert not self.is_alive()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.release()


def test_some_are_under_way_at_once_begun_in_their_order(line: Line) -> None:
    sending = Sending(line, line.jobs(20))
    line.until_begun(AT_ONCE)
    assert sorted(line.begun) == [f"o{n}" for n in range(AT_ONCE)]
    line.release("o2")
    line.until_begun(AT_ONCE + 1)
    assert line.begun[AT_ONCE:] == [f"o{AT_ONCE}"]
    line.release()
    sending.end()
    assert sending.error is None
    assert sorted(sending.done) == [(n, n) for n in range(20)]
    assert line.most <= AT_ONCE + 1


def test_together_they_are_no_more_than_a_segment(line: Line) -> None:
    """That is then what the loss of a connection costs; one that is larger goes alone."""
    half = SEGMENT_SIZE // 2
    sizes = [half, half, 1, SEGMENT_SIZE + 1, SEGMENT_SIZE]
    sending = Sending(line, iter([Job(n, f"o{n}", bytes(size)) for n, size in enumerate(sizes)]))
    line.until_begun(2)
    line.release("o0")
    line.until_begun(3)
    line.release("o1", "o2")
    line.until_begun(4)
    line.release("o3")
    line.until_begun(5)
    line.release()
    sending.end()
    assert sorted(key for key, _ in sending.done) == [0, 1, 2, 3, 4]
    assert line.largest == SEGMENT_SIZE + 1
    assert line.largest_of_several == SEGMENT_SIZE


def test_after_a_failure_none_is_begun_and_what_is_there_is_told(line: Line) -> None:
    line.failing = {"o1"}
    sending = Sending(line, line.jobs(20))
    line.until_begun(AT_ONCE)
    line.release("o1")
    line.threads["o1"].join(120)  # its end is told before the others'
    line.release("o0", "o2", "o3")
    sending.end()
    assert isinstance(sending.error, OSError)
    assert sorted(key for key, _ in sending.done) == [0, 2, 3]
    assert len(line.begun) == AT_ONCE
