"""What a mount tells those who follow it, through the program as users run it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.conftest import COMMAND_TIMEOUT_S, ROOT, Mounted, fusefs

pytestmark = pytest.mark.mount

Process = subprocess.Popen[bytes]


@contextmanager
def follower(*arguments: str | Path, stdout: int = subprocess.PIPE) -> Iterator[Process]:
    """`fusefs events --follow`, which is killed if the test leaves it behind."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fusefs", "events", "--follow", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def let_in(kind: str, target: Path) -> Iterator[Process]:
    """A follower of one kind that has been let in: from now on nothing of it is lost."""
    with follower("--kind", "mounted", "--kind", kind, target) as process:
        assert next_event(process)["kind"] == "mounted"
        yield process


def next_event(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    event: dict[str, Any] = json.loads(process.stdout.readline())
    return event


def end_of(process: Process) -> tuple[int, bytes, bytes]:
    """Exit code, and what it still had to say."""
    out, err = process.communicate(timeout=COMMAND_TIMEOUT_S)
    return process.returncode, out, err


def kept(*arguments: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in fusefs("events", *arguments).splitlines()]


def test_from_the_mount_to_the_unmount(mounted: Mounted) -> None:
    with follower(mounted.mnt) as process:
        first = next_event(process)
        assert (first["number"], first["kind"]) == (1, "mounted")
        assert (first["store"], first["mountpoint"]) == (str(mounted.store), str(mounted.mnt))
        collected = json.loads(fusefs("gc", "--json", mounted.mnt))
        assert collected.pop("failed") == []
        second = next_event(process)
        assert second == {**collected, **second}
        assert (second["number"], second["kind"]) == (2, "collected")
        assert kept(mounted.store) == [first, second]
        assert kept("--kind", "collected", "--kind", "purge", mounted.mnt) == [second]
        mounted.umount()
        assert next_event(process)["kind"] == "unmounting"
        assert end_of(process) == (0, b"", b"")
    assert kept(mounted.store) == []


def test_a_mount_by_force_ended_is_an_end_as_well(mounted: Mounted) -> None:
    with follower("--kind", "mounted", mounted.store) as process:
        assert next_event(process)["kind"] == "mounted"
        fusefs("umount", "--force", mounted.mnt)
        assert end_of(process) == (0, b"", b"")


def test_a_daemon_that_dies_is_an_error(mounted: Mounted) -> None:
    with follower(mounted.mnt) as process:
        next_event(process)
        mounted.kill()
        code, _, said = end_of(process)
        assert (code, said.count(b"\n")) == (25, 1)


def test_what_was_recovered_is_told(mounted: Mounted) -> None:
    (mounted.mnt / "file").write_bytes(Random(1).randbytes(3 << 20))
    mounted.kill()
    mounted.mount()
    recovered, mount = kept(mounted.mnt)
    assert (recovered["kind"], mount["kind"]) == ("recovered", "mounted")
    assert recovered["records"] > 0


def test_an_interrupt_ends_a_follower_quietly(mounted: Mounted) -> None:
    with follower(mounted.mnt) as process:
        next_event(process)
        process.send_signal(signal.SIGINT)
        assert end_of(process) == (130, b"", b"")


def test_a_reader_that_has_seen_enough_ends_a_follower_without_another_event(
    mounted: Mounted,
) -> None:
    ours, theirs = os.pipe()
    with follower(mounted.mnt, stdout=theirs) as process:
        os.close(theirs)
        with os.fdopen(ours, "rb") as reader:
            assert json.loads(reader.readline())["kind"] == "mounted"
        assert end_of(process)[::2] == (141, b"")
