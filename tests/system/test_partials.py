"""Whoever breaks a copy, what was written stays, is told as half-written, and is not stored again.

FUSEFS_KILL_ROUNDS and FUSEFS_KILL_SEED make the loops of kills longer, or others.
"""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Mounted, fusefs, run_fusefs
from tests.system.trashcan import until

pytestmark = pytest.mark.mount

MIB = 1 << 20
SIZE = 24 * MIB
#: Of it, to a tool that is interrupted.
GIVEN = SIZE * 3 // 5
ROUNDS = int(os.environ.get("FUSEFS_KILL_ROUNDS", "6"))
SEED = int(os.environ.get("FUSEFS_KILL_SEED", "1"))
#: Appends to a file what it lacks of another, and says after each piece how long it is now.
APPEND = """
import os, signal, sys
for number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)  # whatever the test run was started with
source, target = sys.argv[1:]
file = os.open(target, os.O_WRONLY | os.O_CREAT, 0o600)
at = int(sys.stdin.readline())
while data := os.pread(os.open(source, os.O_RDONLY), 200_000, at):
    at += os.pwrite(file, data, at)
    if at % 7 == 0:
        os.fsync(file)
    print(at, flush=True)
    sys.stdin.readline()
"""
needs_rsync = pytest.mark.skipif(not shutil.which("rsync"), reason="needs rsync")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(random.Random(SEED).randbytes(SIZE))
    return path


def state(path: Path) -> str:
    return os.getxattr(path, "user.fusefs.state").decode()


def offset(path: Path) -> int:
    return int(os.getxattr(path, "user.fusefs.offset"))


def log_bytes(mounted: Mounted) -> int:
    return sum(file.stat().st_size for file in (mounted.store / "segments").iterdir())


def partials(target: Path, *options: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(
        fusefs("partial", "list", "--json", *options, target)
    )
    return found


class Appender:
    """A process that copies a file step by step, each when it is told to."""

    def __init__(self, source: Path, target: Path, start: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", APPEND, source, target],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._say(str(start))

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def steps(self, count: int) -> None:
        """Let it write so many pieces more."""
        assert self._process.stdout is not None
        for _ in range(count):
            self._process.stdout.readline()
            self._say("")

    def end(self, number: int | None = None) -> None:
        """Kill it, or close its input, by which it closes its file in good order."""
        if number is not None:
            self._process.send_signal(number)
        self._process.communicate()


@pytest.fixture
def appender() -> Iterator[Callable[..., Appender]]:
    made: list[Appender] = []

    def make(*arguments: Path | int) -> Appender:
        made.append(Appender(*arguments))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.end(signal.SIGKILL)


# -- who is marked


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_killed_writer_leaves_a_partial(
    mounted: Mounted, source: Path, appender: Callable[..., Appender], number: int
) -> None:
    part = mounted.mnt / "part"
    one = appender(source, part)
    one.steps(20)
    assert state(part) == "writing"
    one.end(number)
    assert state(part) == "partial"
    good = offset(part)
    assert 3 * MIB <= good <= part.stat().st_size
    assert part.read_bytes()[:good] == source.read_bytes()[:good]
    (record,) = partials(mounted.mnt)
    assert (record["path"], record["offset"]) == ("/part", good)
    assert str(record["why"]).endswith(f"was killed by {signal.Signals(number).name}")
    assert "user.fusefs.state" in os.listxattr(part)
    shutil.copyfile(source, part)
    assert state(part) == "complete"
    assert (partials(mounted.mnt), os.listxattr(part)) == ([], [])


def test_a_writer_that_ends_in_good_order_leaves_none(
    mounted: Mounted, source: Path, appender: Callable[..., Appender]
) -> None:
    part = mounted.mnt / "part"
    one = appender(source, part)
    one.steps(3)
    one.end()
    assert state(part) == "complete"
    assert partials(mounted.mnt) == []


def test_a_stop_of_the_daemon_leaves_a_partial(
    mounted: Mounted, source: Path, appender: Callable[..., Appender]
) -> None:
    one = appender(source, mounted.mnt / "part")
    one.steps(8)
    fusefs("umount", "--force", mounted.mnt)
    mounted.wait_for_end()
    (record,) = partials(mounted.store)
    assert (record["state"], record["offset"]) == ("partial", MIB)
    fusefs("partial", "complete", mounted.store, "part")
    assert partials(mounted.store) == []
    mounted.mount()
    assert state(mounted.mnt / "part") == "complete"


# -- what is promised


@pytest.mark.slow
@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_offsets_hold_over_kills_of_the_daemon(
    mounted: Mounted, source: Path, appender: Callable[..., Appender]
) -> None:
    """The file is continued at the offset each time; it never goes down, and holds what it says."""
    choice = random.Random(SEED)
    part, good = mounted.mnt / "part", 0
    for _ in range(ROUNDS):
        one = appender(source, part, good)
        one.steps(choice.randint(1, SIZE // ROUNDS // 200_000 + 8))
        mounted.kill()
        one.end(signal.SIGKILL)
        mounted.mount()
        assert state(part) == "partial"
        assert offset(part) >= good
        good = offset(part)
        with part.open("rb") as found, source.open("rb") as expected:
            assert found.read(good) == expected.read(good)
    with source.open("rb") as rest, part.open("r+b") as file:
        rest.seek(good)
        file.seek(good)
        shutil.copyfileobj(rest, file)
    assert state(part) == "complete"
    assert part.read_bytes() == source.read_bytes()
    fusefs("fsck", "--read-data", mounted.mnt)


@pytest.mark.slow
@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_what_says_complete_has_all_its_bytes(mounted: Mounted) -> None:
    """Files are written and closed while the daemon is killed: each is whole, or says that it is
    not; what was closed is complete."""
    choice = random.Random(SEED)
    sizes = (0, 10, 70_000, MIB, MIB + 1, 3 * MIB)
    for number in range(ROUNDS):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _write_files(mounted.mnt / f"round {number}", sizes, writing)
        os.close(writing)
        closed = os.read(reading, choice.randint(1, 40))
        mounted.kill()
        while more := os.read(reading, 100):
            closed += more
        os.close(reading)
        os.waitpid(child, 0)
        mounted.mount()
        below = sorted((mounted.mnt / f"round {number}").iterdir(), key=lambda path: int(path.name))
        assert len(below) >= len(closed)
        for path in below:
            is_whole = path.read_bytes() == _content(int(path.name), sizes)
            is_closed = int(path.name) < len(closed)
            assert is_whole or not is_closed, path
            assert state(path) in (("complete",) if is_closed else ("complete", "partial"))
            assert is_whole or state(path) == "partial", path


def _content(number: int, sizes: tuple[int, ...]) -> bytes:
    return random.Random(number).randbytes(sizes[number % len(sizes)])


def _write_files(top: Path, sizes: tuple[int, ...], pipe: int) -> None:
    """Never returns; says a byte for each file that was closed."""
    try:
        top.mkdir()
        for number in range(10_000):
            data = _content(number, sizes)
            with (top / str(number)).open("wb", buffering=0) as file:
                for at in range(0, len(data), 300_000):
                    file.write(data[at : at + 300_000])
            os.write(pipe, b".")
    finally:
        os._exit(0)


# -- plain tools store what is missing, and no more


#: What rsync has as its way to another machine: starts the other end here, lets so many bytes
#: through to it, and then no more, until it is killed.
GATE = f"""
import os, signal, subprocess, sys
far = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE)
left = {GIVEN}
while data := os.read(0, min(left, 65536)):
    far.stdin.write(data)
    far.stdin.flush()
    left -= len(data)
signal.pause()
"""


def interrupted(mounted: Mounted, source: Path, words: list[str]) -> int:
    """Kill a tool that has got a good half of the source; returns how many bytes it has stored."""
    before = log_bytes(mounted)
    if words[0] == "cp":
        command = ["cp", "/dev/stdin", words[-1]]
    else:
        (gate := source.with_name("gate")).write_text(GATE)
        command = [*words[:-1], "-e", f"{sys.executable} {gate}", f"here:{words[-1]}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as tool:
        assert tool.stdin is not None
        if words[0] == "cp":
            tool.stdin.write(source.read_bytes()[:GIVEN])
            tool.stdin.flush()
        until(lambda: log_bytes(mounted) - before > SIZE // 2)
        os.killpg(tool.pid, signal.SIGKILL)
    until(lambda: not _is_group(tool.pid))
    return log_bytes(mounted) - before


def _is_group(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    "command",
    [
        "cp",
        pytest.param("rsync", marks=needs_rsync),
        pytest.param("rsync --partial", marks=needs_rsync),
        pytest.param("rsync --inplace", marks=needs_rsync),
        pytest.param("rsync --append-verify", marks=needs_rsync),
    ],
)
def test_a_repeated_copy_stores_what_is_missing(
    mounted: Mounted, source: Path, command: str
) -> None:
    target = mounted.mnt / "copy"
    words = [*command.split(), str(source), str(target)]
    first = interrupted(mounted, source, words)
    assert first < SIZE * 0.9
    assert [one["state"] for one in partials(mounted.mnt)] == ["partial"]
    before = log_bytes(mounted)
    subprocess.run(words, check=True)
    assert target.read_bytes() == source.read_bytes()
    assert first + log_bytes(mounted) - before <= SIZE * 1.002 + MIB
    assert state(target) == "complete"


def test_the_ranges_of_which_nothing_has_come_are_told(mounted: Mounted, source: Path) -> None:
    code = """
import os, sys
source = open(sys.argv[1], "rb").read()
file = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
os.ftruncate(file, 5 << 20)
for at in map(int, sys.argv[3:]):
    os.pwrite(file, source[at << 20 : (at + 1) << 20], at << 20)
os.kill(os.getpid(), 9)
"""
    part = mounted.mnt / "part"
    subprocess.run([sys.executable, "-c", code, source, part, "0", "3"])
    shown = json.loads(fusefs("partial", "show", "--json", part))
    assert shown["missing"] == [[MIB, 3 * MIB], [4 * MIB, 5 * MIB]]
    assert "missing  1048576-3145728 4194304-5242880" in fusefs("partial", "show", part)
    subprocess.run([sys.executable, "-c", code, source, part, "4", "1", "2"])
    assert json.loads(fusefs("partial", "show", "--json", part))["missing"] == []
    fusefs("partial", "complete", part)
    assert part.read_bytes() == source.read_bytes()[: 5 * MIB]


def test_a_block_that_rots_meanwhile_is_stored_again_and_no_other(
    mounted: Mounted, source: Path
) -> None:
    part = mounted.mnt / "part"
    interrupted(mounted, source, ["cp", str(source), str(part)])
    missing = SIZE - offset(part)
    extents = json.loads(fusefs("info", "--json", part))["extents"]
    mounted.umount()
    with (mounted.store / "segments" / extents[2]["segment"]).open("r+b") as segment:
        segment.seek(extents[2]["segment_offset"] + 1000)
        segment.write(b"rot")
    mounted.mount()
    assert offset(part) == SIZE - missing, "it lies far before the end, and is not looked at"
    assert json.loads(fusefs("partial", "show", "--json", part))["offset"] == 2 * MIB
    assert offset(part) == 2 * MIB
    before = log_bytes(mounted)
    shutil.copyfile(source, part)
    assert log_bytes(mounted) - before <= (missing + MIB) * 1.002 + MIB
    mounted.expected = ["a block is bad"]
    mounted.remount()
    assert part.read_bytes() == source.read_bytes()
    fusefs("fsck", "--read-data", mounted.mnt)


# -- old ones


def test_old_partials_are_swept_and_active_ones_are_not(
    mounted: Mounted, source: Path, appender: Callable[..., Appender]
) -> None:
    mounted.remount("-o", "partial_age=3s")
    (mounted.mnt / "changed").write_bytes(b"old content")
    for name in ("idle", "changed"):
        one = appender(source, mounted.mnt / name)
        one.steps(6)
        one.end(signal.SIGKILL)
    trickling = appender(source, mounted.mnt / "trickling")
    looks = itertools.count()

    def is_swept() -> bool:
        if next(looks) % 20 == 0:  # about each second, so that there is enough to write
            trickling.steps(1)
        return not (mounted.mnt / "idle").exists()

    until(is_swept)
    assert [one["path"] for one in partials(mounted.mnt)] == ["/changed", "/trickling"]
    gauge = json.loads(fusefs("status", "--json", mounted.mnt))["partials"]
    assert (gauge["count"], gauge["old_bytes"] > 0) == (1, True)
    (entry,) = json.loads(fusefs("trash", "list", "--all", "--json", mounted.mnt))
    assert entry["original_path"] == "/idle"
    trickling.end()
    mounted.remount()  # for it would soon be old again
    fusefs("trash", "restore", mounted.mnt / "idle")
    assert state(mounted.mnt / "idle") == "partial"
    assert json.loads(fusefs("status", "--json", mounted.mnt))["partials"]["count"] == 2


def test_sweeping_by_hand(
    mounted: Mounted, source: Path, appender: Callable[..., Appender]
) -> None:
    mounted.remount("-o", "notrash")
    one = appender(source, mounted.mnt / "part")
    one.steps(6)
    one.end(signal.SIGKILL)
    done = run_fusefs("partial", "sweep", "--older-than", "0", mounted.mnt)
    assert (done.returncode, "would not keep it" in done.stderr) == (34, True), done
    assert (mounted.mnt / "part").exists()
    mounted.remount()
    assert fusefs("partial", "sweep", "--older-than", "1h", mounted.mnt) == ""
    assert fusefs("partial", "sweep", "-n", "--older-than", "0", mounted.mnt) == "/part\n"
    assert (mounted.mnt / "part").exists()
    assert fusefs("partial", "sweep", "--older-than", "0", mounted.mnt) == "/part\n"
    assert not (mounted.mnt / "part").exists()


# -- what is refused


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show", "{mnt}/whole"], 34, "is complete"),
        (["show", "{mnt}/none"], 30, "does not exist"),
        (["show", "{mnt}/dir"], 34, "is no file"),
        (["show", "{mnt}"], 2, "name a file"),
        (["complete", "{mnt}/whole"], 34, "is complete already"),
        (["complete", "{mnt}/being-written"], 34, "is being written"),
        (["sweep", "{mnt}", "--older-than", "soon"], 2, "is no duration"),
        (["list", "/proc"], 24, "neither a fusefs store"),
    ],
)
def test_refusals(
    mounted: Mounted, source: Path, appender: Callable[..., Appender], words: list[str],
    code: int, said: str,
) -> None:  # fmt: skip
    (mounted.mnt / "whole").write_bytes(b"x")
    (mounted.mnt / "dir").mkdir()
    appender(source, mounted.mnt / "being-written").steps(1)
    done = run_fusefs("partial", *(word.format(mnt=mounted.mnt) for word in words))
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_mount_option_that_is_no_duration(store: Path, mnt: Path) -> None:
    done = run_fusefs("mount", "-o", "partial_age=soon", store, mnt)
    assert (done.returncode, "partial_age=soon" in done.stderr) == (2, True)
