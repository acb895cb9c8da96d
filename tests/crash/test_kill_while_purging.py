"""kill -9 of the daemon in the midst of purges, restores and collections, again and again.

The files that go share their blocks with files that stay. The moment of a kill is counted in what
can be seen from outside: names that came or went, segments that changed. FUSEFS_KILL_ROUNDS and
FUSEFS_KILL_SEED make runs that are longer, or others.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fusefs.errors import WrongState
from tests.conftest import COMMAND_TIMEOUT_S, ROOT, Mounted, fusefs, run_fusefs

pytestmark = [pytest.mark.mount, pytest.mark.slow]

ROUNDS = int(os.environ.get("FUSEFS_KILL_ROUNDS", "2"))
SEED = int(os.environ.get("FUSEFS_KILL_SEED", "1"))
#: Files that are removed in each round.
FILES = 1000
#: Files that stay, and how many bytes they have.
LIVE, LIVE_BYTES = 200, 30_000
#: What a collection may leave in the segments: so many times the live data.
COLLECTED = 1.05
#: What a recovery may say of the record that was being written.
CUT = "a record is cut short"
_FOREVER = 10**6


def live_content(number: int) -> bytes:
    return random.Random(number).randbytes(LIVE_BYTES)


def content(number: int) -> bytes:
    """Of a file that goes: mostly what a live one has, too."""
    if number % 5:
        return live_content(number % LIVE)
    return random.Random(-1 - number).randbytes(2000)


class Victim:
    """A mount whose daemon is killed while it works. `moment` draws how far the work may be."""

    def __init__(self, mounted: Mounted, seed: int) -> None:
        self.mounted = mounted
        self.moment = random.Random(seed)
        self.live = mounted.mnt / "live"
        self.work = mounted.mnt / "work"
        self.trash = mounted.mnt / ".trash"
        self.struck = 0

    def make(self) -> None:
        self.work.mkdir(exist_ok=True)
        for number in range(FILES):
            (self.work / f"{number}").write_bytes(content(number))

    def remove(self) -> None:
        """All that `make` made, in one go; durable."""
        for number in range(FILES):
            (self.work / f"{number}").unlink()
        directory = os.open(self.mounted.mnt, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def kill_during(self, progress: Callable[[], int], most: int, *command: str | Path) -> None:
        """Kill the daemon when the command has made that much progress; mount again."""
        wanted = self.moment.randint(0, most)
        running = subprocess.Popen(
            [sys.executable, "-m", "fusefs", *map(str, command)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while progress() < wanted and running.poll() is None:
                pass
            self.struck += running.poll() is None
            self.mounted.kill()
            running.wait(COMMAND_TIMEOUT_S)
        finally:
            running.kill()
            running.wait()
        self.mounted.mount()

    def in_trash(self) -> list[Path]:
        found = os.walk(self.trash)  # which minds no directory that goes
        return [Path(above, name) for above, _, names in found for name in names]

    def entries(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            fusefs("trash", "list", "--all", "--json", self.mounted.mnt)
        )
        return found

    # -- what must hold

    def check_live(self) -> None:
        for number in range(LIVE):
            assert (self.live / f"{number}").read_bytes() == live_content(number)

    def check_trash(self) -> None:
        """What can be read there is whole; it may go while it is looked at."""
        for path in self.in_trash():
            try:
                found = path.read_bytes()
            except FileNotFoundError:
                continue
            assert found == content(int(path.name)), path

    def check_half_purged(self) -> None:
        """What is being purged has no name, and cannot be restored."""
        for entry in self.entries():
            if entry["state"] != "delete-pending":
                assert entry["trash_path"] is None
                done = run_fusefs("trash", "restore", self.mounted.mnt, str(entry["id"]))
                assert done.returncode in (WrongState.exit_code, 3, 31), done
                return

    def check_work(self) -> None:
        found = {int(path.name) for path in self.work.iterdir()}
        assert found == set(range(FILES))
        for number in found:
            assert (self.work / f"{number}").read_bytes() == content(number)


def rounds(victim: Victim) -> Iterator[None]:
    """As many as are wanted, and more until a kill was in time."""
    for number in count(1):
        yield
        if number >= ROUNDS and victim.struck:
            return


@pytest.fixture
def victim(mounted: Mounted) -> Victim:
    mounted.expected = [CUT]
    made = Victim(mounted, SEED)
    made.live.mkdir()
    for number in range(LIVE):
        (made.live / f"{number}").write_bytes(live_content(number))
    return made


def segments_bytes(store: Path) -> int:
    return sum(path.stat().st_size for path in (store / "segments").iterdir())


def assert_ends_well(victim: Victim) -> None:
    """The trash is empty, the store is clean, and as small as what lives in it."""
    mounted = victim.mounted
    victim.check_live()
    assert victim.entries() == []
    mounted.umount()
    fusefs("gc", mounted.store)
    fusefs("gc", mounted.store)
    assert json.loads(fusefs("fsck", "--json", "--read-data", mounted.store))["problems"] == []
    assert segments_bytes(mounted.store) < COLLECTED * LIVE * LIVE_BYTES
    mounted.mount()
    victim.check_live()


@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_purges_go_on_and_spare_what_lives(victim: Victim) -> None:
    for _ in rounds(victim):
        victim.make()
        victim.remove()
        for _ in range(2):  # the second time it is the mount that goes on with it
            victim.kill_during(
                lambda: FILES - len(victim.in_trash()), FILES - 1,
                "trash", "empty", "--yes", victim.mounted.mnt,
            )  # fmt: skip
            victim.check_trash()
            victim.check_half_purged()
            victim.check_live()
        fusefs("trash", "empty", "--yes", "--json", victim.mounted.mnt)
        assert victim.in_trash() == []
    history = json.loads(fusefs("trash", "history", "--json", victim.mounted.mnt))
    states = [[stamp["state"] for stamp in entry["history"]] for entry in history]
    wanted = ["delete-pending", "delete-ongoing", "delete-complete"]
    assert all(found == wanted for found in states)
    assert len(states) in range(FILES * ROUNDS, len(states) + 1, FILES)
    assert_ends_well(victim)


@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_restores_can_be_repeated(victim: Victim) -> None:
    victim.make()
    for _ in rounds(victim):
        victim.remove()
        victim.kill_during(
            lambda: len(list(victim.work.iterdir())), FILES - 1,
            "trash", "restore", victim.mounted.mnt, "--last",
        )  # fmt: skip
        victim.check_trash()
        back = {int(path.name) for path in victim.work.iterdir()}
        waiting = {int(path.name) for path in victim.in_trash()}
        assert back | waiting == set(range(FILES))
        assert not back & waiting
        while victim.in_trash():  # more than once if there were seconds between two removals
            fusefs("trash", "restore", victim.mounted.mnt, "--last")
        victim.check_work()
        assert victim.entries() == []
    victim.remove()
    fusefs("trash", "empty", "--yes", "--json", victim.mounted.mnt)
    assert_ends_well(victim)


@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_collections_lose_nothing(victim: Victim) -> None:
    for _ in rounds(victim):
        victim.make()
        victim.remove()
        fusefs("trash", "empty", "--yes", "--json", victim.mounted.mnt)
        names = set(os.listdir(victim.mounted.store / "segments"))
        looks = iter(range(_FOREVER))

        def progress(names: set[str] = names, looks: Any = looks) -> int:
            """First by time, then by what was changed."""
            changed = names ^ set(os.listdir(victim.mounted.store / "segments"))
            return next(looks) // 2000 + 10 * len(changed)

        victim.kill_during(progress, 20, "gc", victim.mounted.mnt)
        victim.check_live()
        assert victim.in_trash() == []
    assert_ends_well(victim)
