"""The end of what was removed: by hand and by itself, through stops, crashes and failures."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.conftest import COMMAND_TIMEOUT_S, Mounted, fusefs, run_fusefs
from tests.stops import stopped
from tests.system.test_bad_input import assert_refused
from tests.system.test_events import let_in, next_event
from tests.system.trashcan import TrashCan, look, remove, until

pytestmark = pytest.mark.mount
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs to be root")

MIB = 1 << 20
PENDING, ONGOING = "delete-pending", "delete-ongoing"
ERROR, COMPLETE = "delete-error", "delete-complete"
#: The library by which a program sees another date; of Debian's package faketime.
#: Of the Debian package faketime, as tools/setup-env installs it.
FAKETIME = "/usr/$LIB/faketime/libfaketime.so.1"


@pytest.fixture
def top(mounted: Mounted) -> Path:
    return mounted.mnt


@pytest.fixture
def can(mounted: Mounted) -> TrashCan:
    return TrashCan(mounted.mnt)


def remove_many(top: Path, count: int) -> None:
    for number in range(count):
        remove(top / f"file {number}", f"{number}")


def assert_sound(mounted: Mounted) -> None:
    mounted.umount()
    assert json.loads(fusefs("fsck", "--json", "--read-data", mounted.store))["problems"] == []


# -- by itself


def test_what_is_old_enough_goes_by_itself(top: Path, can: TrashCan) -> None:
    remove(top / "file", Random(1).randbytes(3 * MIB))
    number = can.id_of("file")
    assert can.space()["trash_bytes"] == 3 * MIB
    can.set("keep=2s")
    until(lambda: not can.lines())
    space = can.space()
    assert (space["trash_bytes"], space["stored_bytes"]) == (0, 0)
    (entry,) = can.history("--id", number)
    begun, ended = (datetime.fromisoformat(entry["history"][n]["time"]) for n in (0, -1))
    assert (ended - begun).total_seconds() >= 2
    assert can.states(number) == [PENDING, ONGOING, COMPLETE]
    assert list((top / ".trash").iterdir()) == []


def test_time_goes_on_while_nothing_is_mounted(mounted: Mounted, top: Path, can: TrashCan) -> None:
    (top / "file").touch()
    file = os.open(top / "file", os.O_RDONLY)
    (top / "file").unlink()
    can.set("keep=3s")
    due = until(lambda: _in_a_minute(can.lines()[0]["purge_at"]))
    mounted.kill()  # while it is open: until then it stays, however long that takes
    with suppress(OSError):
        os.close(file)
    offline = TrashCan(mounted.store)
    assert [entry["state"] for entry in offline.history()] == [PENDING]
    until(lambda: time.time() > due)
    mounted.mount()
    until(lambda: not can.lines())
    assert [entry["state"] for entry in can.history()] == [COMPLETE]


def _in_a_minute(moment: str) -> float:
    """It as seconds; 0 if it is later than that."""
    due = datetime.fromisoformat(moment).timestamp()
    return due if due < time.time() + 61 else 0


def test_a_change_of_retention_is_for_what_is_there_as_well(top: Path, can: TrashCan) -> None:
    remove(top / "file")
    (entry,) = can.lines()
    deleted = datetime.fromisoformat(entry["deleted_at"])

    def days_kept() -> float | None:
        (entry,) = can.lines()
        if entry["purge_at"] is None:
            return None
        kept = datetime.fromisoformat(entry["purge_at"]) - deleted
        return round(kept.total_seconds() / 86400, 2)

    assert days_kept() == 7
    for keep, days in (("30d", 30), ("forever", None), ("12h", 0.5)):
        can.set(f"keep={keep}")
        until(lambda days=days: days_kept() == days)
    can.set("keep=1s")
    until(lambda: not can.lines())


def test_a_wrong_clock_purges_nothing_early(
    mounted: Mounted, tmp_path: Path, can: TrashCan
) -> None:
    """Set while the daemon runs, and over its restart. What is due by a rule of its own shows that
    the trash has looked at its deadlines."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    faked = {
        "LD_PRELOAD": FAKETIME,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    mounted.remount(**faked)
    can.set("keep=1h")
    (mounted.mnt / "short").mkdir()
    look("trash", "policy", "--json", mounted.mnt / "short", "set", "1s")
    remove(mounted.mnt / "kept")
    for number, (offset, is_restarted) in enumerate(
        [("+300d", False), ("-300d", False), ("+600d", True), ("+0", True)]
    ):
        clock.write_text(offset)
        if is_restarted:
            mounted.remount(**faked)
        remove(mounted.mnt / f"short/{number}")
        until(lambda: len(can.ids()) == 1)
        assert can.entry("kept")["state"] == PENDING
    months = {stamp["time"][:7] for entry in can.history() for stamp in entry["history"]}
    assert len(months) >= 4, "the clock that was to be wrong was not"


# -- asked for


def test_a_purge_returns_at_once_and_leaves_room_for_others(top: Path, can: TrashCan) -> None:
    """Others are done while purges still run; more of these are asked for until that was seen."""
    jobs: list[Any] = []
    with let_in("purge-job", top) as process:
        between = 0
        while between < 4:
            if not can.space()["purges_running"]:
                remove_many(top, 1500)
                ids = can.ids()
                for part in range(0, 1500, 500):
                    waiting = ids[part : part + 500]
                    said = look("trash", "purge", "--no-wait", "--json", top, *waiting)
                    jobs.append(said["job"])
            with (top / "foreground").open("ab") as file:
                file.write(b"x" * 4096)
                os.fsync(file.fileno())
            running = can.space()["purges_running"]
            assert running <= 2
            between += running > 0
        over = [next_event(process) for _ in jobs]
    assert len(set(jobs)) == len(jobs)
    assert [event["job"] for event in over] == jobs
    assert sum(event["done"] for event in over) == 500 * len(jobs)
    assert can.lines() == []


def test_many_purges_of_one_entry_are_one(top: Path, can: TrashCan) -> None:
    """Also while it waits for its turn behind others."""
    remove_many(top, 800)
    others = can.ids()
    remove(top / "file")
    number = can.id_of("file")
    with ThreadPoolExecutor(20) as threads:
        waiting = ("trash", "purge", "--no-wait", "--json", top)
        for part in (others[:400], others[400:]):
            look(*waiting, *part)
        (job,) = {look(*waiting, number)["job"] for _ in range(5)} - {None}  # once it is gone
        asked = [
            threads.submit(run_fusefs, "trash", "purge", "--json", top, number) for _ in range(20)
        ]
    done = [one.result() for one in asked]
    assert {(one.returncode, one.stderr) for one in done} == {(0, "")}
    assert {json.loads(one.stdout)["job"] for one in done} <= {job, None}
    fusefs("trash", "purge", top, number)  # gone by now, and a success
    events = [json.loads(line) for line in fusefs("events", top).splitlines()]
    told = [event["kind"] for event in events if event.get("job") == job]
    assert told == ["purge", "purge-job"]
    assert sum(event["kind"] == "purge-job" for event in events) <= 3
    assert can.states(number) == [PENDING, ONGOING, COMPLETE]


@needs_root
def test_what_a_user_leaves_behind_is_purged_with_him(mounted: Mounted, can: TrashCan) -> None:
    """By the owner of each file, whoever removed it; what is open comes with the next purge."""
    top = mounted.mnt
    for name in ("hers 1", "hers 2", "hers open", "his", "hers gone"):
        (top / name).write_bytes(Random(name).randbytes(MIB))
        os.chown(top / name, 1000 if name == "his" else 1234, 0)
    with (top / "hers open").open("rb") as file:
        for path in list(top.iterdir()):
            path.unlink()
        fusefs("trash", "purge", top, can.id_of("hers gone"))
        gone = can.history("--path", "hers gone")
        done = run_fusefs("trash", "purge", "--owner", "1234", top)
        assert (done.returncode, done.stdout) == (3, "purged 2 entries\n")
        assert "1 stay because they are in use" in done.stderr
        assert len(file.read()) == MIB
    assert can.history("--path", "hers gone") == gone
    assert fusefs("trash", "purge", "--owner", "1234", top) == "purged 1 entry\n"
    assert fusefs("trash", "purge", "--owner", "1234", top) == "purged 0 entries\n"
    assert [one["original_path"] for one in can.lines("--all")] == ["/his"]
    fusefs("gc", top)
    assert can.space()["stored_bytes"] == MIB
    assert_refused(run_fusefs("trash", "purge", "--owner", "no one", top), 2, "no one")
    assert_sound(mounted)


def test_rm_in_the_trash_is_for_good(top: Path, can: TrashCan) -> None:
    for name in ("file", "other"):
        remove(top / name)
    number = can.id_of("file")
    path = top / can.entry("file")["trash_path"].lstrip("/")
    subprocess.run(["rm", path], check=True)
    until(lambda: len(can.ids()) == 1)
    assert can.states(number) == [PENDING, ONGOING, COMPLETE]
    assert [one["original_path"] for one in can.lines()] == ["/other"]


# -- space


def test_space_is_counted_apart(top: Path, can: TrashCan) -> None:
    for name, size in (("kept", 2 * MIB), ("gone", 3 * MIB)):
        with (top / name).open("wb") as file:
            file.write(Random(name).randbytes(size))
            os.fsync(file.fileno())

    def space() -> tuple[int, ...]:
        record = look("df", "--json", top)
        status = can.space()
        names = ("live_bytes", "trash_bytes", "trash_entries", "stored_bytes", "garbage_bytes")
        assert [record[name] for name in names] == [status[name] for name in names]
        return tuple(record[name] for name in names)

    assert space() == (5 * MIB, 0, 0, 5 * MIB, 0)
    (top / "gone").unlink()
    assert space() == (2 * MIB, 3 * MIB, 1, 5 * MIB, 0)
    assert "3.0 MiB in 1 entry" in fusefs("df", top)
    fusefs("trash", "restore", top / "gone")
    assert space() == (5 * MIB, 0, 0, 5 * MIB, 0)
    (top / "gone").unlink()
    fusefs("trash", "empty", top)
    live, trashed, entries, stored, garbage = space()
    assert (live, trashed, entries, stored) == (2 * MIB, 0, 0, 2 * MIB)
    assert garbage >= 3 * MIB


# -- stops and crashes


def test_a_stop_in_a_purge_is_no_error(mounted: Mounted, top: Path, can: TrashCan) -> None:
    remove_many(top, 2000)
    mounted.remount(FUSEFS_FAILPOINTS="purge.freed=9:stop")
    fusefs("trash", "empty", "--no-wait", top)
    with stopped(mounted.pid):
        os.kill(mounted.pid, signal.SIGTERM)
    mounted.wait_for_end()
    between = Counter(entry["state"] for entry in TrashCan(mounted.store).history())
    assert between.keys() <= {PENDING, ONGOING, COMPLETE}
    assert between[COMPLETE] > 0
    assert between[PENDING] + between[ONGOING] > 0
    mounted.mount()
    until(lambda: not can.lines())
    history = can.history()
    assert len(history) == 2000
    for entry in history:
        states = [stamp["state"] for stamp in entry["history"]]
        assert states == [PENDING, ONGOING, COMPLETE]
    assert can.space()["purges_running"] == 0
    assert_sound(mounted)


def test_a_crash_in_a_purge_spares_what_lives(mounted: Mounted, top: Path, can: TrashCan) -> None:
    """Every purged file has its blocks in common with one that stays."""
    (top / "live").mkdir()
    contents = [Random(number % 50).randbytes(20_000 + number) for number in range(400)]
    for number, content in enumerate(contents):
        (top / f"live/{number}").write_bytes(content)
        remove(top / f"{number}", content)
    remove(top / "kept")
    number = can.id_of("kept")
    mounted.remount(FUSEFS_FAILPOINTS="purge.freed=4:kill")
    fusefs("trash", "purge", "--no-wait", top, *(one for one in can.ids() if one != number))
    mounted.wait_for_end()
    mounted.mount()
    until(lambda: can.ids() == [number])
    states = Counter(entry["state"] for entry in can.history())
    assert states == {COMPLETE: 400, PENDING: 1}
    look("gc", "--json", top)
    for index, content in enumerate(contents):
        assert (top / f"live/{index}").read_bytes() == content
    fusefs("trash", "restore", top / "kept")
    assert (top / "kept").read_text() == "content"
    assert_sound(mounted)


def test_old_history_is_forgotten_also_over_a_crash(
    mounted: Mounted, top: Path, can: TrashCan
) -> None:
    remove_many(top, 1000)
    fusefs("trash", "empty", top)
    remove(top / "kept")
    assert len(can.history()) == 1001
    # The clean-up is under way when an act of it is the last thing that the daemon does.
    mounted.remount(FUSEFS_FAILPOINTS="history.cleaned=2:kill")
    run_fusefs("trash", "policy", top, "set", "history=2s")
    mounted.wait_for_end()
    left = len(TrashCan(mounted.store).history())
    assert 1 < left < 1001
    mounted.mount()
    until(lambda: len(can.history()) == 1)
    assert can.history()[0]["state"] == PENDING
    fusefs("trash", "restore", top / "kept")
    assert_sound(mounted)


# -- failures


@contextmanager
def immutable_log(store: Path) -> Iterator[None]:
    """The disk refuses what is appended to the log."""
    newest = max((store / "segments").iterdir())
    done = subprocess.run(["chattr", "+i", newest], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"chattr: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", newest], check=True)


@needs_root
def test_a_failure_is_recorded_and_can_be_retried(
    mounted: Mounted, top: Path, can: TrashCan
) -> None:
    mounted.expected = ["append failed", "cannot purge", "purging waits"]
    for name in ("a", "b", "other"):
        remove(top / name)
    ids = [can.id_of("a"), can.id_of("b")]
    with let_in("purge", top) as process:
        with immutable_log(mounted.store):
            done = run_fusefs("trash", "purge", top, *ids)
            assert_refused(done, 1, "append failed", os.strerror(1))
            for name in ("a", "b"):
                entry = can.entry(name)
                assert (entry["state"], "append failed" in entry["error"]) == (ERROR, True)
                assert entry["errno"] > 0
            assert "error: " in fusefs("trash", "list", "--all", top)
            assert can.entry("other")["state"] == PENDING
        # Without a retry it is told to the store, and then it is refused like any error.
        until(lambda: all(can.states(number)[-1] == ERROR for number in ids))
        assert_refused(run_fusefs("trash", "restore", top, ids[0]), 34, "/a", f"is {ERROR}")
        assert fusefs("trash", "purge", top, *ids) == "purged 2 entries\n"
        events = [next_event(process) for _ in range(4)]
    for number in ids:
        assert can.states(number) == [PENDING, ONGOING, ERROR, ONGOING, COMPLETE]
        told = [event["state"] for event in events if str(event["entry"]) == number]
        assert told == [ERROR, COMPLETE]
    assert [one["original_path"] for one in can.lines()] == ["/other"]
    assert_sound(mounted)


@needs_root
def test_every_end_of_a_purge_is_told_once(mounted: Mounted, top: Path, can: TrashCan) -> None:
    """80 files, 20 of which fail at first: 100 ends."""
    mounted.expected = ["append failed", "cannot purge", "purging waits"]
    remove_many(top, 80)
    ids = can.ids()
    failing = set(map(int, ids[30:50]))
    with let_in("purge", top) as process:
        fusefs("trash", "purge", top, *ids[:30])
        with immutable_log(mounted.store):
            assert run_fusefs("trash", "purge", top, *ids[30:50]).returncode == 1
        fusefs("trash", "purge", top, *ids[30:])
        mounted.umount()
        assert process.stdout is not None
        events = [json.loads(line) for line in process.stdout]
        assert process.wait(COMMAND_TIMEOUT_S) == 0
    assert len(events) == 100
    ends = Counter((event["entry"], event["state"]) for event in events)
    assert set(ends.values()) == {1}
    assert {number for number, state in ends if state == ERROR} == failing
    assert {str(number) for number, state in ends if state == COMPLETE} == set(ids)
    numbers = [event["number"] for event in events]
    assert numbers == sorted(numbers)
