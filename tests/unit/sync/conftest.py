"""A store in a temporary directory, open; and readers of its index, which LMDB wants to be in
another process: here they read a copy of it."""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from fusefs.base import failpoints
from fusefs.config.options import StoreOptions
from fusefs.remotes.memory import MemoryRemote
from fusefs.store.index import Index
from fusefs.store.store import Store
from fusefs.sync import reading
from tests.unit.clocks import ManualClock
from tests.unit.sync.places import a_remote


@pytest.fixture(autouse=True)
def _readers_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()

    def opened(path: Path, *, read_only: bool) -> Index:
        copy = tmp_path / f"index{next(numbers)}"
        shutil.copytree(path, copy)
        return Index(copy, read_only=read_only)

    monkeypatch.setattr(reading, "Index", opened)


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    Store.init(tmp_path / "store", StoreOptions(), clock=clock)
    store = Store.open(tmp_path / "store", clock=clock)
    yield store
    failpoints.disarm()
    store.abandon()


@pytest.fixture
def remote(tmp_path: Path) -> MemoryRemote:
    return a_remote(tmp_path)
