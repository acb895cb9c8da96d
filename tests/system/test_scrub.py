"""All content can be verified, mounted or not; what is bad is named until it is good or gone."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.conftest import COMMAND_TIMEOUT_S, ROOT, Done, Mounted, fusefs, run_fusefs

pytestmark = pytest.mark.mount
MIB = 1 << 20
#: What the log says of damage.
EXPECTED = ["a block is bad", "damaged content"]


def content(number: int) -> bytes:
    return Random(number).randbytes(3 * MIB)


def damage(mounted: Mounted, content: bytes) -> None:
    """Change one bit of what the store has of `content`; again, and it is as it was."""
    for path in (mounted.store / "segments").iterdir():
        data = path.read_bytes()
        if (at := data.find(content[-64:])) >= 0:
            with open(path, "r+b") as file:
                file.seek(at - 1)
                file.write(bytes([data[at - 1] ^ 1]))
            return
    pytest.fail("it is not in the store")


@pytest.fixture
def filled(mounted: Mounted) -> Mounted:
    """/0 to /3, of three blocks each."""
    for number in range(4):
        (mounted.mnt / str(number)).write_bytes(content(number))
    mounted.remount()
    return mounted


def records(done: Done) -> list[dict[str, Any]]:
    found = json.loads(done.stdout)
    return list(found["corruptions"] if isinstance(found, dict) else found)


@pytest.mark.parametrize("is_mounted", [True, False])
def test_what_is_bad_is_found_named_and_forgotten_when_it_is_good(
    filled: Mounted, is_mounted: bool
) -> None:
    filled.expected = EXPECTED
    target = filled.mnt if is_mounted else filled.store
    if not is_mounted:
        filled.umount()
    sound = json.loads(fusefs("scrub", "--json", target))
    assert (sound["blocks"], sound["read_bytes"], sound["damaged"]) == (12, 12 * MIB, 0)
    assert fusefs("scrub", "--list", "--json", target) == "[]\n"
    damage(filled, content(2))
    done = run_fusefs("scrub", "--json", target)
    assert done.returncode == 40
    (one,) = records(done)
    assert (one["state"], one["reason"]) == ("damaged", "its content does not match its hash")
    assert [it["path"] for it in one["objects"]] == ["/2"]
    listed = run_fusefs("scrub", "--list", target)
    assert (listed.returncode, "/2\n" in listed.stdout) == (40, True)
    status = json.loads(fusefs("scrub", "--status", "--json", target))
    assert (status["damaged"], status["records"], status["is_running"]) == (1, 1, False)
    assert "12 blocks, 1 bad" in fusefs("scrub", "--status", target)
    damage(filled, content(2))
    assert json.loads(fusefs("scrub", "--json", target))["corruptions"] == []
    assert filled.log.count("a block is bad") == 1


def test_a_read_that_fails_is_on_record_and_told(filled: Mounted) -> None:
    filled.expected = EXPECTED
    damage(filled, content(1))
    with pytest.raises(OSError, match="Input/output error"):
        (filled.mnt / "1").read_bytes()
    with subprocess.Popen(
        [sys.executable, "-m", "fusefs", "events", "-f", "--kind", "corruption", filled.mnt],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        event = json.loads(process.stdout.readline())
        process.kill()
    assert (event["path"], event["state"]) == ("/1", "damaged")
    (one,) = records(run_fusefs("scrub", "--list", "--json", filled.mnt))
    assert [it["path"] for it in one["objects"]] == ["/1"]
    (filled.mnt / "copy").write_bytes(content(1))  # heals it
    filled.remount()
    assert (filled.mnt / "1").read_bytes() == content(1)
    fusefs("scrub", "--list", filled.mnt)


def test_a_collection_that_meets_it_makes_a_record(filled: Mounted) -> None:
    filled.expected = [*EXPECTED, "damaged segment is kept"]
    damage(filled, content(3))
    (filled.mnt / "0").unlink()
    filled.umount()
    fusefs("trash", "empty", filled.store)
    fusefs("gc", filled.store)
    (one,) = records(run_fusefs("scrub", "--list", "--json", filled.store))
    assert [it["path"] for it in one["objects"]] == ["/3"]


@pytest.mark.parametrize("failpoint", ["scrub.read=1", "scrub.saved=2", "scrub.recorded=1"])
def test_a_daemon_killed_while_it_scrubs_has_it_done_by_the_next(
    filled: Mounted, failpoint: str
) -> None:
    filled.expected = EXPECTED
    damage(filled, content(2))
    filled.remount(FUSEFS_FAILPOINTS=f"{failpoint}:kill")
    assert run_fusefs("scrub", filled.mnt).returncode == 25, "the failpoint was not hit"
    filled.wait_for_end()
    filled.mount()
    done = run_fusefs("scrub", "--json", filled.mnt)
    assert (done.returncode, len(records(done))) == (40, 1)
    for number in (0, 1, 3):
        assert (filled.mnt / str(number)).read_bytes() == content(number)


def test_requests_of_no_sense_are_refused(filled: Mounted) -> None:
    for arguments in (["--status", "--list"], ["--list", "--rate", "1M"], ["--rate", "fast"]):
        assert run_fusefs("scrub", *arguments, filled.mnt).returncode == 2
    filled.remount("-o", "ro")
    assert run_fusefs("scrub", filled.mnt).returncode == 15
    assert "never begun" in fusefs("scrub", "--status", filled.mnt)


@pytest.mark.parametrize("is_mounted", [True, False])
def test_a_terminal_sees_how_far_it_is(filled: Mounted, is_mounted: bool) -> None:
    if not is_mounted:
        filled.umount()
    target: Path = filled.mnt if is_mounted else filled.store
    terminal, its_end = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "fusefs", "scrub", target],
        stdout=subprocess.PIPE,
        stderr=its_end,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        timeout=COMMAND_TIMEOUT_S,
        check=True,
    )
    os.close(its_end)
    assert b"scrubbing" in os.read(terminal, 1 << 16)
    os.close(terminal)
    assert done.stdout == b"read 12.0 MiB in 12 blocks, 0 of them bad\n"
