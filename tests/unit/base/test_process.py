"""A process that is being killed is told from one that ends by itself, while it ends."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fusefs.base.process import Deaths, leader_of, name_of, signal_name


def ended(number: int | None) -> int:
    """A child that has ended by a signal or by itself, and that nobody has waited for yet."""
    child = os.fork()
    if child == 0:
        if number is not None:
            if number != signal.SIGKILL:
                signal.signal(number, signal.SIG_DFL)  # whatever the test run was started with
            os.kill(os.getpid(), number)
        os._exit(3)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    return child


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGQUIT, None])
def test_how_it_ends(number: int | None) -> None:
    child = ended(number)
    try:
        deaths = Deaths()
        assert deaths.killed_by(child) == (number or 0)
        assert deaths.killed_by(os.getpid()) == 0
        assert deaths.killed_by(child) == (number or 0)
    finally:
        os.waitpid(child, 0)
    assert deaths.killed_by(child) == 0, "gone"
    assert deaths.killed_by(child) == 0
    assert deaths.killed_by(os.getpid()) == 0


def test_names_of_signals() -> None:
    assert [signal_name(number) for number in (9, 15, 40)] == ["SIGKILL", "SIGTERM", "signal 40"]


def test_names() -> None:
    assert name_of(os.getpid())
    assert name_of(0) == b""


def test_a_thread_leads_to_its_process() -> None:
    with ThreadPoolExecutor(1) as pool:
        thread = pool.submit(threading.get_native_id).result()
        assert thread != os.getpid() == leader_of(thread) == leader_of(os.getpid())
    assert leader_of(2**22 + 1) == 2**22 + 1  # there is none
