"""kill -9 of the daemon under several writers, again and again: what was acknowledged is there.

Each writer says on a pipe what it is about to do and, when the calls have returned, that it is
done; the moment of the kill is counted on that pipe. `Model` knows from these lines which contents
each path may have. FUSEFS_KILL_ROUNDS and FUSEFS_KILL_SEED make runs that are longer, or others.
"""

import errno
import json
import multiprocessing
import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COMMAND_TIMEOUT_S, Mounted, fusefs

pytestmark = [pytest.mark.mount, pytest.mark.slow]

ROUNDS = int(os.environ.get("FUSEFS_KILL_ROUNDS", "8"))
SEED = int(os.environ.get("FUSEFS_KILL_SEED", "1"))
WRITERS = 4
#: Lines that the writers of a round say together before the kill.
LINES = (10, 400)
#: What a recovery may say of the record that was being written.
CUT = "a record is cut short"
GONE = (errno.ENOTCONN, errno.ECONNABORTED)
NAMES = tuple("abcdef")

#: What a writer does: an action, a name, and the number that gives offset and content.
Step = tuple[str, str, int]


@pytest.fixture(params=["plain", "encrypted"])
def store(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new, empty store of either kind; all that is run has its key."""
    path, key = tmp_path / "store", tmp_path / "key"
    options: list[str | Path] = []
    if request.param == "encrypted":
        key.write_bytes(os.urandom(32))
        monkeypatch.setenv("FUSEFS_KEY_FILE", str(key))
        options = ["--encrypt", "--key-file", key]
    fusefs("init", *options, path)
    return path


def content(number: int) -> bytes:
    """Of a write: mostly a few KiB, sometimes over a block's end, sometimes next to nothing."""
    source = random.Random(number)
    return source.randbytes(source.choice((1, 100, 4096, 20_000, 70_000, 1_100_000)))


def offset(number: int) -> int:
    return random.Random(-number).choice((0, 1, 4096, 65_536, 1_000_000))


class Writer:
    """One process's work in its own directory; `steps` without end."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._directory = directory
        self._random = random.Random(seed)
        self._held: dict[str, int] = {}

    def steps(self) -> Iterator[Step]:
        actions = "append overwrite scribble settle create replace unlink mkdir".split()
        while True:
            name = self._random.choice(NAMES)
            yield self._random.choice(actions), name, self._random.getrandbits(48)

    def take(self, step: Step) -> None:
        """Do it; returns when the calls have."""
        action, name, number = step
        path = self._directory / f"{action} {name}"
        match action:
            case "append":
                self._write(path, os.O_APPEND, content(number), None, sync=True)
            case "overwrite":
                self._write(path, 0, content(number), offset(number), sync=True)
            case "scribble":  # and leave it open, unsynced
                if path.name not in self._held:
                    self._held[path.name] = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
                os.pwrite(self._held[path.name], content(number), offset(number))
            case "settle":  # and leave it open
                held = self._held.get(f"scribble {name}")
                if held is not None:
                    os.fsync(held)
            case "create":
                self._write(path.with_name(f"{path.name} {number}"), os.O_EXCL, content(number))
            case "replace":
                temporary = path.with_name(f"{path.name}.tmp")
                self._write(temporary, os.O_TRUNC, content(number), sync=True)
                temporary.rename(path)
            case "unlink":
                path.with_name(f"append {name}").unlink(missing_ok=True)
            case "mkdir":
                path.with_name(f"{path.name} {number}").mkdir()

    @staticmethod
    def _write(
        path: Path, flags: int, data: bytes, at: int | None = None, *, sync: bool = False
    ) -> None:
        file = os.open(path, os.O_CREAT | os.O_WRONLY | flags, 0o600)
        try:
            half = len(data) // 2
            for part, start in ((data[:half], 0), (data[half:], half)):
                if at is None:
                    os.write(file, part)
                else:
                    os.pwrite(file, part, at + start)
            if sync:
                os.fsync(file)
        finally:
            os.close(file)


def run_writer(directory: Path, seed: int, said: int) -> None:
    """In a process of its own: take steps and say them, until the mount is gone."""
    writer = Writer(directory, seed)
    try:
        for step in writer.steps():
            for is_done in (False, True):
                if is_done:
                    writer.take(step)
                line = json.dumps([directory.name, is_done, *step]).encode()
                assert os.write(said, line + b"\n") <= 4096  # so that lines do not mix
    except OSError as error:
        if error.errno not in GONE:
            raise


class Model:
    """The contents that each path may have: the acknowledged one, and those that may have come.

    None stands for absent, b"/" for a directory.
    """

    def __init__(self) -> None:
        self.settled: dict[str, bytes | None] = {}
        self.possible: dict[str, list[bytes | None]] = {}
        self.unlinked: set[str] = set()

    def note(self, directory: str, is_done: bool, step: Step) -> None:
        """Take in one line of a writer."""
        action = step[0]
        for path, new in self._changes(directory, step):
            if not is_done:
                self.possible.setdefault(path, []).append(new)
            elif action != "scribble":
                if action == "unlink" and self.settled.get(path) is not None:
                    self.unlinked.add(path)
                self.settled[path] = new
                del self.possible[path]

    def _changes(self, directory: str, step: Step) -> list[tuple[str, bytes | None]]:
        action, name, number = step
        path = f"{directory}/{action} {name}"
        match action:
            case "append":
                return [(path, (self.settled.get(path) or b"") + content(number))]
            case "overwrite" | "scribble":
                return [(path, self._overwritten(path, number))]
            case "settle":
                path = f"{directory}/scribble {name}"
                return [(path, self._newest(path))]
            case "create":
                return [(f"{path} {number}", content(number))]
            case "replace":
                # Between the two lines the temporary file may be there with any of its bytes.
                return [(path, content(number)), (f"{path}.tmp", None)]
            case "unlink":
                return [(f"{directory}/append {name}", None)]
            case _:
                return [(f"{path} {number}", b"/")]

    def _newest(self, path: str) -> bytes | None:
        possible = self.possible.get(path)
        return possible[-1] if possible else self.settled.get(path)

    def _overwritten(self, path: str, number: int) -> bytes:
        new = bytearray(self._newest(path) or b"")
        data, at = content(number), offset(number)
        new.extend(bytes(max(0, at + len(data) - len(new))))
        new[at : at + len(data)] = data
        return bytes(new)

    def check(self, found: dict[str, bytes]) -> None:
        """Compare with what is there after the kill, which from now on is what was acknowledged."""
        for path in self.settled.keys() | self.possible.keys() | found.keys():
            here, acknowledged = found.get(path), self.settled.get(path)
            if here != acknowledged:
                is_unfinished = path in self.possible
                assert is_unfinished, (path, _sizes(here, acknowledged))
                self._check_unfinished(path, here, acknowledged)
        self.settled = dict(found)
        self.possible = {}

    def _check_unfinished(self, path: str, here: bytes | None, before: bytes | None) -> None:
        possible = self.possible[path]
        if here in possible:
            return
        is_whole = "replace" in path and not path.endswith(".tmp")
        assert not is_whole, (path, "neither the old nor the new content")
        assert here is not None, (path, "is lost")
        if not path.endswith(".tmp"):
            is_sound = is_mixture(here, before or b"", [new for new in possible if new])
            assert is_sound, (path, "holds bytes that nobody wrote there")


def is_mixture(found: bytes, old: bytes, new: list[bytes]) -> bool:
    """Whether each byte is an old one, a new one, or in a hole behind the old end."""
    if not len(old) <= len(found) <= max(map(len, new), default=0):
        return False
    step = 512
    for at in range(0, len(found), step):
        part = found[at : at + step]
        sources = [one[at : at + step].ljust(step, b"\0") for one in (old, *new)]
        if at + step > len(old):
            sources.append(old[at:].ljust(step, b"\0"))
        if not any(source.startswith(part) for source in sources) and not all(
            byte in {source[i] for source in sources} for i, byte in enumerate(part)
        ):
            return False
    return True


def _sizes(*contents: bytes | None) -> str:
    return " instead of ".join("nothing" if c is None else f"{len(c)} bytes" for c in contents)


def found_below(top: Path) -> dict[str, bytes]:
    """Path from `top` -> content, or b"/" for a directory in a writer's."""
    found = {}
    for directory in top.iterdir():
        for path in directory.iterdir():
            name = f"{directory.name}/{path.name}"
            found[name] = b"/" if path.is_dir() else path.read_bytes()
    return found


def act_and_kill(mounted: Mounted, model: Model, seed: int) -> None:
    """Let writers work, kill the daemon in the midst of it, and tell the model what they said."""
    kill_after = random.Random(seed).randint(*LINES)
    reading, said = os.pipe()
    fork = multiprocessing.get_context("fork")
    writers = [
        fork.Process(target=run_writer, args=(mounted.mnt / f"w{i}", 1000 * seed + i, said))
        for i in range(WRITERS)
    ]
    try:
        for writer in writers:
            writer.start()
        os.close(said)
        count = 0
        with open(reading, "rb") as lines:
            for line in lines:
                directory, is_done, *step = json.loads(line)
                model.note(directory, is_done, tuple(step))
                count += 1
                if count == kill_after:
                    mounted.kill()
        assert count >= kill_after
        for writer in writers:
            writer.join(COMMAND_TIMEOUT_S)
            assert writer.exitcode == 0
    finally:
        for writer in writers:
            if writer.is_alive():
                writer.kill()
                writer.join()


@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_nothing_acknowledged_is_lost(mounted: Mounted) -> None:
    mounted.expected = [CUT]
    model = Model()
    for number in range(WRITERS):
        (mounted.mnt / f"w{number}").mkdir()
    for round_ in range(ROUNDS):
        act_and_kill(mounted, model, SEED * 1_000_000 + round_)
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.listdir(mounted.mnt)
        mounted.mount()
        model.check(found_below(mounted.mnt))
    in_trash = {entry["original_path"].lstrip("/") for entry in trash_of(mounted.mnt)}
    assert model.unlinked <= in_trash
    mounted.umount()
    assert_clean(mounted.store)
    mounted.mount()
    model.check(found_below(mounted.mnt))


def test_rsync_goes_on_after_a_kill(mounted: Mounted, tmp_path: Path) -> None:
    mounted.expected = [CUT]
    source, copy = tmp_path / "source", mounted.mnt / "copy"
    with source.open("wb") as file:
        for number in range(100):
            file.write(random.Random(number).randbytes(1 << 20))
    size = source.stat().st_size
    mounted.remount(FUSEFS_FAILPOINTS="log.append=60:kill")  # each block is one, of 100
    rsync = ["rsync", "--inplace", "--partial", source, copy]
    assert subprocess.run(rsync, stderr=subprocess.DEVNULL).returncode != 0
    mounted.wait_for_end()
    mounted.mount()
    kept = copy.stat().st_size
    assert 0 < kept < size
    assert copy.read_bytes() == source.read_bytes()[:kept]
    done = subprocess.run(
        ["rsync", "--append-verify", "--stats", source, copy],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    sent = re.search(r"^Literal data: ([\d,]+) bytes", done.stdout, re.MULTILINE)
    assert sent is not None
    assert int(sent[1].replace(",", "")) == size - kept
    assert copy.read_bytes() == source.read_bytes()
    mounted.remount()
    assert copy.read_bytes() == source.read_bytes()
    mounted.umount()
    assert_clean(mounted.store)


def trash_of(mnt: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(fusefs("trash", "list", "--all", "--json", mnt))
    return entries


def assert_clean(store: Path) -> None:
    assert json.loads(fusefs("fsck", "--json", "--read-data", store))["problems"] == []
