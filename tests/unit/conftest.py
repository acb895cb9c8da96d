"""A fresh filesystem in process; every test ends with all invariants checked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs.base import failpoints
from tests.unit import invariants
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def fs(tmp_path: Path, clock: ManualClock) -> Iterator[InProcess]:
    fs = InProcess(tmp_path / "store", clock)
    yield fs
    failpoints.disarm()
    fs.files.flush_all()
    invariants.check(fs.store)
    fs.crash()
    invariants.check(fs.store)
    fs.close()
