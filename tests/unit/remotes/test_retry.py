"""What failed for now is tried again, while the remote moves."""

import pytest

from fusefs.errors import RemoteDenied, RemoteUnreachable
from fusefs.remotes.fault import Fault, Faulty, Kind
from fusefs.remotes.memory import MemoryRemote
from fusefs.remotes.retry import Policy, Retrying
from tests.unit.clocks import ManualClock


class Waiting:
    """Lets a manual clock advance instead of waiting; `stops_after` so many waits."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.delays: list[float] = []
        self.stops_after = 1000

    def __call__(self, seconds: float) -> bool:
        self.delays.append(seconds)
        self.clock.advance(seconds)
        return len(self.delays) >= self.stops_after


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def wait(clock: ManualClock) -> Waiting:
    return Waiting(clock)


def _remote(place: str, *plan: Fault) -> Faulty:
    remote = MemoryRemote(f"memory://{place}")
    for found in list(remote.list("")):
        remote.delete(found.name)
    return Faulty(remote, plan)


def test_four_failures_are_borne_with_doubling_delays(clock: ManualClock, wait: Waiting) -> None:
    faulty = _remote("four", Fault("put", Kind.BEFORE, count=4))
    told: list[tuple[str, int]] = []
    remote = Retrying(
        faulty, clock, wait=wait, tried=lambda what, attempt, error: told.append((what, attempt))
    )
    assert remote.put("a", b"x")
    assert faulty.hits == [4]
    assert wait.delays == [0.5, 1, 2, 4]
    assert told == [("put", 1), ("put", 2), ("put", 3), ("put", 4)]


def test_the_fifth_failure_is_told(clock: ManualClock, wait: Waiting) -> None:
    faulty = _remote("five", Fault("get", Kind.BEFORE, count=0))
    with pytest.raises(RemoteUnreachable):
        Retrying(faulty, clock, wait=wait).get("a")
    assert faulty.hits == [5]


def test_nothing_but_unreachable_is_tried_again(clock: ManualClock, wait: Waiting) -> None:
    faulty = _remote("denied", Fault("sizes", Kind.BEFORE, count=0, error=RemoteDenied))
    with pytest.raises(RemoteDenied):
        Retrying(faulty, clock, wait=wait).sizes(["a"])
    assert faulty.hits == [1]


def test_a_put_whose_answer_was_lost_stored_the_object_once(
    clock: ManualClock, wait: Waiting
) -> None:
    faulty = _remote("lost", Fault("put", Kind.AFTER))
    remote = Retrying(faulty, clock, wait=wait)
    assert not remote.put("a", b"x")
    assert remote.get("a") == b"x"
    assert faulty.hits == [1]


def test_an_offline_remote_is_not_asked_five_times_by_everybody(
    clock: ManualClock, wait: Waiting
) -> None:
    faulty = _remote("offline", Fault("get", Kind.BEFORE, count=0))
    remote = Retrying(faulty, clock, policy=Policy(stall_s=60), wait=wait)
    clock.advance(61)
    with pytest.raises(RemoteUnreachable):
        remote.get("a")
    assert faulty.hits == [1]
    # One call that succeeds, and the remote moves again.
    remote.put("b", b"x")
    with pytest.raises(RemoteUnreachable):
        remote.get("a")
    assert faulty.hits == [6]


def test_stopping_ends_the_wait(clock: ManualClock, wait: Waiting) -> None:
    faulty = _remote("stop", Fault("delete", Kind.BEFORE, count=0))
    wait.stops_after = 2
    with pytest.raises(RemoteUnreachable):
        Retrying(faulty, clock, wait=wait).delete("a")
    assert faulty.hits == [2]


def test_a_listing_that_breaks_off_goes_on_without_repeating(
    clock: ManualClock, wait: Waiting
) -> None:
    faulty = _remote("list", Fault("list", Kind.AFTER, count=3))
    for number in range(10):
        faulty.put(f"p/{number}", b"")
    names = [found.name for found in Retrying(faulty, clock, wait=wait).list("p/")]
    assert sorted(names) == [f"p/{number}" for number in range(10)]
    assert faulty.hits == [3]


def test_a_listing_that_does_not_move_ends(clock: ManualClock, wait: Waiting) -> None:
    faulty = _remote("list-no", Fault("list", Kind.BEFORE, count=0))
    with pytest.raises(RemoteUnreachable):
        list(Retrying(faulty, clock, wait=wait).list(""))
    assert faulty.hits == [5]
