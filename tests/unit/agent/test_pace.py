"""The sync rests while users are at work, and only then."""

from collections.abc import Callable

import pytest

from fusefs.agent import pace
from fusefs.agent.pace import Pace

Work = Callable[[float], None]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Use so many seconds of processor time."""
    used_s = 0.0

    def use(seconds: float) -> None:
        nonlocal used_s
        used_s += seconds

    monkeypatch.setattr(pace.time, "process_time", lambda: used_s)
    return use


def test_it_rests_for_longer_than_it_worked_where_users_are_at_work(work: Work) -> None:
    one = Pace()
    work(0.125)
    assert one.rest_s(100) == 0.125 * pace.REST
    work(10)
    assert one.rest_s(101) == pace.LONGEST_S


def test_it_does_not_rest_where_nobody_is_nor_later_for_what_was_then(work: Work) -> None:
    one = Pace()
    one.rest_s(100)
    work(10)
    assert one.rest_s(100) == 0
    assert one.rest_s(101) == 0
    work(0.125)
    assert one.rest_s(102) == 0.125 * pace.REST
