"""A copy is killed again and again, the tool or the daemon, and repeated until it is through.

Whatever was stored before a kill is not stored again: all runs together store the file once, and
for each kill at most one block that was not whole. FUSEFS_COPY_MIB, FUSEFS_KILL_ROUNDS and
FUSEFS_KILL_SEED make the file larger, the kills more, or others.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Mounted, fusefs
from tests.system.trashcan import until

pytestmark = [pytest.mark.mount, pytest.mark.slow]

MIB = 1 << 20
SIZE = int(os.environ.get("FUSEFS_COPY_MIB", "48")) * MIB
KILLS = int(os.environ.get("FUSEFS_KILL_ROUNDS", "3"))
SEED = int(os.environ.get("FUSEFS_KILL_SEED", "1"))
#: Headers, rows and seals that each run leaves in the log, as a part of the size. They are more the
#: slower the tool: in the worst case a batch for each block, with up to 1 KiB of extents.
BOOKS = 0.002


def write_source(path: Path) -> None:
    source = random.Random(SEED)
    with path.open("wb") as file:
        for _ in range(SIZE // MIB):
            file.write(source.randbytes(MIB))


def log_bytes(mounted: Mounted) -> int:
    return sum(file.stat().st_size for file in (mounted.store / "segments").iterdir())


def points(source: random.Random) -> list[int]:
    """How much of the file is stored at each kill, ascending."""
    return sorted(source.randrange(SIZE * 19 // 20) for _ in range(KILLS))


@pytest.mark.timeout(600 + (SIZE >> 20) * KILLS // 10)
@pytest.mark.parametrize("tool", ["cp", "fusefs cp"])
@pytest.mark.parametrize("victim", ["tool", "daemon"])
def test_a_copy_that_is_killed_often_is_stored_once(
    mounted: Mounted, tmp_path: Path, victim: str, tool: str
) -> None:
    mounted.expected = ["a record is cut short", "without syncing it first"]
    source, target = tmp_path / "source", mounted.mnt / "target"
    write_source(source)
    program = ["cp"] if tool == "cp" else [sys.executable, "-m", "fusefs", "cp"]
    command = [*program, str(source), str(target)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    for point in points(random.Random(f"{SEED} {victim} {tool}")):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environ) as copy:
            until(lambda: log_bytes(mounted) >= point or copy.poll() is not None)  # noqa: B023
            if victim == "daemon":
                mounted.kill()
            copy.kill()
        if victim == "daemon":
            mounted.mount()
    subprocess.run(command, check=True, env=environ)
    assert os.getxattr(target, "user.fusefs.state") == b"complete"
    space = json.loads(fusefs("df", "--json", mounted.mnt))
    stored, log = space["stored_bytes"] + space["garbage_bytes"], log_bytes(mounted)
    print(
        f"{tool}, {victim}, {KILLS} kills, seed {SEED}: {SIZE} bytes in {stored} and books, {log}"
    )
    assert stored <= SIZE + KILLS * MIB
    assert log <= stored + SIZE * BOOKS * (KILLS + 1)
    mounted.remount()
    subprocess.run(["cmp", source, target], check=True)
    assert [path.name for path in mounted.mnt.iterdir()] == [target.name]
    fusefs("fsck", mounted.mnt)
