"""Clocks that do not pass by themselves, so that no test depends on how fast it runs."""

import math
from collections.abc import Awaitable, Callable

import trio
import trio.abc
import trio.lowlevel
import trio.testing
import trio.to_thread


class ManualClock:
    """All clocks of a machine; satisfies base.clock.Clock.

    `advance` lets time pass, `jump` sets the wall clock alone, `reboot` begins another run of the
    machine.
    """

    def __init__(self, now_ns: int = 1_800_000_000 * 10**9) -> None:
        self.now_ns = now_ns
        self.passed_ns = 10**6 * 10**9
        self.booted_ns = 0
        self.boots = 0

    def time_ns(self) -> int:
        return self.now_ns

    def monotonic(self) -> float:
        return self.passed_ns / 1e9

    def uptime_ns(self) -> int:
        return self.passed_ns - self.booted_ns

    def boot_id(self) -> str:
        return f"boot {self.boots}"

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)
        self.passed_ns += int(seconds * 1e9)

    def jump(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)

    def reboot(self) -> None:
        self.boots += 1
        self.booted_ns = self.passed_ns


class _Patience(trio.abc.Instrument):
    """Has a clock stand still while a thread is at work."""

    def __init__(self, clock: trio.testing.MockClock) -> None:
        self._clock = clock

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        is_busy = trio.to_thread.current_default_thread_limiter().borrowed_tokens
        self._clock.autojump_threshold = math.inf if is_busy else 0.0


def run_patiently(main: Callable[[], Awaitable[object]]) -> None:
    """Run it by a clock that jumps to the next deadline as soon as nothing is left to do; what
    threads do takes no time, however long they are at it."""
    clock = trio.testing.MockClock(autojump_threshold=0.0)
    trio.run(main, clock=clock, instruments=[_Patience(clock)])
