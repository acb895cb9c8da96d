"""A failpoint fails exactly when its plan says, and shows that it was reached."""

import errno
import os
import signal
from collections.abc import Iterator

import pytest

from fusefs.base import failpoints


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


def test_without_a_plan_nothing_is_counted() -> None:
    failpoints.arm("")
    failpoints.hit("a")
    assert failpoints.hits() == {}


def test_the_planned_time_fails_and_the_others_pass() -> None:
    failpoints.arm("a=2:ENOSPC,b=1:EIO")
    failpoints.hit("a")
    with pytest.raises(OSError, match="failpoint a") as caught:
        failpoints.hit("a")
    assert caught.value.errno == errno.ENOSPC
    failpoints.hit("a")
    failpoints.hit("c")
    assert failpoints.hits() == {"a": 3, "c": 1}


def test_who_is_stopped_goes_on_when_told() -> None:
    failpoints.arm("a=1:stop")
    child = os.fork()
    if child == 0:
        failpoints.hit("a")
        os._exit(7)
    _, status = os.waitpid(child, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.kill(child, signal.SIGCONT)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_disarmed_nothing_fails() -> None:
    failpoints.arm("a=1:EIO")
    failpoints.disarm()
    failpoints.hit("a")


@pytest.mark.parametrize("plan", ["a", "a=1", "a=x:kill", "a=1:EWHAT", "a=:EIO", "=1:oops"])
def test_a_plan_that_does_not_parse_is_refused(plan: str) -> None:
    with pytest.raises(ValueError, match="expected NAME=COUNT"):
        failpoints.arm(plan)
