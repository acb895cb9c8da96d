"""The trash ages by what has really passed; wall clocks lie, machines and daemons come and go."""

import pytest

from fusefs.trash.steady import MARK_EVERY_S, SETTLE_S
from tests.unit.inprocess import InProcess

DAY_S = 86400


def now_s(fs: InProcess) -> float:
    return fs.trash.steady.now_ns() / 1e9


def reboot(fs: InProcess, off_s: float = 0, jump_s: float = 0) -> None:
    """A power cut; the machine comes up `off_s` later, with its wall clock set by `jump_s`."""
    fs.store.abandon()
    fs.clock.advance(off_s)
    fs.clock.reboot()
    fs.clock.jump(jump_s)
    fs.open()


def look(fs: InProcess) -> None:
    """What the background does once a second."""
    fs.clock.advance(1)
    fs.filesystem.purging.step()


def remove(fs: InProcess, path: bytes = b"file") -> int:
    fs.write(path, b"content")
    fs.unlink(path)
    return fs.pending()[-1].number


@pytest.mark.parametrize("jump_s", [-1000 * DAY_S, -1, 1, 1000 * DAY_S])
def test_a_wall_clock_that_jumps_is_not_time(fs: InProcess, jump_s: float) -> None:
    before = now_s(fs)
    fs.clock.jump(jump_s)
    fs.clock.advance(5)
    assert now_s(fs) == before + 5


@pytest.mark.parametrize("is_marked", [True, False])
@pytest.mark.parametrize("jump_s", [-1000 * DAY_S, 1000 * DAY_S])
def test_nor_is_it_over_a_crash_of_the_daemon(
    fs: InProcess, jump_s: float, is_marked: bool
) -> None:
    if is_marked:
        look(fs)
    remove(fs)
    since = now_s(fs)
    fs.clock.jump(jump_s)
    fs.clock.advance(5)
    fs.crash()
    assert now_s(fs) == since + 5
    look(fs)
    assert fs.pending()


def test_time_goes_on_while_the_daemon_is_away(fs: InProcess) -> None:
    look(fs)
    before = now_s(fs)
    fs.close()
    fs.clock.advance(3 * DAY_S)
    fs.open()
    assert now_s(fs) == before + 3 * DAY_S


def test_nothing_is_known_until_a_new_machine_has_settled(fs: InProcess) -> None:
    look(fs)
    before = now_s(fs)
    reboot(fs, off_s=DAY_S)
    assert not fs.trash.steady.is_settled
    assert now_s(fs) == 0
    fs.clock.advance(SETTLE_S - 1)
    assert now_s(fs) == 0
    fs.clock.advance(1)
    assert fs.trash.steady.is_settled
    assert now_s(fs) == before + DAY_S + SETTLE_S


def test_a_clock_that_is_wrong_until_the_network_comes_does_no_harm(fs: InProcess) -> None:
    look(fs)
    before = now_s(fs)
    remove(fs)
    reboot(fs, off_s=60, jump_s=1000 * DAY_S)
    for _ in range(9):
        fs.clock.advance(60)
        look(fs)
    assert fs.pending()
    fs.clock.jump(-1000 * DAY_S)
    fs.clock.advance(60)
    look(fs)
    assert now_s(fs) == before + 60 + 9 * 61 + 61
    assert fs.pending()


def test_a_clock_that_was_set_back_over_a_reboot_counts_as_no_time(fs: InProcess) -> None:
    look(fs)
    before = now_s(fs)
    reboot(fs, off_s=DAY_S, jump_s=-1000 * DAY_S)
    fs.clock.advance(SETTLE_S)
    assert now_s(fs) == before
    fs.clock.advance(7)
    assert now_s(fs) == before + 7


def test_a_clock_that_was_behind_and_is_right_again_does_not_add_time(fs: InProcess) -> None:
    """A machine without a battery for its clock, first without a network, then with one."""
    look(fs)
    remove(fs)
    before = now_s(fs)
    reboot(fs, jump_s=-1000 * DAY_S)
    fs.clock.advance(SETTLE_S)
    look(fs)
    fs.clock.advance(MARK_EVERY_S)
    look(fs)
    reboot(fs, off_s=60, jump_s=1000 * DAY_S)
    fs.clock.advance(SETTLE_S)
    look(fs)
    assert fs.pending()
    assert now_s(fs) <= before + SETTLE_S + MARK_EVERY_S + 60 + SETTLE_S + 3


@pytest.mark.parametrize("jump_s", [1000 * DAY_S, 999 * DAY_S])
def test_nor_does_it_add_the_time_before_that_nobody_could_know(
    fs: InProcess, jump_s: float
) -> None:
    """What was removed after a month off is not a month old when the clock is right again."""
    look(fs)
    reboot(fs, off_s=30 * DAY_S, jump_s=-1000 * DAY_S)
    fs.clock.advance(SETTLE_S)
    remove(fs)
    fs.clock.jump(jump_s)
    look(fs)
    fs.crash()
    reboot(fs, off_s=60, jump_s=1000 * DAY_S - jump_s)
    fs.clock.advance(SETTLE_S)
    look(fs)
    assert fs.pending()
    reboot(fs, off_s=8 * DAY_S)  # from then on it is known again how long the machine is off
    fs.clock.advance(SETTLE_S)
    for _ in range(3):
        look(fs)
    assert not fs.pending()


def test_a_correction_while_the_machine_runs_is_not_added_at_the_next_start(fs: InProcess) -> None:
    look(fs)
    fs.clock.jump(-1000 * DAY_S)
    fs.clock.advance(MARK_EVERY_S)
    look(fs)
    remove(fs)
    before = now_s(fs)
    fs.clock.jump(1000 * DAY_S)
    look(fs)
    reboot(fs)
    fs.clock.advance(SETTLE_S)
    look(fs)
    assert now_s(fs) == before + SETTLE_S + 2
    assert fs.pending()


def test_what_was_believed_is_remembered_over_a_crash(fs: InProcess) -> None:
    look(fs)
    reboot(fs)
    fs.clock.advance(SETTLE_S)
    remove(fs)
    since = now_s(fs)
    fs.clock.jump(1000 * DAY_S)
    fs.crash()
    assert now_s(fs) == since


def test_the_mark_is_renewed_now_and_then(fs: InProcess) -> None:
    look(fs)
    records = fs.store.statistics()
    for _ in range(5):
        fs.trash.steady.mark_if_due()
    assert fs.store.statistics() == records
    fs.clock.advance(MARK_EVERY_S)
    fs.trash.steady.mark_if_due()
    assert fs.store.statistics() != records


def test_what_is_removed_in_the_settle_time_is_dated_when_that_is_over(fs: InProcess) -> None:
    look(fs)
    reboot(fs)
    number = remove(fs)
    one = fs.trash.ledger.find(number)
    assert one is not None
    assert (one.since_ns, one.deadline_ns) == (0, 0)
    fs.clock.advance(30)
    fs.crash()
    look(fs)
    assert fs.pending() == [one]
    fs.clock.advance(SETTLE_S)
    look(fs)
    look(fs)
    (dated,) = fs.pending()
    assert now_s(fs) - 2 <= dated.since_ns / 1e9 <= now_s(fs)
    assert dated.deadline_ns == dated.since_ns + 7 * DAY_S * 10**9


def test_the_history_of_the_settle_time_stays_as_long_as_other_history(fs: InProcess) -> None:
    look(fs)
    reboot(fs, off_s=100 * DAY_S)
    number = remove(fs)
    fs.restorer().restore(number)
    fs.clock.advance(SETTLE_S)
    for _ in range(5):
        look(fs)
    assert fs.trash.ledger.find_past(number) is not None
    fs.clock.advance(31 * DAY_S)
    for _ in range(5):
        look(fs)
    assert fs.trash.ledger.find_past(number) is None


def test_a_clock_that_is_set_for_the_first_time_is_not_added_at_the_next_start(
    fs: InProcess,
) -> None:
    look(fs)
    remove(fs)
    fs.clock.jump(20_000 * DAY_S)
    look(fs)
    before = now_s(fs)
    reboot(fs)
    fs.clock.advance(SETTLE_S)
    look(fs)
    assert now_s(fs) == before + SETTLE_S + 1
    assert fs.pending()
