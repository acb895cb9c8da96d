"""The request handlers over a filesystem in process, called as pyfuse3 calls them."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from fusefs.config.options import MountOptions
from fusefs.fuse.operations import Operations
from tests.unit.clocks import ManualClock
from tests.unit.fuse.calls import Call
from tests.unit.inprocess import InProcess


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[InProcess]:
    fs = InProcess(tmp_path / "store", ManualClock())
    yield fs
    fs.store.abandon()


@pytest.fixture
def operations(fs: InProcess) -> Operations:
    return Operations(fs.filesystem, MountOptions())


@pytest.fixture
def call(operations: Operations) -> Call:
    """Makes one request by the name of its handler; a request that fails raises FUSEError."""

    def call(request: str, *arguments: Any) -> Any:
        handler: Callable[..., Awaitable[Any]] = getattr(operations, request)
        return trio.run(handler, *arguments)

    return call


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """The lines of the log."""
    with capture_logs() as lines:
        yield lines
