"""The time, passed in rather than fetched, so that tests can own it."""

import time
from typing import Protocol


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
