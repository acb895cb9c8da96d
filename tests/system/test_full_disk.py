"""The disk under the store is full: nothing is lost, removing works, and room helps at once.

The store lies on a small ext4 of its own, beside a ballast file that stands for somebody else's
data.
"""

import errno
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Mounted, fusefs, run_fusefs
from tests.disks import small_ext4
from tests.stops import stopped

pytestmark = [
    pytest.mark.mount,
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="needs to be root"),
]

MIB = 1 << 20
NO_SPACE = os.strerror(errno.ENOSPC)
BALLAST_BYTES = 80 * MIB
#: What may stand in the log while the disk is full.
EXPECTED = ["background work waits for space", "a record is cut short"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small ext4, with the ballast on it."""
    with small_ext4(tmp_path, 256 * MIB, BALLAST_BYTES) as path:
        yield path


@pytest.fixture
def full(disk: Path, mnt: Path) -> Iterator["Full"]:
    """A mount, filled to the brim."""
    mounted = Mounted(disk / "store", mnt)
    mounted.expected = EXPECTED
    try:
        fusefs("init", mounted.store)
        mounted.mount()
        yield Full(mounted, disk / "ballast")
    finally:
        mounted.clean_up()
    assert mounted.unexpected() == []


class Full:
    """A filesystem on a full disk, and what was acknowledged there: name -> seed and size."""

    def __init__(self, mounted: Mounted, ballast: Path) -> None:
        self.mounted = mounted
        self.mnt = mounted.mnt
        self.ballast = ballast
        self.greedy = ballast.with_name("greedy")
        self.kept: dict[str, tuple[int, int]] = {}
        (self.mnt / "dir").mkdir()
        self.write("dir/small", 5000)
        self.fill()

    def write(self, name: str, size: int) -> None:
        """Write a file and sync it: then it counts. Raises OSError."""
        seed = len(self.kept) + 1
        append(self.mnt / name, random.Random(seed).randbytes(size))
        self.kept[name] = seed, size

    def write_next(self, size: int) -> None:
        self.write(f"file {len(self.kept)} of {size}", size)

    def fill(self) -> None:
        """Write until there is no room; each refusal must say so."""
        for size in (4 * MIB, MIB // 2, 4096):
            with pytest.raises(OSError, match=NO_SPACE):
                forever(self.write_next, size)

    def check(self) -> None:
        """Everything acknowledged is there."""
        for name, (seed, size) in self.kept.items():
            found = (self.mnt / name).read_bytes()[:size]  # a refused append may have begun
            assert found == random.Random(seed).randbytes(size), name

    def check_refused(self) -> None:
        """New data is refused, with the errno that says why."""
        assert len(self.kept) > 20
        for path in (self.mnt / "dir/small", self.mnt / "dir/new"):
            with pytest.raises(OSError, match=NO_SPACE):
                append(path, random.randbytes(MIB))

    def make_room(self) -> None:
        self.ballast.unlink()

    def take_the_rest(self) -> None:
        """Fill the disk beside fusefs, to the last byte."""
        with self.greedy.open("wb", buffering=0) as greedy:
            for size in (MIB, 4096, 1):
                with pytest.raises(OSError, match=NO_SPACE):
                    forever(greedy.write, bytes(size))

    def fsck(self) -> None:
        report = fusefs("fsck", "--json", "--read-data", self.mounted.store)
        assert json.loads(report)["problems"] == []


def forever(call: Callable[..., object], *arguments: object) -> None:
    while True:
        call(*arguments)


def append(path: Path, data: bytes) -> None:
    """Durably."""
    left = memoryview(data)
    with path.open("ab", buffering=0) as file:
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())


def test_writes_are_refused_and_nothing_is_lost(full: Full) -> None:
    full.check_refused()
    full.check()
    full.fsck()
    assert os.statvfs(full.mnt).f_bavail * os.statvfs(full.mnt).f_frsize < 8 * MIB
    full.check_refused()


def test_what_removes_and_renames_goes_on(full: Full) -> None:
    name, other, gone = [name for name in full.kept if name.startswith("file")][:3]
    os.rename(full.mnt / name, full.mnt / "dir/renamed")
    full.kept["dir/renamed"] = full.kept.pop(name)
    (full.mnt / gone).unlink()
    del full.kept[gone]
    os.rename(full.mnt / other, full.mnt / "dir/small")
    full.kept["dir/small"] = full.kept.pop(other)
    (full.mnt / "dir/small").chmod(0o600)
    os.truncate(full.mnt / "dir/renamed", 3)
    listed = json.loads(fusefs("trash", "list", "--all", "--json", full.mnt))
    assert [entry["original_path"].lstrip("/") for entry in listed][-2:] == [gone, "dir/small"]
    assert (full.mnt / "dir/renamed").stat().st_size == 3
    del full.kept["dir/renamed"]
    full.check()
    full.mounted.remount()
    full.check()
    full.fsck()


def test_removing_everything_on_a_full_disk(full: Full) -> None:
    for name in full.kept:
        (full.mnt / name).unlink()
    (full.mnt / "dir/new").unlink(missing_ok=True)
    (full.mnt / "dir").rmdir()
    full.mounted.remount()
    assert json.loads(fusefs("trash", "list", "--all", "--json", full.mnt))
    full.fsck()


def test_room_elsewhere_on_the_disk_lets_it_go_on(full: Full) -> None:
    full.check_refused()
    full.make_room()
    for number in range(10):
        full.write(f"later {number}", MIB)
    append(full.mnt / "dir/new", b"x" * MIB)
    full.check()
    full.mounted.remount()
    full.check()
    full.fsck()


def test_unmounting_and_mounting_while_it_is_full(full: Full) -> None:
    for _ in range(2):
        full.mounted.umount()
        full.fsck()
        full.mounted.mount()
        full.check()
        full.check_refused()
    full.make_room()
    full.write("later", MIB)
    full.check()


def test_kill_while_it_is_full(full: Full) -> None:
    for _ in range(3):
        full.check_refused()
        full.mounted.kill()
        full.mounted.mount()
        full.check()
    full.fsck()
    full.make_room()
    full.write("later", MIB)
    full.mounted.kill()
    full.mounted.mount()
    full.check()
    full.fsck()


def test_others_take_the_last_byte(full: Full) -> None:
    """The reserve is for fusefs; where somebody else takes it, reading and mounting go on."""
    full.take_the_rest()
    full.check_refused()
    full.check()
    for change in (
        lambda: (full.mnt / "new").mkdir(),
        lambda: (full.mnt / "dir/small").rename(full.mnt / "dir/moved"),
        lambda: (full.mnt / "dir/small").unlink(),
    ):
        with pytest.raises(OSError, match=NO_SPACE):
            change()
    full.check()
    full.mounted.kill()
    full.greedy.unlink()
    full.mounted.mount()
    full.check()
    full.make_room()
    (full.mnt / "new").mkdir()
    full.write("new/file", MIB)
    full.check()
    full.fsck()


def test_what_waits_in_memory_is_kept_until_there_is_room(full: Full) -> None:
    full.make_room()
    data = random.Random(0).randbytes(600_000)
    with (full.mnt / "waiting").open("x+b", buffering=0) as file:
        assert file.write(data) == len(data)
        full.take_the_rest()
        for _ in range(2):
            with pytest.raises(OSError, match=NO_SPACE):
                os.fsync(file.fileno())
            assert os.pread(file.fileno(), MIB, 0) == data
        full.greedy.unlink()
        os.fsync(file.fileno())
    full.mounted.kill()
    full.mounted.mount()
    assert (full.mnt / "waiting").read_bytes() == data
    full.check()
    full.fsck()


def test_who_only_reads_does_not_hear_that_a_writer_has_no_room(full: Full) -> None:
    full.make_room()
    with (full.mnt / "waiting").open("xb", buffering=0) as file:
        file.write(b"x" * 1000)
        full.take_the_rest()
        with pytest.raises(OSError, match=NO_SPACE):
            os.fsync(file.fileno())
        try:
            reader = os.open(full.mnt / "waiting", os.O_RDONLY)
            assert os.read(reader, MIB) == b"x" * 1000
            os.close(reader)
        finally:
            full.greedy.unlink()


def test_an_upload_that_does_not_fit_is_refused_at_once(disk: Path, mnt: Path) -> None:
    mounted = Mounted(disk / "store", mnt)
    sources = [disk.parent / name for name in ("one", "two")]
    for source in sources:
        source.write_bytes(random.randbytes(70 * MIB))
    try:
        fusefs("init", mounted.store)
        mounted.mount(FUSEFS_FAILPOINTS="log.append=20:stop")
        # Let the first wait in the middle, so that the second meets what is promised to it.
        command = [sys.executable, "-m", "fusefs", "cp", sources[0], mnt / "one"]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        first = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
        with stopped(mounted.pid):
            first.send_signal(signal.SIGSTOP)
        done = run_fusefs("cp", sources[1], mnt / "two")
        assert done.returncode == 16
        assert "70.0 MiB are to come" in done.stderr
        assert "promised to others" in done.stderr
        assert [path.name for path in mnt.glob("*two*")] == []
        assert fusefs("trash", "list", "--all", "--json", mnt) == "[]\n"
        first.send_signal(signal.SIGCONT)
        assert first.wait() == 0
        assert (mnt / "one").read_bytes() == sources[0].read_bytes()
    finally:
        mounted.clean_up()
    assert mounted.unexpected() == []
