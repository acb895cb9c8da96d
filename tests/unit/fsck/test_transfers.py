"""fsck knows what a transfer is made of."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from fusefs.fsck.check import check
from fusefs.model import keys, transfer
from fusefs.model.transfer import (
    Ended,
    Endpoint,
    File,
    FileState,
    Kind,
    Move,
    Specification,
    Stamp,
    Status,
    Transfer,
)
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess

ID = bytes(range(16))
HERE = Endpoint(Kind.DIRECTORY, path=b"/a")
Rows = dict[bytes, bytes | None]


def sound() -> Rows:
    head = Transfer(
        Status.SUCCEEDED,
        (Stamp(Status.SUCCEEDED, 7, ""),),
        files_total=2, bytes_total=5, files_moved=1, files_skipped=1, bytes_moved=3,
    )  # fmt: skip
    asked = Specification(ID, "", "", HERE, (Move(HERE, (b"x",)),), "root", 0, 1)
    ended = Ended(ID, Status.SUCCEEDED, (HERE,), HERE, "root", 0, 1, 7, 2, 1, 1, 3, "m")
    return {
        keys.transfer(ID): transfer.pack(head),
        keys.specification(ID): transfer.pack(asked),
        keys.transfer_file(ID, 0): transfer.pack(File(0, 0, b"x", 3, FileState.MOVED)),
        keys.transfer_file(ID, 1): transfer.pack(File(1, 0, b"y", 2, FileState.SKIPPED)),
        keys.journal(7, ID): transfer.pack(ended),
    }


def found(root: Path, rows: Rows) -> list[tuple[str, str]]:
    fs = InProcess(root / "store", ManualClock())
    batch = fs.store.batch()
    batch.rows.update({key: row for key, row in rows.items() if row is not None})
    fs.store.commit(batch)
    fs.close()
    return [(one.kind, one.message) for one in check(root / "store", read_data=False).problems]


def test_a_transfer_is_no_problem(tmp_path: Path) -> None:
    assert found(tmp_path, sound()) == []


def drop(key: bytes) -> Callable[[Rows], None]:
    return lambda rows: rows.update({key: None})


def put(key: bytes, row: bytes) -> Callable[[Rows], None]:
    return lambda rows: rows.update({key: row})


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (drop(keys.transfer(ID)), "transfer", "has no status"),
        (drop(keys.specification(ID)), "transfer", "does not say what was asked for"),
        (drop(keys.journal(7, ID)), "transfer", "is succeeded, and not in the journal"),
        (drop(keys.transfer_file(ID, 1)), "transfer", "has 1 files, and says 2"),
        (put(keys.transfer(ID), b"\xff"), "row", "does not decode"),
        (put(keys.transfer_file(ID, 0), b"x"), "row", "does not decode"),
        (put(keys.journal(7, ID), transfer.pack(File(0, 0, b"x", 3))), "row", "does not decode"),
        (put(keys.transfer(ID) + b"odd", b""), "row", "does not decode"),
    ],
)
def test_damage_is_told(
    tmp_path: Path, damage: Callable[[Rows], None], kind: str, message: str
) -> None:
    rows = sound()
    damage(rows)
    assert any(one[0] == kind and message in one[1] for one in found(tmp_path, rows))


def test_sums_are_counted_again(tmp_path: Path) -> None:
    rows = sound()
    head = rows[keys.transfer(ID)]
    assert head is not None
    wrong = replace(transfer.unpack(head), bytes_moved=4)
    rows[keys.transfer(ID)] = transfer.pack(wrong)
    assert found(tmp_path, rows) == [("transfer", "has 3 moved bytes, and says 4")]
