"""An index that cannot be read ends the check with one line, and never with a crash."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from fusefs.cli.app import run
from fusefs.errors import StoreDamaged
from fusefs.fsck.check import check
from fusefs.model import keys
from tests.unit.clocks import ManualClock
from tests.unit.fsck.sample import DOCS, A, Sample
from tests.unit.inprocess import InProcess

PAGE = 4096


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        os.pwrite(file.fileno(), data, offset)


def garbage_behind(start: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        overwrite(path, start, Random(start).randbytes(path.stat().st_size - start))

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: os.truncate(path, 0),
    "a part of a page": lambda path: os.truncate(path, 100),
    "the meta pages alone": lambda path: os.truncate(path, 2 * PAGE),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2 // PAGE * PAGE),
    "garbage": garbage_behind(0),
    "garbage in the second meta page": garbage_behind(PAGE),
    "garbage in all pages": garbage_behind(2 * PAGE),
    "zeros": lambda path: overwrite(path, 2 * PAGE, bytes(path.stat().st_size - 2 * PAGE)),
    "ones": lambda path: overwrite(path, 2 * PAGE, b"\xff" * (path.stat().st_size - 2 * PAGE)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_one_line_and_exit_code_14(
    sample: Sample, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    damage(sample.path / "index" / "data.mdb")
    with pytest.raises(StoreDamaged, match="can be rebuilt from the log"):
        check(sample.path, False)
    assert run(["fsck", str(sample.path)]) == 14
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("fusefs: ")
    assert err.count("\n") == 1
    assert str(sample.path / "index") in err


def test_a_directory_of_the_index_that_is_gone(sample: Sample) -> None:
    (sample.path / "index").rename(sample.path / "away")
    with pytest.raises(StoreDamaged):
        check(sample.path, False)


def test_a_page_of_garbage_is_told_or_was_a_free_one(sample: Sample) -> None:
    fs = InProcess(sample.path, ManualClock())
    for number in range(100):
        fs.make(b"file-%d" % number)
    fs.close()
    data = sample.path / "index" / "data.mdb"
    whole = data.read_bytes()
    told = 0
    for start in range(2 * PAGE, len(whole), PAGE):
        overwrite(data, start, Random(start).randbytes(PAGE))
        try:
            told += bool(check(sample.path, False).problems)
        except StoreDamaged:
            told += 1
        overwrite(data, start, whole[start : start + PAGE])
    assert told > 6


def test_a_key_that_changed(sample: Sample) -> None:
    data = sample.path / "index" / "data.mdb"
    key = keys.name(DOCS, b"a.txt")
    data.write_bytes(data.read_bytes().replace(key, b"\xff" + key[1:]))
    with pytest.raises(StoreDamaged, match="is out of order"):
        check(sample.path, False)


# -- the verb


def test_a_sound_store_ends_with_0(sample: Sample, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fsck", "--read-data", "--json", str(sample.path)]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "problems": [],
        "inodes": 11,
        "blocks": 5,
        "segments": 2,
        "replayed": 0,
        "torn": "",
        "data_was_read": True,
        "blocks_checked": 5,
        "blocks_read": 5,
        "blocks_elsewhere": 0,
        "known": [],
        "stopped": "",
    }


def test_damage_ends_with_40_and_is_named(
    sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    sample.change({keys.inode(A): b"?"})
    assert run(["fsck", "--json", str(sample.path)]) == 40
    shown = capsys.readouterr()
    (problem,) = json.loads(shown.out)["problems"]
    assert (problem["kind"], problem["where"]) == ("row", "/docs/a.txt")
    assert problem["message"].startswith(f"row i {A} does not decode: ")
    assert shown.err == f"fusefs: {sample.path} has 1 problem, named above\n"
    assert run(["fsck", str(sample.path)]) == 40
    assert capsys.readouterr().out.startswith("row: /docs/a.txt: row i 4 does not decode: ")
