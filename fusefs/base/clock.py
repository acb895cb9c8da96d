"""The time, passed in rather than fetched, so that tests can own it."""

import os
import time
from functools import cache
from pathlib import Path
from typing import Protocol


def utc(time_ns: int) -> str:
    """Wall time as JSON has it: 2026-11-21T09:08:07.123456Z."""
    seconds, fraction = divmod(time_ns, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction // 1000:06d}Z"


@cache
def _uptime_file() -> int:
    """Kept open, because it is read for every removal."""
    return os.open("/proc/uptime", os.O_RDONLY | os.O_CLOEXEC)


class Clock(Protocol):
    """What the rooms may ask about time."""

    def time_ns(self) -> int:
        """Wall time in nanoseconds since 1970, for timestamps that users see. It may jump."""

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps, for ages and intervals."""

    def uptime_ns(self) -> int:
        """Nanoseconds since the machine was started, sleep included; whoever sets the wall clock
        cannot change it."""

    def boot_id(self) -> str:
        """A name for this run of the machine: uptimes of different runs say nothing together."""


class SystemClock:
    """The machine's own clocks."""

    time_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def uptime_ns() -> int:
        # Not CLOCK_BOOTTIME: programs that pretend another date (faketime) change what it says.
        seconds, _, rest = os.pread(_uptime_file(), 32, 0).partition(b".")
        return int(seconds) * 10**9 + int(rest[:2]) * 10**7

    @staticmethod
    def boot_id() -> str:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
