"""How long what is removed stays, by rules of the store, of directories and of files."""

from typing import Any

import pytest
import trio

from fusefs.base import failpoints
from fusefs.daemon.trash_desk import PolicyArguments, TrashDesk
from fusefs.errors import BadPolicy, DiskFull, NoSuchPath, NotPermitted
from fusefs.trash.policy import ATTRIBUTE, FOREVER, Policy
from fusefs.trash.retention import Keeping
from fusefs.trash.steady import SETTLE_S
from tests.unit import invariants
from tests.unit.inprocess import InProcess

DAY_S = 86400


def set_rule(fs: InProcess, path: bytes, text: str) -> dict[str, Any]:
    return trio.run(TrashDesk(fs.filesystem).policy, PolicyArguments(path, [("keep", text)]), 0)


def clear(fs: InProcess, path: bytes) -> dict[str, Any]:
    return trio.run(TrashDesk(fs.filesystem).policy, PolicyArguments(path, is_clear=True), 0)


def remove(fs: InProcess, path: bytes) -> int:
    before = {one.number for one in fs.pending()}
    fs.write(path, b"content")
    fs.unlink(path)
    (new,) = {one.number for one in fs.pending()} - before
    return new


def keeps_s(fs: InProcess, number: int) -> float:
    """For how long an entry stays, all in all."""
    one = fs.trash.ledger.find(number)
    assert one is not None
    return (one.deadline_ns - one.since_ns) / 1e9 if one.deadline_ns else FOREVER


def look(fs: InProcess) -> None:
    for _ in range(4):
        fs.clock.advance(1)
        while fs.filesystem.purging.step():
            pass


def is_there(fs: InProcess, number: int) -> bool:
    return number in {one.number for one in fs.pending()}


@pytest.mark.parametrize(
    ("rules", "keeping"),
    [
        ({}, (7 * DAY_S, False, b"")),
        ({b"a": "1h"}, (3600, False, b"a")),
        ({b"a": "1h", b"a/b": "2h"}, (7200, False, b"a/b")),
        ({b"a": "1h", b"a/b": "inherit"}, (3600, False, b"a")),
        ({b"a": "forever"}, (FOREVER, False, b"a")),
        ({b"a": "0"}, (0, True, b"a")),
        ({b"a": "skip"}, (7 * DAY_S, True, b"a")),
        ({b"a": "1h", b"a/b": "skip"}, (3600, True, b"a/b")),
        ({b"a": "skip", b"a/b": "1h"}, (3600, False, b"a/b")),
        ({b"a/b/f": "2d", b"a": "skip"}, (2 * DAY_S, False, b"a/b/f")),
        ({b"a/b/f": "skip", b"a": "3d"}, (3 * DAY_S, True, b"a/b/f")),
    ],
)
def test_the_nearest_rule_above_holds(
    fs: InProcess, rules: dict[bytes, str], keeping: tuple[float, bool, bytes]
) -> None:
    for path in (b"a", b"a/b"):
        fs.mkdir(path)
    fs.write(b"a/b/f", b"")
    for path, text in rules.items():
        set_rule(fs, path, text)
    source = fs.at(keeping[2]).ino if keeping[2] else 0
    found = fs.trash.retention.at(fs.at(b"a/b/f"), fs.at(b"a/b"))
    assert found == Keeping(keeping[0], keeping[1], source)
    fs.unlink(b"a/b/f")
    assert bool(fs.pending()) is not keeping[1]


def test_what_has_no_time_goes_for_good_and_what_has_goes_to_the_trash(fs: InProcess) -> None:
    fs.mkdir(b"a")
    for text in ("0", "skip"):
        set_rule(fs, b"a", text)
        fs.write(b"a/f", b"content")
        fs.unlink(b"a/f")
        assert not fs.pending()
    clear(fs, b"a")
    assert keeps_s(fs, remove(fs, b"a/f")) == 7 * DAY_S


@pytest.mark.parametrize(
    ("text", "keeps"), [("1h", 3600), ("30d", 30 * DAY_S), ("forever", FOREVER), ("0", 0)]
)
def test_a_change_holds_for_what_is_in_the_trash(fs: InProcess, text: str, keeps: float) -> None:
    fs.mkdir(b"a")
    inside, outside = remove(fs, b"a/f"), remove(fs, b"f")
    set_rule(fs, b"a", text)
    fs.trash.retention.replan_step()
    assert keeps_s(fs, inside) == keeps or not keeps
    assert keeps_s(fs, outside) == 7 * DAY_S
    set_rule(fs, b"", text)
    clear(fs, b"a")
    for _ in range(2):
        fs.trash.retention.replan_step()
    for number in (inside, outside):
        assert keeps_s(fs, number) == keeps
    assert not fs.trash.retention.needs_replan


def test_skip_leaves_the_time_of_what_is_there_alone(fs: InProcess) -> None:
    fs.mkdir(b"a")
    number = remove(fs, b"a/f")
    set_rule(fs, b"a", "skip")
    look(fs)
    assert keeps_s(fs, number) == 7 * DAY_S


def test_the_rule_of_a_file_goes_with_it(fs: InProcess) -> None:
    fs.write(b"f", b"content")
    set_rule(fs, b"f", "forever")
    fs.unlink(b"f")
    (one,) = fs.pending()
    set_rule(fs, b"", "1h")
    look(fs)
    fs.clock.advance(100 * DAY_S)
    look(fs)
    assert is_there(fs, one.number)


def test_the_rules_of_a_removed_directory_hold_on(fs: InProcess) -> None:
    fs.mkdir(b"a")
    set_rule(fs, b"a", "30d")
    number = remove(fs, b"a/f")
    fs.rmdir(b"a")
    set_rule(fs, b"", "1h")
    look(fs)
    assert keeps_s(fs, number) == 30 * DAY_S


def test_a_rule_that_was_cleared_before_the_directory_went_does_not_hold_on(
    fs: InProcess,
) -> None:
    fs.mkdir(b"a")
    set_rule(fs, b"a", "1h")
    number = remove(fs, b"a/f")
    clear(fs, b"a")
    look(fs)
    assert keeps_s(fs, number) == 7 * DAY_S
    fs.rmdir(b"a")
    set_rule(fs, b"", "8d")
    look(fs)
    assert keeps_s(fs, number) == 8 * DAY_S
    fs.restorer().restore(b"a")
    assert fs.tree.xattrs.names(fs.at(b"a").ino) == []


def test_a_directory_moved_below_a_rule_is_under_it(fs: InProcess) -> None:
    for name in (b"a", b"b"):
        fs.mkdir(name)
    set_rule(fs, b"b", "1h")
    assert keeps_s(fs, remove(fs, b"a/f")) == 7 * DAY_S
    fs.rename(b"a", b"b/a")
    assert keeps_s(fs, remove(fs, b"b/a/f")) == 3600


def test_nothing_expires_while_deadlines_are_made_anew(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusefs.trash.retention.STEP", 2)
    fs.mkdir(b"a")
    numbers = [remove(fs, b"a/%d" % number) for number in range(9)]
    fs.clock.advance(8 * DAY_S)  # all are due
    set_rule(fs, b"a", "30d")
    while fs.trash.retention.needs_replan:
        fs.clock.advance(1)
        fs.filesystem.purging.step()
        assert len(fs.pending()) == 9
        assert not fs.filesystem.purger.jobs()
    look(fs)
    assert [keeps_s(fs, number) for number in numbers] == [30 * DAY_S] * 9


@pytest.mark.parametrize("steps", [0, 1, 3, 5])
def test_a_crash_while_deadlines_are_made_anew(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr("fusefs.trash.retention.STEP", 2)
    numbers = [remove(fs, b"%d" % number) for number in range(9)]
    fs.clock.advance(8 * DAY_S)
    set_rule(fs, b"", "30d")
    for _ in range(steps):
        fs.trash.retention.replan_step()
    fs.crash()
    invariants.check(fs.store)
    assert fs.trash.retention.needs_replan
    look(fs)
    assert [keeps_s(fs, number) for number in numbers] == [30 * DAY_S] * 9
    assert not fs.trash.retention.needs_replan


def test_what_is_removed_in_the_midst_of_it_has_the_new_time(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusefs.trash.retention.STEP", 2)
    numbers = [remove(fs, b"%d" % number) for number in range(5)]
    set_rule(fs, b"", "30d")
    fs.trash.retention.replan_step()
    numbers.append(remove(fs, b"late"))
    look(fs)
    assert [keeps_s(fs, number) for number in numbers] == [30 * DAY_S] * 6


def test_a_second_change_begins_anew(fs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusefs.trash.retention.STEP", 2)
    numbers = [remove(fs, b"%d" % number) for number in range(5)]
    for text in ("1h", "30d"):
        set_rule(fs, b"", text)
        fs.trash.retention.replan_step()
    look(fs)
    assert [keeps_s(fs, number) for number in numbers] == [30 * DAY_S] * 5


def test_a_change_that_the_full_disk_refuses_changes_nothing(fs: InProcess) -> None:
    before = fs.trash.retention.policy
    failpoints.arm("log.append=1:ENOSPC")
    with pytest.raises(DiskFull):
        fs.trash.set_policy(before.with_changes([("keep", "1h")]))
    failpoints.disarm()
    assert fs.trash.retention.policy == before
    assert not fs.trash.retention.needs_replan


def test_the_policy_of_the_store_is_still_there_after_a_crash(fs: InProcess) -> None:
    changed = Policy().with_changes([("keep", "3d"), ("max-size", "1G"), ("skip", "none")])
    fs.trash.set_policy(changed)
    fs.crash()
    assert fs.trash.retention.policy == changed


def test_undated_entries_wait_for_the_clock_and_then_have_their_time(fs: InProcess) -> None:
    look(fs)
    fs.store.abandon()
    fs.clock.reboot()
    fs.open()
    number = remove(fs, b"f")
    set_rule(fs, b"", "1h")
    look(fs)
    assert fs.trash.retention.needs_replan
    assert keeps_s(fs, number) == FOREVER
    fs.clock.advance(SETTLE_S)
    look(fs)
    assert keeps_s(fs, number) == 3600
    assert is_there(fs, number)
    fs.clock.advance(3600)
    look(fs)
    assert not is_there(fs, number)


def test_who_may_change_what(fs: InProcess) -> None:
    fs.mkdir(b"a")
    fs.tree.set_attributes(fs.at(b"a"), fs.caller, uid=7)
    desk = TrashDesk(fs.filesystem)
    arguments = PolicyArguments(b"a", [("keep", "1h")])
    with pytest.raises(NotPermitted):
        trio.run(desk.policy, arguments, 8)
    assert trio.run(desk.policy, arguments, 7)["keeps"] == "1h"
    for changes in ([("keep", "soon")], [("max-size", "1G")], [("what", "ever")]):
        with pytest.raises(BadPolicy):
            trio.run(desk.policy, PolicyArguments(b"a", changes), 0)
    with pytest.raises(NoSuchPath):
        trio.run(desk.policy, PolicyArguments(b"b", []), 0)
    assert fs.tree.xattrs.get(fs.at(b"a").ino, ATTRIBUTE) == b"1h"
    assert fs.trash.retention.policy == Policy()


def test_what_holds_is_told_with_its_reason(fs: InProcess) -> None:
    for path in (b"a", b"a/b"):
        fs.mkdir(path)
    fs.write(b"a/b/f", b"")
    set_rule(fs, b"a", "1h")
    desk = TrashDesk(fs.filesystem)
    for path in (b"a/b/f", b"a/b", b"a"):
        record = trio.run(desk.policy, PolicyArguments(path), 0)
        assert (record["keeps"], record["because_of"]) == ("1h", "/a")
    record = trio.run(desk.policy, PolicyArguments(b""), 0)
    assert (record["keeps"], record["because_of"]) == ("7d", "the store")


@pytest.mark.parametrize("is_moved", [True, False])
def test_a_rule_made_after_the_removal_holds_on_when_its_directory_goes_later(
    fs: InProcess, is_moved: bool
) -> None:
    fs.mkdir(b"a")
    number = remove(fs, b"a/f")
    fs.clock.advance(3600)  # its removal has a mirror of another hour
    set_rule(fs, b"a", "forever")
    look(fs)
    fs.rename(b"a", b"b") if is_moved else fs.rmdir(b"a")
    set_rule(fs, b"", "8d")
    look(fs)
    assert keeps_s(fs, number) == FOREVER


def test_another_directory_of_that_name_leaves_the_attributes_of_a_removed_one(
    fs: InProcess,
) -> None:
    fs.mkdir(b"a")
    set_rule(fs, b"a", "forever")
    remove(fs, b"a/f")
    fs.rmdir(b"a")
    directory = fs.pending()[-1].number
    fs.mkdir(b"a")
    set_rule(fs, b"a", "1h")
    look(fs)
    fs.rename(b"a", b"b")
    fs.restorer().restore(directory)
    assert fs.tree.xattrs.get(fs.at(b"a").ino, ATTRIBUTE) == b"forever"
