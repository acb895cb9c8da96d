"""The time, passed in rather than fetched, so that tests can own it."""

import time
from typing import Protocol


def utc(time_ns: int) -> str:
    """Wall time as JSON has it: 2026-11-21T09:08:07.123456Z."""
    seconds, fraction = divmod(time_ns, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction // 1000:06d}Z"


class Clock(Protocol):
    """What the rooms may ask about time."""

    def time_ns(self) -> int:
        """Wall time in nanoseconds since 1970, for timestamps that users see."""

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps, for ages and intervals."""


class SystemClock:
    """The machine's own clocks."""

    time_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)
