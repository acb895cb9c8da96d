"""fsck compares what half-written files promise with what is there, and a repair makes it so."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fusefs.fsck.check import check
from fusefs.fsck.repair import repair
from fusefs.fsck.selection import Selection
from fusefs.model import keys
from fusefs.model.partial import Partial, pack
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess

MIB = 1 << 20
NOBODY = 999


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """With a file that stopped after 3 MiB."""
    fs = InProcess(tmp_path / "store", ManualClock())
    fs.make(b"file")
    handle = fs.opened(b"file")
    fs.pwrite(handle, 0, os.urandom(3 * MIB))
    fs.crash()
    fs.close()
    return tmp_path / "store"


def change(store: Path, row: Callable[[int], tuple[bytes, bytes]]) -> int:
    """Put a row, of the number of the file, into the index; returns that."""
    fs = InProcess(store, ManualClock())
    ino = fs.at(b"file").ino
    with fs.tree.act() as act:
        act.put(*row(ino))
    fs.close()
    return ino


def promise(offset: int) -> Callable[[int], tuple[bytes, bytes]]:
    return lambda ino: (keys.partial(ino), pack(Partial(1, True, offset, "killed", 1)))


def found(store: Path) -> list[tuple[str, str, str]]:
    return [(one.kind, one.where, one.message) for one in check(store, read_data=True).problems]


def repaired(store: Path) -> None:
    repair(store, Selection.of(True), ManualClock())
    assert found(store) == []


@pytest.mark.parametrize("offset", [0, MIB, 3 * MIB])
def test_a_partial_is_no_problem(store: Path, offset: int) -> None:
    change(store, promise(offset))
    assert found(store) == []


def test_a_promise_of_more_than_there_is(store: Path) -> None:
    ino = change(store, promise(7 * MIB))
    message = f"is good up to byte {7 * MIB}, it says, and is so up to {3 * MIB}"
    assert found(store) == [("partial", "/file", message)]
    repaired(store)
    fs = InProcess(store, ManualClock())
    one = fs.files.partials.get(ino)
    fs.close()
    assert one is not None
    assert one.offset == 3 * MIB


def test_a_mount_believes_no_promise_of_more(store: Path) -> None:
    ino = change(store, promise(7 * MIB))
    fs = InProcess(store, ManualClock())
    one = fs.files.partials.get(ino)
    fs.close()
    assert one is not None
    assert one.offset <= 3 * MIB
    assert found(store) == []


def test_what_is_no_file_is_not_half_written(store: Path) -> None:
    change(store, lambda _: (keys.partial(NOBODY), pack(Partial(1, True, 0, "killed", 1))))
    assert found(store) == [("partial", f"inode {NOBODY}", "is half-written, but is no file")]
    repaired(store)


def test_a_row_that_does_not_decode_does_not_stop_a_mount(store: Path) -> None:
    ino = change(store, lambda ino: (keys.partial(ino), b"\xc1"))
    (problem,) = found(store)
    assert problem[:2] == ("row", "/file")
    fs = InProcess(store, ManualClock())
    assert fs.files.partials.get(ino) is None
    fs.close()


def test_bad_blocks_count(store: Path) -> None:
    change(store, promise(3 * MIB))
    fs = InProcess(store, ManualClock())
    second = fs.store.blocks.locate(fs.extents(b"file")[1].block).block
    fs.close()
    with (sorted((store / "segments").iterdir())[second.segment - 1]).open("r+b") as file:
        file.seek(second.offset + 7)
        file.write(b"rot")
    message = f"is good up to byte {3 * MIB}, it says, and is so up to {MIB}"
    assert ("partial", "/file", message) in found(store)
