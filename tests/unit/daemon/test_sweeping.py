"""Old half-written files go to the trash, by a clock that cannot be set, and come back to stay."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from fusefs.daemon.sweeping import Swept
from fusefs.errors import WrongState
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess

MIB = 1 << 20
AGE_S = 100.0


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[InProcess]:
    """With a partial, `part`."""
    fs = InProcess(tmp_path / "store", ManualClock())
    leave(fs, b"part")
    yield fs
    fs.close()


def leave(fs: InProcess, name: bytes) -> None:
    """A partial of 2 MiB."""
    fs.make(name)
    fs.pwrite(fs.opened(name), 0, os.urandom(2 * MIB))
    fs.crash()


def swept(fs: InProcess, *, uid: int = 0, dry_run: bool = False) -> list[Swept]:
    return trio.run(lambda: fs.filesystem.sweeping.sweep(AGE_S, uid, dry_run=dry_run))


def test_only_what_is_old_enough(fs: InProcess) -> None:
    fs.clock.advance(AGE_S - 1)
    assert swept(fs) == []
    fs.clock.advance(2)
    assert swept(fs, dry_run=True) == [Swept(b"part", 2 * MIB, None)]
    assert fs.filesystem.sweeping.record()["bytes"] == 2 * MIB
    assert swept(fs) == [Swept(b"part", 2 * MIB, None)]
    assert fs.names() == []
    assert [one.origin for one in fs.pending()] == [b"part"]
    assert fs.filesystem.sweeping.record() == {"count": 0, "bytes": 0, "old_bytes": 0}


def test_a_clock_that_is_set_forward_sweeps_nothing(fs: InProcess) -> None:
    fs.clock.jump(1000 * AGE_S)
    assert swept(fs) == []


def test_what_was_taken_back_has_its_time_again(fs: InProcess) -> None:
    fs.clock.advance(AGE_S + 1)
    swept(fs)
    fs.rename(fs.trash.path_in_trash(fs.pending()[0]), b"back")
    assert swept(fs) == []
    fs.clock.advance(AGE_S + 1)
    assert [one.path for one in swept(fs)] == [b"back"]


def test_an_older_file_that_was_being_changed_stays(fs: InProcess) -> None:
    fs.write(b"older", os.urandom(MIB))
    fs.pwrite(fs.opened(b"older"), 0, os.urandom(MIB))
    fs.crash()
    fs.clock.advance(AGE_S + 1)
    assert [one.path for one in swept(fs)] == [b"part"]
    assert fs.filesystem.sweeping.record()["count"] == 1


def test_all_names_of_one_go(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    fs.link(b"part", b"dir/other")
    fs.clock.advance(AGE_S + 1)
    assert sorted(one.path for one in swept(fs)) == [b"dir/other", b"part"]
    assert sorted(one.origin for one in fs.pending()) == [b"dir/other", b"part"]


def test_others_sweep_what_is_theirs(fs: InProcess) -> None:
    leave(fs, b"his")
    fs.tree.set_attributes(fs.at(b"his"), fs.caller, uid=7)
    fs.clock.advance(AGE_S + 1)
    assert [one.path for one in swept(fs, uid=8)] == []
    assert [one.path for one in swept(fs, uid=7)] == [b"his"]


def test_what_the_trash_would_not_keep_stays(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    fs.tree.xattrs.set(fs.at(b"dir").ino, b"user.fusefs.trash", b"0")
    fs.trash.rules_change()
    fs.rename(b"part", b"dir/part")
    fs.clock.advance(AGE_S + 1)
    (one,) = swept(fs)
    assert isinstance(one.error, WrongState)
    assert fs.names(b"dir") == [b"part"]
