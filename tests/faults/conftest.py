"""The shim, compiled once; and how to run the one that lets calls fail."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.faults import shim as source

Outcomes = list[dict[str, Any]]
_TIMEOUT_S = 600


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled shim, to be preloaded."""
    try:
        return source.build(tmp_path_factory.mktemp("shim"))
    except FileNotFoundError as error:
        pytest.skip(f"needs a C compiler: {error}")


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory, where a sync costs nothing."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fusefs-faults.", dir=where) as path:
        yield Path(path)


@pytest.fixture
def run_faulty(shim: Path, memory: Path) -> Callable[..., Outcomes]:
    """Run a module of this folder in `memory` with the shim preloaded; its lines of JSON."""

    def run(module: str, *arguments: object) -> Outcomes:
        done = subprocess.run(
            [sys.executable, "-m", f"tests.faults.{module}", memory, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "LD_PRELOAD": str(shim)},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines]

    return run
