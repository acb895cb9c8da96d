"""Purges: asked for once, done in slices, over crashes; one that fails stops no other."""

import stat
from typing import Any

import pytest
import trio

from fusefs.daemon.trash_desk import PurgeArguments, RestoreArguments, TrashDesk
from fusefs.errors import InUse, NoSuchEntry, NotPermitted, StoreError, WrongState
from fusefs.model import keys
from fusefs.model.entry import State
from fusefs.model.job import Selector
from fusefs.tree.removal import Caller
from tests.unit import invariants
from tests.unit.inprocess import InProcess

HOUR = b".trash/2027-01-15T08"
DAY_S = 86400


def removed(fs: InProcess, *paths: bytes, data: bytes = b"content") -> list[int]:
    """Make and remove files; their numbers."""
    numbers = []
    for path in paths:
        fs.write(path, data)
        fs.unlink(path)
        numbers.append(fs.pending()[-1].number)
    return numbers


def purge(fs: InProcess, *numbers: int, uid: int = 0, **more: Any) -> dict[str, Any]:
    arguments = PurgeArguments(list(numbers), **more)
    return trio.run(TrashDesk(fs.filesystem).purge, arguments, uid)


def work(fs: InProcess, most: int = 100) -> int:
    """Let the background work until it has nothing to do; how many steps that took."""
    for count in range(most):
        if not fs.filesystem.purging.step():
            return count
    raise AssertionError("there is always something to do")


def look(fs: InProcess) -> None:
    """Some seconds later the background has looked at everything that is due."""
    for _ in range(3):
        fs.clock.advance(1)
        work(fs)


def states(fs: InProcess, numbers: list[int]) -> list[str]:
    ledger = fs.trash.ledger
    found = [ledger.find(number) or ledger.find_past(number) for number in numbers]
    return [one.state.value.removeprefix("delete-") if one else "unknown" for one in found]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of three."""
    monkeypatch.setattr("fusefs.trash.purge.BEGIN_STEP", 3)
    monkeypatch.setattr("fusefs.trash.purge.STEP", 4)
    monkeypatch.setattr("fusefs.files.reaper.STEP", 4)


def test_a_purge_frees_and_leaves_a_record(fs: InProcess) -> None:
    (number,) = removed(fs, b"file")
    record = purge(fs, number)
    assert record == {"jobs": [record["items"][0]["job"]], "items": record["items"]}
    assert states(fs, [number]) == ["pending"]  # only asked for
    work(fs)
    assert states(fs, [number]) == ["complete"]
    assert fs.store.totals.trash_bytes == fs.store.totals.trash_entries == 0
    assert not fs.filesystem.purger.jobs()
    assert fs.filesystem.purging.job_record(record["jobs"][0]) == {
        "job": record["jobs"][0], "is_over": True, "why": "purged by user 0",
        "ongoing": 0, "done": 1, "failed": 0, "in_use": 0,
    }  # fmt: skip


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("is_numbered", [True, False])
def test_a_crash_between_any_two_slices_loses_no_job(fs: InProcess, is_numbered: bool) -> None:
    numbers = removed(fs, *(b"%d" % number for number in range(20)))
    kept = removed(fs, b"kept") if is_numbered else []
    purge(fs, *numbers) if is_numbered else purge(fs)
    for _ in range(60):
        if not fs.filesystem.purger.jobs():
            break
        fs.filesystem.purging.step()
        fs.crash()
        invariants.check(fs.store)
    assert states(fs, numbers) == ["complete"] * 20
    assert states(fs, kept) == ["pending"] * len(kept)
    work(fs)
    assert fs.tree.orphans() == []


def test_what_is_removed_after_a_purge_of_all_was_asked_for_stays(fs: InProcess) -> None:
    before = removed(fs, b"1", b"2")
    purge(fs)
    later = removed(fs, b"3")
    work(fs)
    assert states(fs, before + later) == ["complete", "complete", "pending"]


@pytest.mark.usefixtures("few")
def test_many_requests_for_one_entry_are_one_job(fs: InProcess) -> None:
    numbers = removed(fs, b"1", b"2", b"3", b"4", b"5")
    jobs = {purge(fs, number)["items"][0]["job"] for number in numbers[:1] * 20}
    assert len(jobs) == 1
    fs.filesystem.purging.step()
    record = purge(fs, numbers[0], numbers[1])
    work(fs)
    assert states(fs, numbers[:2]) == ["complete"] * 2
    again = purge(fs, numbers[0])
    assert again == {"jobs": [], "items": [{"id": numbers[0], "job": None}]}
    assert not fs.filesystem.purger.jobs()
    assert all("class" not in item for item in record["items"])


def test_a_batch_asked_for_twice_is_one_job(fs: InProcess) -> None:
    removed(fs, b"1", b"2", b"3")
    batch = fs.pending()[0].batch
    first, second = purge(fs, batch), purge(fs, batch)
    assert first == second
    work(fs)
    assert not fs.pending()


def test_each_of_many_has_an_outcome_of_its_own(fs: InProcess) -> None:
    numbers = removed(fs, *(b"%d" % number for number in range(8)))
    opened = removed(fs, b"open")[0]
    handle = fs.files.open(fs.at(HOUR + b"/open"), for_writing=False)
    back = removed(fs, b"back")[0]
    fs.restorer().restore(back)
    items = {item["id"]: item for item in purge(fs, *numbers, opened, 4711, back)["items"]}
    work(fs)
    assert states(fs, numbers) == ["complete"] * 8
    assert all("class" not in items[number] for number in numbers)
    assert items[opened]["class"] == InUse.__name__
    assert items[4711]["class"] == NoSuchEntry.__name__
    assert items[back]["class"] == WrongState.__name__
    assert states(fs, [opened]) == ["pending"]
    fs.files.release(handle)
    purge(fs, opened)
    work(fs)
    assert states(fs, [opened]) == ["complete"]


def test_who_opens_a_file_after_its_purge_was_asked_for_keeps_it(fs: InProcess) -> None:
    numbers = removed(fs, b"1", b"2")
    purge(fs)
    handle = fs.files.open(fs.at(HOUR + b"/1"), for_writing=False)
    work(fs)
    assert states(fs, numbers) == ["pending", "complete"]
    assert fs.pread(handle, 0, 99) == b"content"
    assert fs.read(HOUR + b"/1") == b"content"
    fs.files.release(handle)


def test_rm_in_the_trash_of_an_open_file_waits_for_its_reader(fs: InProcess) -> None:
    numbers = removed(fs, b"1")
    handle = fs.files.open(fs.at(HOUR + b"/1"), for_writing=False)
    fs.unlink(HOUR + b"/1")
    work(fs)
    assert states(fs, numbers) == ["ongoing"]
    assert fs.pread(handle, 0, 99) == b"content"
    fs.files.release(handle)
    work(fs)
    assert states(fs, numbers) == ["complete"]


def test_others_purge_only_what_is_theirs(fs: InProcess) -> None:
    for name, uid in ((b"mine", 7), (b"yours", 8)):
        fs.write(name, b"content")
        fs.tree.set_attributes(fs.at(name), fs.caller, uid=uid)
        fs.unlink(name)
    mine, yours = (one.number for one in fs.pending())
    items = purge(fs, mine, yours, uid=7)["items"]
    assert "class" not in items[0]
    assert items[1]["class"] == NotPermitted.__name__
    work(fs)
    assert states(fs, [mine, yours]) == ["complete", "pending"]
    purge(fs, uid=7)
    work(fs)
    assert states(fs, [yours]) == ["pending"]
    purge(fs, owner=7)
    work(fs)
    assert states(fs, [yours]) == ["pending"]
    purge(fs, owner=8)
    work(fs)
    assert states(fs, [yours]) == ["complete"]


def test_only_what_is_older(fs: InProcess) -> None:
    old = removed(fs, b"old")
    fs.clock.advance(100)
    young = removed(fs, b"young")
    fs.clock.jump(1000 * DAY_S)
    fs.clock.advance(10)
    purge(fs, older_than_s=50)
    work(fs)
    assert states(fs, old + young) == ["complete", "pending"]


def a_tree(fs: InProcess) -> list[int]:
    """dir/sub/in and dir/on, removed; the numbers of all four."""
    before = {one.number for one in fs.pending()}
    fs.mkdir(b"dir")
    fs.mkdir(b"dir/sub")
    for path in (b"dir/sub/in", b"dir/on"):
        fs.write(path, b"content")
        fs.unlink(path)
    for path in (b"dir/sub", b"dir"):
        fs.rmdir(path)
    return [one.number for one in fs.pending() if one.number not in before]


@pytest.mark.usefixtures("few")
def test_a_directory_goes_with_what_is_in_it(fs: InProcess) -> None:
    numbers = a_tree(fs)
    purge(fs, numbers[-1])
    work(fs)
    assert states(fs, numbers) == ["complete"] * 4
    assert fs.names(b".trash") == []


def test_a_directory_with_an_open_file_stays_until_that_goes(fs: InProcess) -> None:
    numbers = a_tree(fs)
    handle = fs.files.open(fs.at(HOUR + b"/dir/sub/in"), for_writing=False)
    purge(fs, numbers[-1])
    work(fs)
    assert states(fs, numbers)[0] == "pending"
    assert fs.read(HOUR + b"/dir/sub/in") == b"content"
    fs.files.release(handle)
    purge(fs, numbers[0])
    work(fs)
    assert states(fs, numbers) == ["complete"] * 4
    assert fs.names(b".trash") == []


def test_one_of_several_links_that_is_purged_leaves_the_content(fs: InProcess) -> None:
    fs.write(b"one", b"content")
    fs.link(b"one", b"other")
    fs.unlink(b"one")
    (number,) = [one.number for one in fs.pending()]
    purge(fs, number)
    work(fs)
    assert states(fs, [number]) == ["complete"]
    assert fs.read(b"other") == b"content"


# -- what fails


def test_one_that_fails_is_an_error_and_the_others_go(fs: InProcess) -> None:
    numbers = removed(fs, b"1", b"2", b"3")
    ino = fs.pending()[1].ino
    row = fs.store.get(keys.extent(ino, 0))
    assert row is not None
    with fs.tree.act() as act:
        act.delete(keys.extent(ino, 0))
    events = []
    fs.filesystem.trash.tell = events.append
    purge(fs, *numbers)
    work(fs)
    assert states(fs, numbers) == ["complete", "error", "complete"]
    ended = [one for one in events if one.state in (State.ERROR, State.COMPLETE)]
    assert sorted(one.number for one in ended) == numbers  # each once
    with fs.tree.act() as act:
        act.put(keys.extent(ino, 0), row)
    purge(fs, numbers[1])
    work(fs)
    assert states(fs, numbers) == ["complete"] * 3


def cannot_begin(monkeypatch: pytest.MonkeyPatch, fs: InProcess, number: int) -> None:
    """Let the disk fail whenever that entry is begun."""
    begin = fs.filesystem.purger._begin

    def failing(act: Any, job: int, one: Any) -> None:
        if one.number == number:
            raise StoreError("the disk says no")
        begin(act, job, one)

    monkeypatch.setattr(fs.filesystem.purger, "_begin", failing)


def test_what_cannot_be_begun_is_an_error_and_stays_whole(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = removed(fs, b"1", b"2", b"3")
    with monkeypatch.context() as patch:
        cannot_begin(patch, fs, numbers[1])
        purge(fs, *numbers)
        work(fs)
    assert states(fs, numbers) == ["complete", "error", "complete"]
    one = fs.trash.ledger.find(numbers[1])
    assert one is not None
    assert one.message == "the disk says no"
    invariants.check(fs.store)
    fs.crash()
    purge(fs, numbers[1])
    work(fs)
    assert states(fs, numbers) == ["complete"] * 3


def test_a_directory_taken_back_with_such_an_error_in_it_can_still_be_mounted(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs.mkdir(b"dir")
    numbers = removed(fs, b"dir/1", b"dir/2", b"dir/3")
    fs.rmdir(b"dir")
    with monkeypatch.context() as patch:
        cannot_begin(patch, fs, numbers[1])
        purge(fs, numbers[1])
        work(fs)
    assert states(fs, numbers) == ["pending", "error", "pending"]
    fs.rename(HOUR + b"/dir", b"back")
    fs.crash()
    assert set(fs.names(b"back")) >= {b"1", b"3"}
    work(fs)
    assert states(fs, numbers)[::2] == ["ready", "ready"]
    assert states(fs, numbers)[1] == "complete"
    assert set(fs.names(b"back")) == {b"1", b"3"}


# -- what goes by itself


def test_what_is_due_goes_and_nothing_else(fs: InProcess) -> None:
    first = removed(fs, b"1")
    fs.clock.advance(DAY_S)
    second = removed(fs, b"2")
    fs.clock.advance(6 * DAY_S - 5)
    look(fs)
    assert states(fs, first + second) == ["pending"] * 2
    fs.clock.advance(5)
    look(fs)
    assert states(fs, first + second) == ["complete", "pending"]


def test_what_was_due_while_nobody_was_there_goes_at_the_next_start(fs: InProcess) -> None:
    numbers = removed(fs, b"1")
    fs.close()
    fs.clock.advance(8 * DAY_S)
    fs.open()
    look(fs)
    assert states(fs, numbers) == ["complete"]


def test_a_directory_that_is_due_does_not_take_what_is_not(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    for name in (b"dir/kept", b"dir/due"):
        fs.write(name, b"content")
    fs.tree.xattrs.set(fs.at(b"dir/kept").ino, b"user.fusefs.trash", b"forever")
    for name in (b"dir/kept", b"dir/due"):
        fs.unlink(name)
    fs.rmdir(b"dir")
    kept, due, _directory = (one.number for one in fs.pending())
    fs.clock.advance(8 * DAY_S)
    look(fs)
    assert states(fs, [kept, due]) == ["pending", "complete"]
    assert fs.read(HOUR + b"/dir/kept") == b"content"
    fs.restorer().restore(kept)
    assert fs.read(b"dir/kept") == b"content"


@pytest.mark.usefixtures("few")
def test_a_longer_time_saves_what_is_due_and_not_begun(fs: InProcess) -> None:
    numbers = removed(fs, *(b"%d" % number for number in range(12)))
    fs.clock.advance(8 * DAY_S)
    fs.filesystem.purging.step()  # looks
    fs.filesystem.purging.step()  # begins
    assert len(fs.filesystem.purger.jobs()) == 1
    begun = states(fs, numbers).count("pending")
    assert 0 < begun < 12
    fs.trash.set_policy(fs.trash.retention.policy.with_changes([("keep", "30d")]))
    look(fs)
    assert states(fs, numbers).count("pending") == begun
    assert not fs.filesystem.purger.jobs()


def test_a_file_in_use_that_is_due_is_looked_at_again(fs: InProcess) -> None:
    numbers = removed(fs, b"1")
    handle = fs.files.open(fs.at(HOUR + b"/1"), for_writing=False)
    fs.clock.advance(8 * DAY_S)
    for _ in range(5):
        look(fs)
    assert states(fs, numbers) == ["pending"]
    assert fs.pread(handle, 0, 99) == b"content"
    fs.files.release(handle)
    fs.clock.advance(60)
    look(fs)
    assert states(fs, numbers) == ["complete"]


def set_policy(fs: InProcess, name: str, text: str) -> None:
    fs.trash.set_policy(fs.trash.retention.policy.with_changes([(name, text)]))


def test_above_its_size_the_oldest_go(fs: InProcess) -> None:
    numbers = removed(fs, *(b"%d" % number for number in range(10)), data=b"x" * 1024)
    look(fs)
    assert states(fs, numbers) == ["pending"] * 10  # off
    set_policy(fs, "max-size", "7K")
    look(fs)
    assert states(fs, numbers) == ["complete"] * 3 + ["pending"] * 7
    numbers += removed(fs, b"one more", data=b"x" * 1024)
    look(fs)
    assert states(fs, numbers) == ["complete"] * 4 + ["pending"] * 7


def test_below_the_free_space_the_oldest_go(fs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = removed(fs, *(b"%d" % number for number in range(10)), data=b"x" * 1024)
    free = 10 << 30
    monkeypatch.setattr(
        type(fs.store.space), "refresh", lambda self: free - fs.store.totals.garbage_bytes
    )
    set_policy(fs, "min-free", f"{(10 << 20) - 2}K")
    look(fs)
    assert states(fs, numbers) == ["pending"] * 10
    set_policy(fs, "min-free", f"{(10 << 20) + 2}K")
    look(fs)
    assert states(fs, numbers)[:2] == ["complete"] * 2
    set_policy(fs, "min-free", "off")
    left = states(fs, numbers).count("pending")
    look(fs)
    assert states(fs, numbers).count("pending") == left


def test_a_file_in_use_does_not_keep_a_cap_from_working(fs: InProcess) -> None:
    numbers = removed(fs, b"1", b"2", b"3", data=b"x" * 1024)
    handle = fs.files.open(fs.at(HOUR + b"/1"), for_writing=False)
    set_policy(fs, "max-size", "2K")
    look(fs)
    assert states(fs, numbers) == ["pending", "complete", "pending"]
    fs.files.release(handle)


def test_a_temporary_file_in_use_is_no_reason_to_purge_others(fs: InProcess) -> None:
    numbers = removed(fs, b"1", data=b"x" * 1024)
    set_policy(fs, "max-size", "4K")
    fs.write(b".nfs1", b"x" * 10_000)
    handle = fs.opened(b".nfs1")
    fs.unlink(b".nfs1")
    look(fs)
    assert states(fs, numbers) == ["pending"]
    fs.files.release(handle)


def test_two_purges_that_wait_for_the_kernel_hold_up_no_third(fs: InProcess) -> None:
    numbers = removed(fs, b"1", b"2", b"3")
    inos = {one.ino for one in fs.pending()[:2]}
    fs.filesystem.is_referenced = lambda ino: ino in inos
    for number in numbers:
        purge(fs, number)
    look(fs)
    assert states(fs, numbers) == ["ongoing", "ongoing", "complete"]
    fs.filesystem.is_referenced = lambda ino: False
    look(fs)
    assert states(fs, numbers) == ["complete"] * 3


def test_a_selector_takes_what_it_says() -> None:
    from fusefs.model.entry import Cause, Entry

    one = Entry(
        5, 9, stat.S_IFREG, 3, b"n", b"n", 0, b"", 0, Cause.UNLINK, State.PENDING, (),
        since_ns=100, deadline_ns=200, batch=4,
    )  # fmt: skip
    for selector, is_taken in (
        (Selector((5,)), True),
        (Selector((6,)), False),
        (Selector(upto=5), True),
        (Selector(upto=4), False),
        (Selector(upto=9, batch=4), True),
        (Selector(upto=9, batch=3), False),
        (Selector(upto=9, before_ns=101), True),
        (Selector(upto=9, before_ns=100), False),
        (Selector((5,), due_ns=200), True),
        (Selector((5,), due_ns=199), False),
    ):
        assert selector.takes(one) is is_taken, selector


def test_restoring_what_a_purge_has_is_refused(fs: InProcess) -> None:
    (number,) = removed(fs, b"file")
    purge(fs, number)
    fs.filesystem.purger.step(fs.filesystem.purger.jobs()[0].number)
    answer = trio.run(TrashDesk(fs.filesystem).restore, RestoreArguments([number]), 0)
    assert [failed["class"] for failed in answer["failed"]] == [WrongState.__name__]
    assert fs.names() == []


def test_a_purge_by_another_user_runs_as_that_user(fs: InProcess) -> None:
    fs.caller = Caller(7, 7, 2**22 + 1)
    fs.write(b"file", b"content")
    fs.unlink(b"file")
    (one,) = fs.pending()
    assert one.uid == 7
    purge(fs, one.batch, uid=8)
    work(fs)
    assert states(fs, [one.number]) == ["pending"]
    purge(fs, one.batch, uid=7)
    work(fs)
    assert states(fs, [one.number]) == ["complete"]


def test_deeper_than_any_stack_is_purged(fs: InProcess) -> None:
    parent = top = fs.mkdir(b"top").ino
    for _ in range(1200):
        parent = fs.tree.make(parent, b"d", stat.S_IFDIR | 0o755, fs.caller).ino
    fs.tree.make(parent, b"file", stat.S_IFREG | 0o644, fs.caller)
    fs.tree.unlink(parent, b"file", fs.caller)
    while parent != top:
        parent = fs.tree.inode(parent).parent
        fs.tree.rmdir(parent, b"d", fs.caller)
    fs.rmdir(b"top")
    fs.filesystem.purger.ask(Selector(numbers=(fs.pending()[-1].number,)), "test", 0)
    while fs.filesystem.purging.step():
        pass
    assert list(fs.trash.entries()) == []
    assert fs.filesystem.purger.jobs() == []
