"""A collection that is killed at any step loses nothing, and the next one gives all space back."""

import random
import shutil
import signal
from pathlib import Path

import pytest

from fusefs.store.margins import DEFAULT
from tests.crash.acts import Contents
from tests.crash.test_failpoints import found_in, pairs, run
from tests.unit import invariants
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess

#: Where it dies, and the how manieth time.
STEPS = {
    "log.seal": (1,),
    "log.open": (1,),
    "collect.rolled": (1,),
    "collect.read": (1, 3),
    "log.append": (1, 2, 3, 5),
    "log.appended": (1, 2, 3, 5),
    "collect.moved": (1, 3, 5),
    "log.sync": (1, 2),
    "checkpoint.begin": (1,),
    "checkpoint.commit": (1,),
    "checkpoint.committed": (1,),
    "collect.snapshot": (1,),
    "collect.delete": (1, 3),
    "collect.deleted": (1, 3),
}
SEGMENTS = 6
FILE_SIZE = 100_000


def excess(fs: InProcess) -> float:
    """What the segments are larger than the blocks that something needs, as a part of these."""
    size = sum(path.stat().st_size for path in (fs.path / "segments").iterdir())
    return size / fs.store.totals.stored_bytes - 1


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Contents]:
    """A store whose segments hold files of use beside purged ones, in every proportion and in the
    newest too; and what is in the former."""
    path = tmp_path_factory.mktemp("mixed") / "store"
    fs = InProcess(path, ManualClock())
    fs.mkdir(b"dir")
    kept: Contents = {}
    gone = []
    for number in range(SEGMENTS):
        for inner in range(8):
            name = b"dir/%d %d" % (number, inner)
            data = random.Random(name).randbytes(FILE_SIZE)
            fs.write(name, data)
            if inner < number + 1:
                kept[name] = data
            else:
                gone.append(name)
        if number < SEGMENTS - 2:
            fs.store.seal()
        if number == 2:
            fs.store.checkpoint()  # the others are newer than the index
    for name in gone:
        fs.unlink(name)
    for entry in list(fs.trash.entries()):
        fs.unlink(fs.trash.path_in_trash(entry))
    while fs.reap():
        pass
    assert excess(fs) > 0.9
    fs.store.abandon()
    return path, kept


@pytest.mark.parametrize(("name", "count"), pairs(STEPS))
def test_it_is_made_by_the_next(
    mixed: tuple[Path, Contents], tmp_path: Path, name: str, count: int
) -> None:
    path, kept = tmp_path / "store", mixed[1]
    shutil.copytree(mixed[0], path)
    code, _ = run(path, f"{name}={count}:kill", "gc")
    assert code == -signal.SIGKILL, "the failpoint was not hit"
    fs = InProcess(path, ManualClock())
    assert fs.store.replay.cut_bytes == 0
    invariants.check(fs.store)
    assert found_in(fs) == kept
    fs.collect(DEFAULT)
    assert excess(fs) <= 0.05
    invariants.check(fs.store)
    fs.crash()
    invariants.check(fs.store)
    assert found_in(fs) == kept
    fs.close()
