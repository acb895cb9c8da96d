"""A program that is forked from a loaded one does what one with an interpreter of its own does."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Mounted, run_fusefs, run_fusefs_as
from tests.launcher import Call, run
from tests.system.trashcan import NOBODY


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["init", "--help"], [], ["frobnicate"], ["status", "/"], ["info", "a\udcff"]],
    ids=" ".join,
)
def test_it_says_and_returns_the_same(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    forked = run_fusefs(*arguments)
    monkeypatch.setenv("FUSEFS_FORKS", "0")
    fresh = run_fusefs(*arguments)
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        fresh.returncode,
        fresh.stdout,
        fresh.stderr,
    )


def test_each_has_its_environment_directory_and_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert "Traceback" in run_fusefs("status", "/", FUSEFS_DEBUG="1").stderr
    assert "Traceback" not in run_fusefs("status", "/").stderr
    assert run_fusefs_as(0, "init", "store", cwd=tmp_path).returncode == 0
    assert (tmp_path / "store").stat().st_uid == os.getuid()


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to be others")
def test_it_may_do_what_its_user_may(tmp_path: Path) -> None:
    assert run_fusefs_as(NOBODY, "init", tmp_path / "store").returncode != 0
    assert not (tmp_path / "store").exists()


def test_many_at_once_do_not_mix(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda n: run_fusefs("status", tmp_path / str(n)), range(24)))
    assert all(f"/{number}'" in one.stderr for number, one in enumerate(done))
    assert {one.returncode for one in done} == {done[0].returncode}


@pytest.mark.mount
def test_one_that_does_not_end_is_killed(mounted: Mounted) -> None:
    call = Call(["events", "--follow", str(mounted.mnt)], dict(os.environ), "/")
    with pytest.raises(subprocess.TimeoutExpired):
        run(call, timeout_s=0.1)
