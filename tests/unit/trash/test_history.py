"""What became of an entry is known for a while, and only for that."""

from collections.abc import Callable

import pytest
import trio

from fusefs.base import failpoints
from fusefs.daemon.trash_desk import ListArguments, TrashDesk
from fusefs.errors import DiskFull
from fusefs.model.entry import State
from fusefs.trash.ledger import STEP
from tests.unit import invariants
from tests.unit.inprocess import InProcess

DAY_S = 86400


def purged(fs: InProcess, count: int) -> list[int]:
    """Remove and purge so many files; their numbers."""
    numbers = []
    for number in range(count):
        fs.write(b"%d" % number, b"content")
        fs.unlink(b"%d" % number)
        one = fs.pending()[-1]
        fs.unlink(fs.trash.path_in_trash(one))
        numbers.append(one.number)
    while fs.reap():
        pass
    return numbers


def past(fs: InProcess) -> list[int]:
    return [one.number for one in fs.trash.ledger.past()]


def clean(fs: InProcess) -> int:
    return fs.filesystem.expiry.clean_history()


def set_history(fs: InProcess, text: str) -> None:
    fs.trash.set_policy(fs.trash.retention.policy.with_changes([("history", text)]))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three records in one act."""
    clean_history: Callable[..., int] = __import__(
        "fusefs.trash.ledger", fromlist=["Ledger"]
    ).Ledger.clean_history
    monkeypatch.setattr(
        "fusefs.trash.ledger.Ledger.clean_history",
        lambda self, before_ns, now_ns: clean_history(self, before_ns, now_ns, 3),
    )


def test_four_acts_are_four_stamps(fs: InProcess) -> None:
    for act in ("remove", "restore", "remove", "purge"):
        fs.clock.advance(10)
        if act == "remove":
            fs.write(b"f", b"content")
            fs.unlink(b"f")
        elif act == "restore":
            fs.restorer().restore(b"f")
        else:
            fs.unlink(fs.trash.path_in_trash(fs.pending()[0]))
            fs.reap()
    records = trio.run(TrashDesk(fs.filesystem).history, ListArguments(), 0)["records"]
    states = [[stamp["state"] for stamp in record["history"]] for record in records]
    assert states == [
        ["delete-pending", "ready"],
        ["delete-pending", "delete-ongoing", "delete-complete"],
    ]
    times = [stamp["time"] for record in records for stamp in record["history"]]
    assert times == sorted(times)


def test_records_go_when_they_are_old_enough_and_not_before(fs: InProcess) -> None:
    first = purged(fs, 2)
    fs.clock.advance(DAY_S)
    second = purged(fs, 2)
    set_history(fs, "30d")
    fs.clock.advance(29 * DAY_S)
    assert clean(fs) == 0
    fs.clock.advance(1)
    assert clean(fs) == 2
    assert past(fs) == second
    fs.clock.advance(DAY_S)
    assert clean(fs) == 2
    assert past(fs) == []
    assert all(fs.trash.ledger.find_past(number) is None for number in first + second)


@pytest.mark.parametrize("jump_s", [-1000 * DAY_S, 1000 * DAY_S])
def test_no_wall_clock_makes_a_record_old(fs: InProcess, jump_s: float) -> None:
    numbers = purged(fs, 2)
    fs.clock.jump(jump_s)
    fs.crash()
    assert clean(fs) == 0
    fs.clock.advance(31 * DAY_S)
    assert clean(fs) == 2
    assert past(fs) == []
    assert numbers


def test_forever_keeps_all_of_them(fs: InProcess) -> None:
    purged(fs, 3)
    set_history(fs, "forever")
    fs.clock.advance(100_000 * DAY_S)
    assert clean(fs) == 0
    assert len(past(fs)) == 3


@pytest.mark.usefixtures("few")
def test_a_crash_between_any_two_steps_leaves_the_rest_to_the_next(fs: InProcess) -> None:
    purged(fs, 10)
    fs.write(b"stays", b"content")
    fs.unlink(b"stays")
    set_history(fs, "5s")
    fs.trash.set_policy(fs.trash.retention.policy.with_changes([("keep", "forever")]))
    fs.clock.advance(6)
    left = []
    while clean(fs):
        left.append(len(past(fs)))
        fs.crash()
        invariants.check(fs.store)
    assert left == [7, 4, 1, 0]
    assert [one.origin for one in fs.pending()] == [b"stays"]


@pytest.mark.usefixtures("few")
def test_a_full_disk_takes_nothing_from_the_history(fs: InProcess) -> None:
    numbers = purged(fs, 5)
    fs.clock.advance(31 * DAY_S)
    failpoints.arm("log.append=1:ENOSPC")
    with pytest.raises(DiskFull):
        clean(fs)
    failpoints.disarm()
    assert past(fs) == numbers


def test_a_thousand_records_take_a_few_acts(fs: InProcess) -> None:
    purged(fs, STEP + 50)
    fs.clock.advance(31 * DAY_S)
    assert [clean(fs), clean(fs), clean(fs)] == [STEP, 50, 0]


def test_only_what_is_over_is_cleaned(fs: InProcess) -> None:
    handles = []
    for name in (b"pending", b"ongoing"):
        fs.write(name, b"content")
        handles.append(fs.files.open(fs.at(name), for_writing=False))
        fs.unlink(name)
    fs.unlink(fs.trash.path_in_trash(fs.pending()[1]))
    fs.clock.advance(1000 * DAY_S)
    assert clean(fs) == 0
    assert [one.state for one in fs.trash.entries()] == [State.PENDING, State.ONGOING]
    for handle in handles:
        fs.files.release(handle)


def test_the_background_does_it(fs: InProcess) -> None:
    purged(fs, 3)
    fs.clock.advance(31 * DAY_S)
    fs.filesystem.purging.step()
    assert past(fs) == []
