"""What is removed in one go is one batch: one line of the list, one act to take it back."""

from typing import Any

import pytest
import trio

from fusefs.base import failpoints
from fusefs.daemon.trash_desk import ListArguments, PurgeArguments, RestoreArguments, TrashDesk
from fusefs.errors import DiskFull, NoSuchEntry
from fusefs.model.batch import RemovalBatch
from fusefs.model.entry import State
from fusefs.trash.removers import BATCH_PAUSE_S
from fusefs.tree.removal import Caller
from tests.unit.inprocess import InProcess

ONE, OTHER = Caller(0, 0, 2**22 + 1), Caller(0, 0, 2**22 + 2)


def remove(fs: InProcess, *paths: bytes, caller: Caller = ONE, make: bool = True) -> None:
    for path in paths:
        if make:
            fs.write(path, path)
        fs.caller = caller
        fs.unlink(path)


def batches(fs: InProcess) -> list[RemovalBatch]:
    return list(fs.trash.ledger.batches())


def restore(fs: InProcess, *targets: int | bytes, uid: int = 0, **more: Any) -> dict[str, Any]:
    arguments = RestoreArguments(list(targets), **more)
    return trio.run(TrashDesk(fs.filesystem).restore, arguments, uid)


def lines(fs: InProcess, **more: Any) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = trio.run(
        TrashDesk(fs.filesystem).listing, ListArguments(**more), 0
    )["records"]
    return records


def remove_tree(fs: InProcess, top: bytes, caller: Caller = ONE) -> dict[bytes, bytes | None]:
    """Make and remove: top/a/x, top/b/y, top/z."""
    for path in (top, top + b"/a", top + b"/b"):
        fs.mkdir(path)
    files = [top + path for path in (b"/a/x", b"/b/y", b"/z")]
    for path in files:
        fs.write(path, path)
    before = {top: None} | fs.tree_below(top)
    fs.caller = caller
    for path in files:
        fs.unlink(path)
    for path in (top + b"/a", top + b"/b", top):
        fs.rmdir(path)
    return before


def test_one_process_without_pauses_is_one_batch(fs: InProcess) -> None:
    for number in range(5):
        remove(fs, b"%d" % number)
        fs.clock.advance(BATCH_PAUSE_S - 0.1)
    (one,) = batches(fs)
    assert (one.pending, one.entries, one.size_bytes) == (5, 5, 5)
    assert [found.batch for found in fs.pending()] == [one.number] * 5


def test_a_pause_another_process_and_another_user_are_batches_of_their_own(fs: InProcess) -> None:
    remove(fs, b"1")
    fs.clock.advance(BATCH_PAUSE_S)
    remove(fs, b"2")
    remove(fs, b"3", caller=OTHER)
    remove(fs, b"4", caller=Caller(7, 7, ONE.pid))
    remove(fs, b"5", caller=Caller(7, 7, ONE.pid))
    assert [one.entries for one in batches(fs)] == [1, 1, 1, 2]
    assert [one.uid for one in batches(fs)] == [0, 0, 0, 7]


def test_two_processes_at_a_time_do_not_mix(fs: InProcess) -> None:
    for number in range(6):
        remove(fs, b"%d" % number, caller=(ONE, OTHER)[number % 2])
    first, second = batches(fs)
    assert [one.origin for one in fs.trash.ledger.of_batch(first)] == [b"0", b"2", b"4"]
    assert [one.origin for one in fs.trash.ledger.of_batch(second)] == [b"1", b"3", b"5"]
    restore(fs, second.number)
    assert fs.names() == [b"1", b"3", b"5"]


@pytest.mark.parametrize(
    ("origins", "top", "is_whole"),
    [
        ([b"a/b/c"], b"a/b/c", True),
        ([b"a/b/c", b"a/b/d"], b"a/b", False),
        ([b"a/b/c", b"a/b"], b"a/b", True),
        ([b"a/b/c", b"a/b/d", b"a/b", b"a/e"], b"a", False),
        ([b"a/b", b"a/bc"], b"a", False),
        ([b"a", b"b"], b"", False),
        ([b"a", b"b", b"c/d"], b"", False),
    ],
)
def test_the_top_of_a_batch_is_what_all_of_it_was_in(
    origins: list[bytes], top: bytes, is_whole: bool
) -> None:
    one = RemovalBatch(1, 0, b"", origins[0], True, 0, 0)
    for origin in origins:
        one.takes(origin)
    assert (one.top, one.is_whole) == (top, is_whole)
    assert all(one.is_within(origin) for origin in origins)
    assert one.is_within(top + b"/more")


def test_a_removed_tree_is_one_line_and_comes_back_by_it(fs: InProcess) -> None:
    before = remove_tree(fs, b"dir")
    (line,) = lines(fs)
    assert (line["original_path"], line["kind"], line["entries"]) == ("/dir", "directory", 6)
    assert (line["state"], line["size"]) == ("delete-pending", sum(map(len, (
        data for data in before.values() if data
    ))))  # fmt: skip
    assert restore(fs, line["id"]) == {"restored": ["/dir"], "failed": []}
    assert fs.tree_below() == before
    assert lines(fs) == []
    assert batches(fs) == []


def test_a_batch_comes_back_by_any_of_its_entries(fs: InProcess) -> None:
    before = remove_tree(fs, b"dir")
    restore(fs, fs.pending()[1].number, is_batch=True)
    assert fs.tree_below() == before


def test_a_batch_can_come_back_elsewhere(fs: InProcess) -> None:
    before = remove_tree(fs, b"dir")
    answer = restore(fs, batches(fs)[0].number, to=b"/other/place")
    assert answer["failed"] == []
    moved = {path.replace(b"dir", b"other/place", 1): data for path, data in before.items()}
    assert fs.tree_below() == moved | {b"other": None}


def test_what_was_removed_before_stays_in_the_trash(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    remove(fs, b"dir/before", caller=OTHER)
    fs.clock.advance(60)
    remove(fs, b"dir/1", b"dir/2")
    fs.rmdir(b"dir")
    restore(fs, batches(fs)[1].number)
    assert fs.tree_below(b"dir") == {b"dir/1": b"dir/1", b"dir/2": b"dir/2"}
    assert [one.origin for one in fs.pending()] == [b"dir/before"]
    restore(fs, batches(fs)[0].number)
    assert fs.names(b"dir") == [b"1", b"2", b"before"]


def test_what_is_in_the_way_stays_and_is_named_and_the_rest_comes(fs: InProcess) -> None:
    remove(fs, b"1", b"2", b"3")
    fs.write(b"2", b"new")
    answer = restore(fs, batches(fs)[0].number)
    assert answer["restored"] == ["/1", "/3"]
    assert [(one["what"], one["class"]) for one in answer["failed"]] == [("2", "TargetExists")]
    assert fs.read(b"2") == b"new"
    assert [one.origin for one in fs.pending()] == [b"2"]
    fs.rename(b"2", b"2 new")
    assert restore(fs, batches(fs)[0].number)["restored"] == ["/2"]


def test_the_last_is_that_of_who_asks(fs: InProcess) -> None:
    remove(fs, b"1")
    fs.write(b"2", b"2")
    fs.tree.set_attributes(fs.at(b"2"), ONE, uid=7)
    remove(fs, b"2", caller=Caller(7, 7, OTHER.pid), make=False)
    assert restore(fs, is_last=True, uid=0)["restored"] == ["/1"]
    assert restore(fs, is_last=True, uid=7)["restored"] == ["/2"]
    with pytest.raises(NoSuchEntry, match="nothing that you removed"):
        restore(fs, is_last=True, uid=7)


def test_the_last_and_then_the_one_before(fs: InProcess) -> None:
    for number in range(3):
        remove(fs, b"file", caller=Caller(0, 0, ONE.pid + number))
        fs.clock.advance(60)
    assert restore(fs, is_last=True)["restored"] == ["/file"]
    assert restore(fs, is_last=True)["failed"][0]["class"] == "TargetExists"
    fs.rename(b"file", b"newest")
    assert restore(fs, is_last=True)["restored"] == ["/file"]


def test_a_batch_that_is_partly_purged_gives_back_the_rest(fs: InProcess) -> None:
    remove(fs, b"1", b"2", b"3")
    (one,) = batches(fs)
    first = fs.pending()[0].number
    trio.run(TrashDesk(fs.filesystem).purge, PurgeArguments([first]), 0)
    fs.filesystem.purger.step(fs.filesystem.purger.jobs()[0].number)
    assert [(one.pending, one.ongoing) for one in batches(fs)] == [(2, 1)]
    assert lines(fs)[0]["state"] == State.ONGOING.value
    assert restore(fs, one.number)["restored"] == ["/2", "/3"]
    while fs.filesystem.purging.step():
        pass
    assert batches(fs) == []


def test_nothing_is_left_of_a_batch_whose_only_removal_failed(fs: InProcess) -> None:
    fs.write(b"1", b"1")
    fs.caller = ONE
    failpoints.arm("log.append=1:ENOSPC")
    with pytest.raises(DiskFull):
        fs.unlink(b"1")
    failpoints.disarm()
    assert batches(fs) == []
    remove(fs, b"1", make=False)
    assert [one.entries for one in batches(fs)] == [1]


def test_after_all_of_it_came_back_the_same_process_begins_another(fs: InProcess) -> None:
    remove(fs, b"1")
    number = batches(fs)[0].number
    restore(fs, number)
    remove(fs, b"1", make=False)
    assert batches(fs)[0].number > number


def test_a_batch_goes_on_after_a_crash_as_another(fs: InProcess) -> None:
    remove(fs, b"1")
    fs.crash()
    remove(fs, b"2")
    assert [one.entries for one in batches(fs)] == [1, 1]


def test_a_list_by_pages_names_each_once(fs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusefs.daemon.trash_records._PAGE", 3)
    monkeypatch.setattr("fusefs.daemon.trash_records._LOOK", 4)
    for number in range(11):
        remove(fs, b"%02d" % number, caller=Caller(number % 2, 0, ONE.pid + number))
    for more in ({}, {"is_each": True}, {"uid": 1}, {"path": b"0*"}):
        found, after = [], 0
        while after is not None:
            arguments = ListArguments(after=after, **more)
            page = trio.run(TrashDesk(fs.filesystem).listing, arguments, 0)
            found += [record["original_path"] for record in page["records"]]
            after = page["next"]
        wanted = [f"/{number:02d}" for number in range(11)]
        if "uid" in more:
            wanted = wanted[1::2]
        if "path" in more:
            wanted = wanted[:10]
        assert found == wanted
