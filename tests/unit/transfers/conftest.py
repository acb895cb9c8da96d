"""A world for transfers; every test ends with an index that fsck finds nothing wrong with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs.base import failpoints
from fusefs.transfers import role
from tests.unit import invariants
from tests.unit.transfers.world import World


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is so soon."""
    monkeypatch.setattr(role, "FIRST_REST_S", 0.01)
    monkeypatch.setattr(role, "LAST_REST_S", 0.05)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    failpoints.disarm()
    invariants.check(world.fs.store)
    world.fs.close()
