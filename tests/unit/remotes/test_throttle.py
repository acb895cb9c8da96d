"""Bytes a second, by the time of day."""

import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from fusefs.errors import BadRemote, RemoteUnreachable
from fusefs.remotes.local_files import LocalFiles
from fusefs.remotes.memory import MemoryRemote
from fusefs.remotes.throttle import Bucket, Limits, Throttled, Timetable, buckets
from fusefs.remotes.throttled_files import ThrottledFiles
from tests.unit.clocks import ManualClock

K, M = 1 << 10, 1 << 20


@pytest.mark.parametrize(
    ("text", "minute", "limits"),
    [
        ("", 0, (0, 0)),
        ("2M", 700, (2 * M, 2 * M)),
        ("1M:off", 0, (M, 0)),
        ("off:500k", 0, (0, 500 * K)),
        ("08:00-18:00=500k,4M", 8 * 60 - 1, (4 * M, 4 * M)),
        ("08:00-18:00=500k,4M", 8 * 60, (500 * K, 500 * K)),
        ("08:00-18:00=500k,4M", 18 * 60, (4 * M, 4 * M)),
        ("22:00-06:00=off,1M", 23 * 60, (0, 0)),
        ("22:00-06:00=off,1M", 6 * 60, (M, M)),
        ("08:00-18:00=500K:2M", 9 * 60, (500 * K, 2 * M)),
        ("08:00-18:00=500K:2M", 7 * 60, (0, 0)),
        ("00:00-24:00=1M,2M", 1439, (M, M)),
    ],
)
def test_the_first_part_that_fits_holds(text: str, minute: int, limits: tuple[int, int]) -> None:
    assert Timetable.parse(text).at(minute) == limits


@pytest.mark.parametrize(
    "text", ["fast", "0", "-1M", "8-18=1M", "25:00-26:00=1M", "08:61-09:00=1M", "1M,,2M", "1:2:3"]
)
def test_a_limit_that_makes_no_sense_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(BadRemote, match=r"limit: .*(M|day)"):
        Timetable.parse(text)


class Slow:
    """A throttled remote in memory, and the time that its calls take."""

    def __init__(self, name: str, limit: str) -> None:
        self.clock = ManualClock()
        self.is_over = False
        up, down = buckets(Timetable.parse(limit), self.clock, self._wait)
        self.remote = Throttled(MemoryRemote(f"memory://throttle-{name}"), up, down)

    def _wait(self, seconds: float) -> bool:
        self.clock.advance(seconds)
        return self.is_over


def test_on_average_no_more_than_the_limit_goes_up() -> None:
    slow = Slow("up", "1M:off")
    began = slow.clock.monotonic()
    for number in range(10):
        slow.remote.put(f"o/{number}", bytes(M))
    took = slow.clock.monotonic() - began
    assert 9 <= took <= 10


def test_directions_do_not_wait_for_each_other() -> None:
    slow = Slow("both", "1M:off")
    slow.remote.put("o", bytes(100 * M >> 4))
    began = slow.clock.monotonic()
    for _ in range(100):
        slow.remote.get("o")
    assert slow.clock.monotonic() == began


def test_a_get_pays_for_what_it_got() -> None:
    slow = Slow("down", "off:1M")
    slow.remote.put("o", bytes(3 * M))
    began = slow.clock.monotonic()
    assert len(slow.remote.get("o")) == 3 * M
    # Asked for much, got little: only that counts.
    slow.remote.get("o", 3 * M - 10, 50 * M)
    slow.remote.get("o", 0, 1)
    assert 2.9 <= slow.clock.monotonic() - began <= 3.1


def test_a_pause_saves_up_no_more_than_a_second() -> None:
    slow = Slow("burst", "1M")
    slow.clock.advance(3600)
    began = slow.clock.monotonic()
    for number in range(6):
        slow.remote.put(f"o/{number}", bytes(M))
    assert slow.clock.monotonic() - began >= 4


def test_stopping_ends_the_wait() -> None:
    slow = Slow("stop", "1K")
    slow.remote.put("a", bytes(M))
    slow.is_over = True
    with pytest.raises(RemoteUnreachable, match="stopped"):
        slow.remote.put("b", b"x")
    assert slow.remote.sizes(["b"]) == {}


def test_a_limit_that_ends_in_the_middle_of_a_wait_ends_the_wait() -> None:
    clock = ManualClock()
    rates = [1]

    def wait(seconds: float) -> bool:
        clock.advance(seconds)
        rates[0] = 0
        return False

    bucket = Bucket(clock, lambda: rates[0], wait)
    assert bucket.take(10_000)
    began = clock.monotonic()
    assert bucket.take(1)
    assert clock.monotonic() - began <= 1


def test_the_time_is_that_of_this_place() -> None:
    clock = ManualClock()
    now = time.localtime(clock.time_ns() / 1e9)
    clock.advance(-(now.tm_hour * 3600 + now.tm_min * 60 + now.tm_sec) + 9 * 3600)
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        clock.advance(seconds)
        return False

    up, _ = buckets(Timetable.parse("08:00-10:00=1M,off"), clock, wait)
    up.take(2 * M)
    up.take(1)
    assert waits
    clock.advance(2 * 3600)
    waits.clear()
    up.take(100 * M)
    up.take(1)
    assert not waits


def test_files_and_objects_pay_from_the_same_buckets(tmp_path: Path) -> None:
    clock = ManualClock()
    signs: list[float] = []

    def wait(seconds: float) -> bool:
        clock.advance(seconds)
        return False

    limits = Limits(clock, wait)
    remote = Throttled(
        MemoryRemote("memory://throttle-shared"), *limits.buckets("memory://shared", "1M")
    )
    files = ThrottledFiles(
        LocalFiles(bytes(tmp_path)), *limits.buckets("memory://shared", "1M"),
        lambda: signs.append(clock.monotonic()),
    )  # fmt: skip
    began = clock.monotonic()
    for number in range(4):
        remote.put(f"o/{number}", bytes(M))
        files.write_whole(b"whole/%d" % number, [bytes(M // 2)] * 2)
        with closing(files.writer(b"part/%d" % number, 0)) as writer:
            writer.write(bytes(M))
        files.patch(b"part/%d" % number, 0, bytes(M))
    up_s = clock.monotonic() - began
    assert 15 <= up_s <= 16
    for number in range(4):
        assert len(remote.get(f"o/{number}")) == M
        with closing(files.reader(b"part/%d" % number)) as reader:
            assert len(reader.read(0, M)) == M
    assert 6 <= clock.monotonic() - began - up_s <= 8
    gaps = [after - before for before, after in pairwise(signs)]
    assert max(gaps) <= 3, "who waits gives signs of life"


def test_other_places_and_other_limits_have_buckets_of_their_own() -> None:
    limits = Limits(ManualClock())
    assert limits.buckets("file:///a", "1M") is limits.buckets("file:///a", "1M")
    assert limits.buckets("file:///a", "1M") is not limits.buckets("file:///a", "2M")
    assert limits.buckets("file:///a", "1M") is not limits.buckets("file:///b", "1M")


def test_a_wait_for_ones_turn_can_be_ended(tmp_path: Path) -> None:
    class Withdrawn(Exception):
        pass

    def end() -> None:
        raise Withdrawn

    limits = Limits(ManualClock())
    files = ThrottledFiles(LocalFiles(bytes(tmp_path)), *limits.buckets("file:///a", "1"), end)
    files.write_whole(b"first", [bytes(M)])
    with pytest.raises(Withdrawn):
        files.write_whole(b"second", [bytes(M)])
