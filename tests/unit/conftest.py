"""A fresh filesystem in process; every test ends with all invariants checked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs.base import failpoints
from fusefs.model.keyslot import Secret
from tests.unit import invariants
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def secret() -> Secret | None:
    """What opens the store, None for a plain one; for tests to override."""
    return None


@pytest.fixture
def fs(tmp_path: Path, clock: ManualClock, secret: Secret | None) -> Iterator[InProcess]:
    fs = InProcess(tmp_path / "store", clock, secret=secret)
    yield fs
    failpoints.disarm()
    fs.files.flush_all()
    invariants.check(fs.store)
    fs.crash()
    invariants.check(fs.store)
    fs.close()
