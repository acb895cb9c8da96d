"""How errors become answers: nothing but FUSEError may leave a handler."""

import errno
import inspect
from typing import Any

import pyfuse3
import pytest
import trio
from pyfuse3 import FUSEError

from fusefs.base.tally import Tally
from fusefs.errors import DiskFull, Refused, StoreDamaged, StoreLocked
from fusefs.fuse.operations import Operations, _answer


class Face:
    """What a handler belongs to."""

    def __init__(self) -> None:
        self.tally = Tally()


def answered(error: BaseException) -> None:
    async def some_request(face: Face) -> None:
        raise error

    face = Face()
    try:
        trio.run(_answer(some_request), face)
    finally:
        assert face.tally.requests == 1


@pytest.mark.parametrize(
    ("error", "number", "lines"),
    [
        (Refused(errno.ENOTEMPTY), errno.ENOTEMPTY, 0),
        (DiskFull("the disk is full"), errno.ENOSPC, 0),
        (StoreDamaged("block 7"), errno.EIO, 1),
        (StoreLocked("x"), errno.EBUSY, 1),
        (ZeroDivisionError("x"), errno.EIO, 1),
        (OSError(errno.EACCES, "x"), errno.EIO, 1),
    ],
)
def test_an_error_is_answered_by_its_number(
    error: Exception, number: int, lines: int, logged: list[Any]
) -> None:
    with pytest.raises(FUSEError) as caught:
        answered(error)
    assert caught.value.errno == number
    assert len(logged) == lines
    for line in logged:
        assert (line["event"], line["log_level"]) == ("request failed", "error")
        assert line["request"] == "some_request"


def test_what_was_foreseen_is_logged_in_a_line_and_the_rest_with_a_traceback(
    logged: list[Any],
) -> None:
    for error in (StoreDamaged("block 7 is bad"), KeyError("x")):
        with pytest.raises(FUSEError):
            answered(error)
    assert (logged[0]["error"], logged[0].get("exc_info")) == ("block 7 is bad", None)
    assert logged[1]["exc_info"]


def test_an_answer_passes_as_it_is(logged: list[Any]) -> None:
    answer = FUSEError(errno.ENODATA)
    with pytest.raises(FUSEError) as caught:
        answered(answer)
    assert caught.value is answer
    assert logged == []


def test_the_end_of_the_process_is_no_answer(logged: list[Any]) -> None:
    with pytest.raises(KeyboardInterrupt):
        answered(KeyboardInterrupt())
    assert logged == []


def test_every_handler_answers() -> None:
    """Those without any code that could fail are left out."""
    handlers = {
        name: handler
        for name, handler in vars(Operations).items()
        if inspect.iscoroutinefunction(handler) and hasattr(pyfuse3.Operations, name)
    }
    assert len(handlers) > 25
    unwrapped = {name for name, h in handlers.items() if not hasattr(h, "__wrapped__")}
    assert unwrapped == {"forget", "releasedir"}
