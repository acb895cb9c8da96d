"""The reserve: data stops first, then names, then removals."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from fusefs.errors import DiskFull
from fusefs.store.space import Space
from tests.unit.clocks import ManualClock

MIB = 1 << 20
GIB = 1 << 30


class Disk:
    """A statvfs that says what the test wants."""

    def __init__(self, total: int, free: int) -> None:
        self.total, self.free = total, free
        self.asked = 0

    def __call__(self, path: object) -> SimpleNamespace:
        self.asked += 1
        return SimpleNamespace(
            f_frsize=4096, f_bsize=1 << 20, f_blocks=self.total // 4096,
            f_bavail=self.free // 4096, f_bfree=self.total // 4096,
        )  # fmt: skip


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(100 * GIB, 50 * GIB)
    monkeypatch.setattr(os, "statvfs", disk)
    return disk


@pytest.mark.parametrize(
    ("total", "reserve"),
    [
        (1000 * GIB, 10 * GIB),  # 1 %
        (1 * GIB, 64 * MIB),  # at least 64 MiB
        (64 * MIB, 8 * MIB),  # but an eighth of a small one at most
    ],
)
def test_the_reserve_follows_the_size_of_the_disk(
    disk: Disk, tmp_path: Path, clock: ManualClock, total: int, reserve: int
) -> None:
    disk.total = total
    assert Space(tmp_path, clock).reserve_bytes == pytest.approx(reserve, abs=4096)


def test_data_stops_at_the_reserve_names_at_half_removals_at_an_eighth(
    disk: Disk, tmp_path: Path, clock: ManualClock
) -> None:
    space = Space(tmp_path, clock)
    reserve = space.reserve_bytes
    assert reserve == 1 * GIB
    disk.free = reserve + 8 * MIB
    space.refresh()
    space.admit_data(8 * MIB)
    space.refresh()
    with pytest.raises(DiskFull):
        space.admit_data(8 * MIB + 4096)
    with pytest.raises(DiskFull):
        space.admit_data(4 * MIB, waiting=5 * MIB)
    space.admit_name()
    disk.free = reserve // 2
    space.refresh()
    with pytest.raises(DiskFull):
        space.admit_name()
    space.admit_removal()
    disk.free = reserve // 8 - 4096
    space.refresh()
    with pytest.raises(DiskFull):
        space.admit_removal()


def test_far_from_full_the_disk_is_not_asked_for_every_write(
    disk: Disk, tmp_path: Path, clock: ManualClock
) -> None:
    space = Space(tmp_path, clock)
    for _ in range(1000):
        space.admit_data(MIB)
        space.admit_name()
    assert disk.asked == 1
    clock.advance(1.5)
    space.admit_name()
    assert disk.asked == 2


def test_what_was_admitted_counts_before_the_disk_shows_it(
    disk: Disk, tmp_path: Path, clock: ManualClock
) -> None:
    disk.free = 1 * GIB + 100 * MIB
    space = Space(tmp_path, clock)
    for _ in range(30):
        space.admit_data(MIB)
    assert disk.asked == 1
    for _ in range(20):
        space.admit_data(MIB)
    assert disk.asked > 1  # 64 MiB before the reserve it asks each time


def test_space_that_others_freed_or_took_is_seen(
    disk: Disk, tmp_path: Path, clock: ManualClock
) -> None:
    space = Space(tmp_path, clock)
    disk.free = 1 * GIB
    clock.advance(2)
    with pytest.raises(DiskFull):
        space.admit_data(MIB)
    disk.free = 10 * GIB
    space.admit_data(MIB)
