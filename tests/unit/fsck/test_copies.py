"""Copies in remotes that the store does not know: told, and forgotten where that loses nothing."""

from pathlib import Path

import pytest

from fusefs.fsck.check import check
from fusefs.fsck.repair import repair
from fusefs.fsck.selection import Selection
from fusefs.model import keys, remote
from fusefs.model.remote import Copy, Remote
from fusefs.sync.evict import only_copies
from tests.unit.clocks import ManualClock
from tests.unit.elsewhere import NAME, NUMBER, Away
from tests.unit.inprocess import InProcess

GHOST = 77
CONTENT = b"content of a file" * 1000


class Haunted:
    """A store with a file and a remote, and damage to what it knows of its remotes."""

    def __init__(self, root: Path) -> None:
        self.path = root / "store"
        self.fs = InProcess(self.path, ManualClock())
        self.fs.make(b"f")
        self.fs.write(b"f", CONTENT)
        self.fs.sync()
        self.away = Away(self.fs.store)

    def change(self, key: bytes, row: bytes | None) -> None:
        batch = self.fs.store.batch()
        batch.rows[key] = row
        self.fs.store.commit(batch)

    def haunt(self, segment: int) -> None:
        """Have a copy in a remote that does not exist."""
        self.change(keys.copy(segment, GHOST), remote.pack(Copy("segments/x", 1, bytes(32), 1)))

    def problems(self) -> list[tuple[str, str]]:
        return [(one.kind, one.where) for one in check(self.path, read_data=False).problems]

    def repair(self) -> list[str]:
        return [str(one) for one in repair(self.path, Selection.of(True), ManualClock()).repairs]


@pytest.fixture
def haunted(tmp_path: Path) -> Haunted:
    return Haunted(tmp_path)


def test_what_is_here_as_well_is_forgotten(haunted: Haunted) -> None:
    for segment in haunted.away.copy_all():
        haunted.haunt(segment)
    haunted.fs.close()
    assert haunted.problems() == [("copy", f"remote number {GHOST}")]
    assert any(f"copy: remote number {GHOST}: " in one for one in haunted.repair())
    assert haunted.problems() == []
    haunted.fs.open()
    assert [haunted.fs.store.copies(one).keys() for one in haunted.away.objects] == [{NUMBER}]
    haunted.fs.close()


def test_so_is_what_is_in_another_remote(haunted: Haunted) -> None:
    haunted.haunt(haunted.away.evict_all()[0])
    haunted.fs.close()
    assert haunted.problems() == [("copy", f"remote number {GHOST}")]
    haunted.repair()
    assert haunted.problems() == []


def test_what_is_nowhere_else_is_told_by_path_and_not_given_up(haunted: Haunted) -> None:
    haunted.away.evict_all()
    haunted.change(keys.remote(NAME), None)
    haunted.fs.close()
    expected = [("copy", f"remote number {NUMBER}"), ("content", "/f")]
    assert haunted.problems() == expected
    haunted.repair()
    assert haunted.problems() == expected
    haunted.fs.open()
    haunted.change(keys.remote(NAME), remote.pack(Remote(NUMBER, "memory:")))
    haunted.fs.close()
    assert haunted.problems() == []


def test_a_remote_that_cannot_be_read_is_forgotten_so_that_the_store_can_be_mounted(
    haunted: Haunted,
) -> None:
    haunted.away.copy_all()
    haunted.change(keys.remote(NAME), b"\xff")
    haunted.fs.close()
    assert set(haunted.problems()) == {
        ("row", f"remote {NAME}"), ("copy", f"remote number {NUMBER}"),
    }  # fmt: skip
    haunted.repair()
    assert haunted.problems() == []
    haunted.fs.open()
    haunted.fs.close()


def test_a_copy_that_nobody_can_read_does_not_let_the_last_one_go(haunted: Haunted) -> None:
    for segment in haunted.away.evict_all():
        haunted.haunt(segment)
    assert only_copies(haunted.fs.store, NUMBER, [])
    assert only_copies(haunted.fs.store, NUMBER, [GHOST]) == []
    haunted.fs.close()
