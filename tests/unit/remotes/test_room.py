"""A remote is not filled to its last byte."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fusefs.errors import RemoteFull
from fusefs.remotes.api import Buffer
from fusefs.remotes.memory import MemoryRemote
from fusefs.remotes.room import Spared
from tests.unit.clocks import ManualClock

MARGIN = 1000


class Disk(MemoryRemote):
    """With so much room, of which others take some as well."""

    def __init__(self, place: str, room: int | None) -> None:
        super().__init__(place)
        self.room = room
        self.looks = 0
        self.reached = threading.Barrier(2)
        self.is_slow = False

    def put(self, name: str, content: Buffer) -> bool:
        if self.is_slow:
            self.reached.wait(10)
            self.reached.wait(10)
        is_new = super().put(name, content)
        if self.room is not None and is_new:
            self.room -= memoryview(content).nbytes
        return is_new

    def free_bytes(self) -> int | None:
        self.looks += 1
        return self.room


def test_the_margin_stays_free_and_room_helps_at_once(request: pytest.FixtureRequest) -> None:
    disk = Disk(f"memory://{request.node.name}", 1500)
    remote = Spared(disk, ManualClock(), MARGIN)
    assert remote.put("a", bytes(400))
    with pytest.raises(RemoteFull, match="b: no room is left"):
        remote.put("b", bytes(101))
    assert remote.put("b", bytes(100))
    assert disk.room == MARGIN
    disk.room = MARGIN + 500
    assert remote.put("c", bytes(500))
    assert set(remote.sizes(["a", "b", "c"])) == {"a", "b", "c"}


def test_it_is_asked_now_and_then(request: pytest.FixtureRequest) -> None:
    disk, clock = Disk(f"memory://{request.node.name}", 100_000), ManualClock()
    remote = Spared(disk, clock, MARGIN)
    for number in range(10):
        remote.put(f"a/{number}", bytes(10))
    assert disk.looks == 1
    disk.room = 0  # of others
    clock.advance(10)
    with pytest.raises(RemoteFull):
        remote.put("b", bytes(10))


def test_what_is_on_its_way_needs_its_room_too(request: pytest.FixtureRequest) -> None:
    disk = Disk(f"memory://{request.node.name}", MARGIN + 100)
    remote = Spared(disk, ManualClock(), MARGIN)
    disk.is_slow = True
    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(remote.put, "a", bytes(60))
        disk.reached.wait(10)
        disk.is_slow = False
        with pytest.raises(RemoteFull):
            remote.put("b", bytes(60))
        assert remote.put("c", bytes(40))
        disk.reached.wait(10)
        assert sending.result()


def test_one_that_does_not_say_is_not_asked_again(request: pytest.FixtureRequest) -> None:
    disk, clock = Disk(f"memory://{request.node.name}", None), ManualClock()
    remote = Spared(disk, clock, MARGIN)
    for number in range(3):
        assert remote.put(f"a/{number}", bytes(10))
        clock.advance(100)
    assert disk.looks == 1
