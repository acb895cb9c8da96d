"""A process that is killed at any step of the log's life loses nothing that it had said."""

import os
import re
import shutil
import signal
from itertools import islice
from pathlib import Path

import pytest

from fusefs.config.options import StoreOptions
from fusefs.errors import StoreDamaged
from fusefs.fsck.check import check
from fusefs.store.store import Store
from tests import launcher
from tests.conftest import COMMAND_TIMEOUT_S
from tests.crash.acts import COUNT, Contents, acts, content
from tests.launcher import Call
from tests.system.test_clone import CLONING
from tests.system.test_sync import PUBLISHING
from tests.unit import invariants
from tests.unit.clocks import ManualClock
from tests.unit.daemon.test_evicting import EVICTING
from tests.unit.inprocess import InProcess
from tests.unit.transfers.test_ends import LEAST_HITS, MOVES

ROOT = Path(__file__).resolve().parents[2]

#: Where victims die while they act, and the how manieth time.
ACTING = {
    "log.append": (1, 2, 3, 17, 60),
    "log.appended": (1, 2, 3, 17, 60),
    "log.open": (1, 2, 4),
    "log.seal": (1, 3),
    "log.sync": (1, 3, 5),
    "checkpoint.begin": (1, 3),
    "checkpoint.commit": (1, 3),
    "checkpoint.committed": (1, 3),
    "collect.rolled": (1, 3),
    "collect.read": (1, 3),
    "collect.moved": (1, 3),
    "collect.snapshot": (1, 2, 3),
    "collect.delete": (1, 3),
    "collect.deleted": (1, 3),
    "purge.asked": (1, 2),
    "purge.begun": (1, 2),
    "purge.freed": (1, 2),
    "purge.ended": (1, 2),
    "restore.moved": (1, 2, 3),
    "restore.parent": (1, 2),
    "revive.step": (1, 2),
    "replan.step": (1, 2, 3),
    "history.cleaned": (1, 2),
}
#: Where they die while they recover.
RECOVERING = {
    "recovery.record": (1, 2, 30),
    "recovery.cut": (1, 2, 3),
    "checkpoint.begin": (1,),
    "checkpoint.commit": (1,),
    "checkpoint.committed": (1,),
    "log.sync": (1,),
}
#: Where they die while they make the index anew.
REBUILDING = {
    "rebuild.begun": (1,),
    "rebuild.batch": (1, 40),
    "checkpoint.commit": (1, 2),
    "checkpoint.committed": (1, 2),
    "rebuild.made": (1,),
    "rebuild.set_aside": (1,),
    "rebuild.placed": (1,),
}
#: Where they die while they repair.
REPAIRING = {
    "repair.act": (1, 3),
    "repair.moved": (1, 3),
    "log.append": (1, 5),
    "checkpoint.committed": (1,),
    "collect.snapshot": (1,),
    "repair.set_aside": (1, 2),
}
#: Where they die while they verify all blocks.
SCRUBBING = {
    "scrub.saved": (1, 2),
    "scrub.read": (1, 3),
    "scrub.forgot": (1,),
    "scrub.recorded": (1, 2),
}


def pairs(table: dict[str, tuple[int, ...]]) -> list[tuple[str, int]]:
    return [(name, count) for name, counts in table.items() for count in counts]


def run(store: Path, plan: str, *arguments: str) -> tuple[int, int]:
    """(return code, number of acts that returned) of a victim."""
    call = Call([str(store), plan, *arguments], os.environ, str(ROOT), program="tests.crash.acts")
    done = launcher.run(call, timeout_s=COMMAND_TIMEOUT_S)
    assert "Traceback" not in done.stderr, done.stderr
    said = re.findall(r"^(\d+)$", done.stdout, re.MULTILINE)
    assert [int(number) for number in said] == list(range(len(said)))
    return done.returncode, len(said)


def found_in(fs: InProcess) -> Contents:
    return {path: data for path, data in fs.tree_below().items() if data is not None}


def check_acknowledged(fs: InProcess, count: int) -> None:
    """The first `count` acts have happened; the next may have, in part; no other has."""
    expected: Contents = {}
    for _, _, change in islice(acts(), count):
        change(expected)
    found = found_in(fs)
    touched, _, change = next(islice(acts(), count, None))
    after = dict(expected)
    change(after)
    in_between = {path for path in expected | after if expected.get(path) != after.get(path)}
    in_between.add(touched)
    for path in expected | found:
        if path not in in_between:
            assert found.get(path) == expected.get(path), path
    for path in in_between & found.keys():  # an unfinished write: a hole yet, or all
        data = found[path]
        assert data in (expected.get(path), after.get(path), b"", bytes(len(data)))
    for path in in_between & expected.keys() & after.keys():
        assert path in found


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    Store.init(path, StoreOptions(), clock=ManualClock())
    return path


def test_every_failpoint_of_the_source_is_tried() -> None:
    source = "".join(path.read_text() for path in (ROOT / "fusefs").rglob("*.py"))
    names = set(re.findall(r"failpoints\.hit\(\"([\w.-]+)\"\)", source))
    tables = (ACTING, RECOVERING, REBUILDING, REPAIRING, SCRUBBING)
    here = {name for table in tables for name in table}
    elsewhere = {*LEAST_HITS, *MOVES, *EVICTING, *PUBLISHING, *CLONING}
    assert names == here | elsewhere
    assert source.count("failpoints.hit(") == len(re.findall(r"failpoints\.hit\(\"", source))


def test_nobody_is_killed_without_a_plan(store: Path) -> None:
    assert run(store, "") == (0, COUNT)
    fs = InProcess(store, ManualClock())
    check_acknowledged(fs, COUNT)
    invariants.check(fs.store)
    fs.close()


@pytest.mark.parametrize(("name", "count"), pairs(ACTING))
def test_what_was_said_is_there_after_a_kill(store: Path, name: str, count: int) -> None:
    code, said = run(store, f"{name}={count}:kill")
    assert code == -signal.SIGKILL, "the failpoint was not hit"
    assert said < COUNT
    fs = InProcess(store, ManualClock())
    assert fs.store.replay.cut_bytes == 0
    if said or fs.tree.lookup(1, b"dir"):
        check_acknowledged(fs, said)
    invariants.check(fs.store)
    fs.write(b"after", b"and it goes on")
    fs.remount()
    assert fs.read(b"after") == b"and it goes on"
    invariants.check(fs.store)
    fs.close()


def test_one_store_survives_one_kill_after_the_other(store: Path) -> None:
    """Each victim finds what the one before left, and dies a little later."""
    for name, counts in ACTING.items():
        code, _ = run(store, f"{name}={counts[-1] + 2}:kill")
        assert code in (-signal.SIGKILL, 0)
        fs = InProcess(store, ManualClock())
        invariants.check(fs.store)
        for path in found_in(fs):  # room for the next: its acts are the same
            fs.unlink(path)
        fs.close()


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose index is far behind, with damage in the second segment of its log's end."""
    path = tmp_path_factory.mktemp("torn") / "store"
    fs = InProcess(path, ManualClock())
    fs.mkdir(b"dir")
    for number in range(4):
        for inner in range(10):
            fs.write(b"dir/%d %d" % (number, inner), b"%d %d" % (number, inner) * 1000)
        if number < 3:
            fs.store.seal()
    fs.store.abandon()
    second = path / "segments" / f"{2:016x}"
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    return path


@pytest.mark.parametrize(("name", "count"), pairs(RECOVERING))
def test_a_recovery_that_is_killed_is_made_by_the_next(
    torn: Path, tmp_path: Path, name: str, count: int
) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    shutil.copytree(torn, undisturbed)
    shutil.copytree(torn, killed)
    code, _ = run(killed, f"{name}={count}:kill", "-")
    assert code == -signal.SIGKILL, "the failpoint was not hit"
    one, other = (InProcess(path, ManualClock()) for path in (undisturbed, killed))
    assert 10 < len(found_in(one)) < 20
    assert found_in(other) == found_in(one)
    assert invariants.rows_in_index(other.store) == invariants.rows_in_index(one.store)
    for fs in (one, other):
        invariants.check(fs.store)
        fs.close()
    kept, kept_too = (
        {file.name: file.read_bytes() for file in (path / "cut").iterdir()}
        for path in (undisturbed, killed)
    )
    assert len(kept) == 3
    assert kept_too == kept


@pytest.fixture(scope="module", params=["the log", "a snapshot"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was killed, with or without a past that only its snapshot knows."""
    path = tmp_path_factory.mktemp("whole") / "store"
    fs = InProcess(path, ManualClock())
    fs.mkdir(b"dir")
    for number in range(40):
        fs.write(b"dir/%d" % number, content(number))
        if number % 10 == 9:
            fs.store.seal()
    if request.param == "a snapshot":
        for number in range(0, 40, 3):
            fs.unlink(b"dir/%d" % number)
        for entry in list(fs.trash.entries()):
            fs.unlink(fs.trash.path_in_trash(entry))
        while fs.reap():
            pass
        assert fs.collect().segments
        for number in range(100, 150):
            fs.write(b"dir/%d" % number, content(number))
    fs.store.abandon()
    return path


@pytest.mark.parametrize(("name", "count"), pairs(REBUILDING))
@pytest.mark.parametrize("has_index", [True, False])
def test_a_rebuild_that_is_killed_leaves_the_old_index_or_says_so(
    whole: Path, tmp_path: Path, name: str, count: int, has_index: bool
) -> None:
    """And the next one makes it whole."""
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    shutil.copytree(whole, undisturbed)
    shutil.copytree(whole, killed)
    if not has_index:
        shutil.rmtree(killed / "index")
    code, _ = run(killed, f"{name}={count}:kill", "rebuild")
    assert code == -signal.SIGKILL, "the failpoint was not hit"
    one = InProcess(undisturbed, ManualClock())
    for is_repeated in (False, True):
        if is_repeated:
            assert run(killed, "", "rebuild")[0] == 0
        elif (name == "rebuild.set_aside" or not has_index) and name != "rebuild.placed":
            with pytest.raises(StoreDamaged, match="fusefs rebuild"):
                Store.open(killed, clock=ManualClock())
            continue
        other = InProcess(killed, ManualClock())
        assert found_in(other) == found_in(one)
        assert invariants.rows_in_index(other.store) == invariants.rows_in_index(one.store)
        invariants.check(other.store)
        other.store.abandon()
    one.close()


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with damaged blocks in two segments."""
    path = tmp_path_factory.mktemp("damaged") / "store"
    fs = InProcess(path, ManualClock())
    fs.mkdir(b"dir")
    for number in range(12):
        fs.write(b"dir/%d" % number, content(number + 1))
        if number % 4 == 3:
            fs.store.seal()
    fs.close()
    for number in (1, 3):
        file = path / "segments" / f"{number:016x}"
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    return path


@pytest.mark.parametrize(("name", "count"), pairs(REPAIRING))
def test_a_repair_that_is_killed_is_ended_by_the_next(
    damaged: Path, tmp_path: Path, name: str, count: int
) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    shutil.copytree(damaged, undisturbed)
    shutil.copytree(damaged, killed)
    assert len(check(damaged, True).problems) == 2
    assert run(undisturbed, "", "repair")[0] == 0
    code, _ = run(killed, f"{name}={count}:kill", "repair")
    assert code == -signal.SIGKILL, "the failpoint was not hit"
    assert run(killed, "", "repair")[0] == 0
    one, other = check(undisturbed, True), check(killed, True)
    assert one.problems == other.problems == ()
    assert one.known == other.known
    assert len(one.known) == 2
    fs = InProcess(killed, ManualClock())
    invariants.check(fs.store)
    fs.close()


@pytest.mark.parametrize(("name", "count"), pairs(SCRUBBING))
def test_a_scrub_that_is_killed_is_ended_by_the_next(
    damaged: Path, tmp_path: Path, name: str, count: int
) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    shutil.copytree(damaged, undisturbed)
    shutil.copytree(damaged, killed)
    assert run(undisturbed, "", "scrub")[0] == 0
    code, _ = run(killed, f"{name}={count}:kill", "scrub")
    assert code == -signal.SIGKILL, "the failpoint was not hit"
    assert run(killed, "", "scrub")[0] == 0
    one, other = (InProcess(path, ManualClock()) for path in (undisturbed, killed))
    assert len(one.corruptions()) == 2
    assert other.corruptions() == one.corruptions()
    assert other.filesystem.scrubbing.record() == one.filesystem.scrubbing.record()
    for fs in (one, other):
        fs.close()
    report = check(killed, False)
    assert (report.problems, len(report.known)) == ((), 2)
