"""The store shrinks to what is needed, while it is mounted and while it is not."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.conftest import COMMAND_TIMEOUT_S, ROOT, Mounted, fusefs, run_fusefs
from tests.system.trashcan import until

pytestmark = pytest.mark.mount
MIB = 1 << 20


def segments_bytes(store: Path) -> int:
    return sum(path.stat().st_size for path in (store / "segments").iterdir())


def gc(*arguments: str | Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(fusefs("gc", "--json", *arguments))
    return record


def df(target: Path) -> dict[str, int]:
    record: dict[str, int] = json.loads(fusefs("df", "--json", target))
    return record


def purge(mounted: Mounted, name: str) -> None:
    """Remove a file, and then what is in the trash of it."""
    (mounted.mnt / name).unlink()
    (entry,) = (mounted.mnt / ".trash").glob(f"*/{name}")
    entry.unlink()


def fill(mounted: Mounted) -> dict[str, bytes]:
    """Files of use and purged ones, spread over the same segments up to the newest; the former.

    No segment is mostly of no use, or the mount would begin to collect by itself.
    """
    kept = {}
    for number in range(60):
        name, data = f"file {number}", Random(number).randbytes(MIB + number * 1001)
        (mounted.mnt / name).write_bytes(data)
        kept[name] = data
    for number in range(60):
        if number % 3 == 0:
            purge(mounted, f"file {number}")
            del kept[f"file {number}"]
    return kept


def check(mounted: Mounted, kept: dict[str, bytes]) -> None:
    """All is there, and no more than 5 % beside it."""
    live = sum(map(len, kept.values()))
    assert live <= segments_bytes(mounted.store) <= 1.05 * live
    for name, data in kept.items():
        assert (mounted.mnt / name).read_bytes() == data
    assert json.loads(fusefs("fsck", "--json", "--read-data", mounted.store))["problems"] == []


@pytest.mark.parametrize("is_mounted", [True, False])
def test_purged_content_gives_its_space_back(mounted: Mounted, is_mounted: bool) -> None:
    kept = fill(mounted)
    if not is_mounted:
        mounted.umount()
    target = mounted.mnt if is_mounted else mounted.store
    planned = gc("--dry-run", target)
    assert segments_bytes(mounted.store) > 60 * MIB
    space = df(target)
    assert space["segments_bytes"] == pytest.approx(segments_bytes(mounted.store), abs=10_000)
    assert space["reclaimable_bytes"] == pytest.approx(planned["reclaimable_bytes"], abs=10_000)
    assert space["reclaimable_bytes"] > 19 * MIB
    done = gc(target)
    assert (done["segments"], done["moved_bytes"]) == (planned["segments"], planned["move_bytes"])
    assert done["freed_bytes"] == pytest.approx(planned["file_bytes"], abs=10_000)
    space = df(target)
    assert space["segments_bytes"] == pytest.approx(segments_bytes(mounted.store), abs=10_000)
    assert space["reclaimable_bytes"] == 0
    assert gc(target)["segments"] == 0
    mounted.remount()
    check(mounted, kept)


@pytest.mark.slow
def test_a_mount_gives_space_back_by_itself(mounted: Mounted) -> None:
    """With the default margins; what was mostly purged goes first."""
    (mounted.mnt / "kept").write_bytes(kept := Random(1).randbytes(20 * MIB))
    (mounted.mnt / "gone").write_bytes(Random(2).randbytes(60 * MIB))
    purge(mounted, "gone")
    until(lambda: df(mounted.mnt)["segments_bytes"] <= 38 * MIB)
    assert (mounted.mnt / "kept").read_bytes() == kept


@pytest.mark.parametrize(
    "step",
    [
        "log.open=2", "collect.rolled=1", "collect.read=2", "collect.moved=1", "collect.moved=30",
        "collect.snapshot=1", "collect.delete=1", "collect.deleted=2",
    ],
)  # fmt: skip
def test_a_daemon_killed_while_it_collects_has_it_done_by_the_next(
    mounted: Mounted, step: str
) -> None:
    kept = fill(mounted)
    mounted.remount(FUSEFS_FAILPOINTS=f"{step}:kill")
    for name, size in (("more", 5 * MIB), ("most", 7 * MIB)):
        (mounted.mnt / name).write_bytes(Random(name).randbytes(size))
    kept["most"] = (mounted.mnt / "most").read_bytes()
    purge(mounted, "more")  # in the newest segment
    done = run_fusefs("gc", mounted.mnt)
    assert done.returncode == 25, "the failpoint was not hit"
    mounted.wait_for_end()
    mounted.mount()
    for name, data in kept.items():
        assert (mounted.mnt / name).read_bytes() == data
    gc(mounted.mnt)
    check(mounted, kept)


@pytest.mark.parametrize("fault", ["collect.read=1:EIO", "collect.delete=1:EPERM"])
def test_a_segment_that_the_disk_keeps_is_named(mounted: Mounted, fault: str) -> None:
    mounted.expected = ["a segment is left, the others go on"]
    kept = fill(mounted)
    mounted.remount(FUSEFS_FAILPOINTS=fault)
    done = run_fusefs("gc", "--json", mounted.mnt)
    record = json.loads(done.stdout)
    assert done.returncode == 3
    assert record["failed_segments"] == 1
    assert record["segments"] > 1
    (left,) = record["failed"]
    assert left.startswith("segment 00000000000000")
    assert left in done.stderr
    assert mounted.log.count("a segment is left") == 1
    assert gc(mounted.mnt)["segments"] == 1
    check(mounted, kept)


@pytest.mark.root
def test_an_immutable_segment_stays_until_it_is_not(mounted: Mounted) -> None:
    mounted.expected = ["a segment is left, the others go on"]
    kept = fill(mounted)
    first = min((mounted.store / "segments").iterdir())
    if subprocess.run(["chattr", "+i", first], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no immutable files here")
    try:
        done = run_fusefs("gc", mounted.mnt)
    finally:
        subprocess.run(["chattr", "-i", first], check=True)
    assert (done.returncode, first.exists()) == (3, True)
    assert first.name in done.stderr
    gc(mounted.mnt)
    check(mounted, kept)


def test_the_trash_keeps_its_content(mounted: Mounted) -> None:
    content = Random(3).randbytes(20 * MIB)
    (mounted.mnt / "file").write_bytes(content)
    (mounted.mnt / "file").unlink()
    mounted.remount()
    gc(mounted.mnt)
    fusefs("trash", "restore", mounted.mnt / "file")
    assert (mounted.mnt / "file").read_bytes() == content


@pytest.mark.parametrize("is_mounted", [True, False])
def test_a_terminal_sees_how_far_it_is(mounted: Mounted, is_mounted: bool) -> None:
    fill(mounted)
    if not is_mounted:
        mounted.umount()
    target = mounted.mnt if is_mounted else mounted.store
    terminal, its_end = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "fusefs", "gc", target],
        stdout=subprocess.PIPE,
        stderr=its_end,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        timeout=COMMAND_TIMEOUT_S,
        check=True,
    )
    os.close(its_end)
    assert b"collecting" in os.read(terminal, 1 << 16)
    os.close(terminal)
    assert done.stdout.startswith(b"freed ")
