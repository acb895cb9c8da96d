"""Unit tests of fusefs.cli.status."""

import os
import random
import signal

import pytest

from fusefs.cli.status import _ticks


def _interrupted_at_some_time(chance: random.Random) -> None:
    for n, _ in enumerate(_ticks(0.0)):
        if not n:
            signal.setitimer(signal.ITIMER_REAL, 0.0001 + chance.random() * 0.0003)


@pytest.mark.timeout(300, method="thread")  # the other one needs the signal that is used here
def test_ctrl_c_ends_the_ticks_wherever_it_falls() -> None:
    """A handler that took a lock which the waiting takes too hung there, seldom."""
    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    chance = random.Random(1)
    try:
        for _ in range(3000):
            with pytest.raises(KeyboardInterrupt):
                _interrupted_at_some_time(chance)
    finally:
        signal.signal(signal.SIGALRM, before)
