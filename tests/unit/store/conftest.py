"""A store in a temporary directory, and how to open it again and again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusefs.base import failpoints
from fusefs.config.options import StoreOptions
from fusefs.store.store import Store
from tests.unit.clocks import ManualClock


@pytest.fixture
def path(tmp_path: Path, clock: ManualClock) -> Path:
    """A new store."""
    Store.init(tmp_path / "store", StoreOptions(), clock=clock)
    return tmp_path / "store"


@pytest.fixture
def open_store(path: Path, clock: ManualClock) -> Iterator[Callable[[], Store]]:
    """Opens the store; what is still open at the end is abandoned."""
    opened = []

    def open_it() -> Store:
        store = Store.open(path, clock=clock)
        opened.append(store)
        return store

    yield open_it
    failpoints.disarm()
    for store in opened:
        if store._lock >= 0:
            store.abandon()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()
