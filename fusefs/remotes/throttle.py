"""A remote that moves at most so many bytes a second, by a timetable.

A limit is written as people say it, units being powers of 1024::

    2M                          up and down alike
    1M:off                      up 1 MiB/s, down as fast as it goes
    08:00-18:00=500K,4M         500 KiB/s in working hours, 4 MiB/s otherwise
    22:00-06:00=off,08:00-18:00=500K:2M,4M

The first part that fits the local time holds; where none fits there is no limit. What was moved is
paid for afterwards, by whoever comes next in that direction: a small call after a pause goes at
once, and an object goes in one piece, at the speed of the line; the limit holds on average.

It holds for all that one process moves: objects, and files of transfers (`throttled_files`), pay
from the same buckets, which `Limits` hands out.
"""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from fusefs.base.clock import Clock
from fusefs.base.units import parse_size
from fusefs.errors import BadRemote, RemoteUnreachable
from fusefs.remotes.api import Buffer, Remote
from fusefs.remotes.around import Around
from fusefs.remotes.retry import Wait

_DAY = 24 * 60
#: How much may go at once after a pause, in seconds of the limit.
_BURST_S = 1.0
#: A wait is cut into pieces, so that a limit that changes with the time of day is noticed.
_PIECE_S = 1.0
#: Shorter waits may not move the clock at all.
_LEAST_S = 0.001
_PART = re.compile(r"(?:(\d\d):(\d\d)-(\d\d):(\d\d)=)?([^:=]+)(?::([^:=]+))?")


@dataclass(frozen=True)
class Part:
    """A limit between two minutes of the day; past midnight if `end` is not after `begin`.

    `up`, `down`: bytes a second, 0 for no limit.
    """

    begin: int
    end: int
    up: int
    down: int

    def holds(self, minute: int) -> bool:
        if self.begin < self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end


@dataclass(frozen=True)
class Timetable:
    """Limits by time of day."""

    parts: tuple[Part, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Timetable":
        """What `text` says; empty for no limit. Raises BadRemote."""
        return cls(tuple(map(_part, text.split(","))) if text.strip() else ())

    def at(self, minute: int) -> tuple[int, int]:
        """Bytes a second up and down at a minute of the day, 0 for no limit."""
        for part in self.parts:
            if part.holds(minute):
                return part.up, part.down
        return 0, 0


def _part(text: str) -> Part:
    found = _PART.fullmatch(text.strip())
    if not found:
        raise BadRemote(f"limit: {text!r} is none: write 2M, 1M:off or 08:00-18:00=500K,4M")
    begin = end = 0
    if found[1]:
        hours, minutes = (int(found[1]), int(found[3])), (int(found[2]), int(found[4]))
        if max(hours) > 24 or max(minutes) > 59:
            raise BadRemote(f"limit: {text!r} has a time that no day has")
        begin, end = (hour * 60 + minute for hour, minute in zip(hours, minutes, strict=True))
    up = _rate(found[5])
    return Part(begin % _DAY, end, up, _rate(found[6]) if found[6] else up)


def _rate(text: str) -> int:
    if text.strip() == "off":
        return 0
    try:
        rate = parse_size(text)
    except ValueError:
        rate = 0
    if not rate:
        raise BadRemote(f"limit: {text!r} is no rate: write it like 500K or 2M, or off")
    return rate


def local_minute(clock: Clock) -> int:
    """The minute of the day where this machine is."""
    now = time.localtime(clock.time_ns() / 10**9)
    return now.tm_hour * 60 + now.tm_min


class Bucket:
    """A token bucket that may be overdrawn: `rate` refills it; nobody goes while it is empty."""

    def __init__(self, clock: Clock, rate: Callable[[], int], wait: Wait) -> None:
        """`rate`: bytes a second just now, 0 for no limit."""
        self._clock = clock
        self._rate = rate
        self._wait = wait
        self._lock = threading.Lock()
        self._tokens = 0.0
        self._filled_s = clock.monotonic()

    def take(self, size: int, waiting: Callable[[], None] | None = None) -> bool:
        """Take so many bytes once it is not empty; False if everything stops before.

        `waiting` is called again and again meanwhile, and may raise to end it.
        """
        while (lack_s := self._try(size)) is not None:
            if waiting:
                waiting()
            if self._wait(min(max(lack_s, _LEAST_S), _PIECE_S)):
                return False
        return True

    def pay(self, size: int) -> None:
        """Take bytes that were moved already."""
        with self._lock:
            self._tokens -= size

    def _try(self, size: int) -> float | None:
        """Take bytes if it is not empty; the seconds until then if it is."""
        with self._lock:
            now, rate = self._clock.monotonic(), self._rate()
            if not rate:
                self._tokens, self._filled_s = 0.0, now
                return None
            filled = self._tokens + (now - self._filled_s) * rate
            self._tokens, self._filled_s = min(filled, rate * _BURST_S), now
            if self._tokens < 0:
                return -self._tokens / rate
            self._tokens -= size
            return None


class Throttled(Around):
    """Keeps the traffic with `remote` below the limits of two buckets, which others may share.

    It belongs inside of what tries again: each try moves bytes. Raises RemoteUnreachable when
    everything stops while it waits.
    """

    def __init__(self, remote: Remote, up: Bucket, down: Bucket) -> None:
        super().__init__(remote)
        self._up, self._down = up, down

    def put(self, name: str, content: Buffer) -> bool:
        self._take(self._up, memoryview(content).nbytes)
        return self.remote.put(name, content)

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        self._take(self._down, size or 0)
        got = self.remote.get(name, start, size)
        self._down.pay(len(got) - (size or 0))
        return got

    def _take(self, bucket: Bucket, size: int) -> None:
        if not bucket.take(size):
            raise RemoteUnreachable(f"{self.place}: stopped while waiting for the bandwidth limit")


def buckets(timetable: Timetable, clock: Clock, wait: Wait | None = None) -> tuple[Bucket, Bucket]:
    """Up and down, by a timetable and the local time."""
    wait = wait or threading.Event().wait
    return (
        Bucket(clock, lambda: timetable.at(local_minute(clock))[0], wait),
        Bucket(clock, lambda: timetable.at(local_minute(clock))[1], wait),
    )


class Limits:
    """The buckets of one process: whoever goes to one place by one limit has the same."""

    def __init__(self, clock: Clock, wait: Wait | None = None) -> None:
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], tuple[Bucket, Bucket]] = {}

    def buckets(self, place: str, limit: str) -> tuple[Bucket, Bucket]:
        """Up and down, for a place and its limit. Raises BadRemote."""
        with self._lock:
            if (found := self._buckets.get((place, limit))) is None:
                found = buckets(Timetable.parse(limit), self._clock, self._wait)
                self._buckets[place, limit] = found
            return found
