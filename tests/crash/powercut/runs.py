"""A run: writers at work in a fusefs whose store lies on the disk that remembers.

In the middle of it the daemon is killed and started again, so that recoveries are in the log of
the disk as well. At its end it is unmounted, and that is in the log, too.
"""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.conftest import Mounted, fusefs
from tests.crash.powercut.rig import ORDERED, UNORDERED, ext4_mount, make_ext4, recorded_disk
from tests.crash.powercut.survey import KEY, save_jobs
from tests.crash.powercut.writelog import copy_image
from tests.crash.powercut.writers import Job, at_work, wait_for

#: A verb is a process of its own, and takes half a second.
STEPS_BY_VERBS = 16
NEIGHBOUR_PAUSE_S = 0.05


class Weather(NamedTuple):
    """What makes runs different: how ext4 is mounted, and how often and how much writers sync."""

    ext4: str
    steps: int
    synced_share: float


#: Where nobody syncs, only checkpoints do, and only there is seen whether they do.
WEATHERS = (
    Weather(ORDERED, 200, 0.05),
    Weather(UNORDERED, 200, 0.0),
    Weather(ORDERED, 100, 0.3),
    Weather(UNORDERED, 200, 0.05),
    Weather(ORDERED, 200, 0.0),
    Weather(UNORDERED, 100, 0.3),
)


class Run(NamedTuple):
    """What is left of a run."""

    directory: Path

    @property
    def start(self) -> int:
        """How long the log was when the store was made."""
        return int((self.directory / "start").read_text())

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def blank(self) -> Path:
        return self.directory / "blank"

    @property
    def environ(self) -> dict[str, str]:
        """For whoever opens the store."""
        key = self.directory / KEY
        return {"FUSEFS_KEY_FILE": str(key)} if key.exists() else {}


def jobs(seed: int, weather: Weather) -> list[Job]:
    """Three writers by system calls, and one by the command line."""
    count, share = weather.steps, weather.synced_share
    return [
        *(Job(f"writer {i}", seed * 10 + i, count, share, False, count // 2) for i in range(3)),
        Job("keeper", seed * 10 + 9, STEPS_BY_VERBS, share, True, STEPS_BY_VERBS // 2),
    ]


@contextmanager
def neighbour(file: Path) -> Iterator[None]:
    """Somebody else who syncs on the same disk, all the time.

    With this ext4 commits names and sizes of the store's files long before fusefs asks for it, and
    so without their bytes where it does not order the two.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(writing)
            _sync_until_closed(reading, file)
            code = 0
        finally:
            os._exit(code)
    os.close(reading)
    try:
        yield
    finally:
        os.close(writing)
        _, status = os.waitpid(child, 0)
    assert status == 0


def _sync_until_closed(pipe: int, file: Path) -> None:
    with file.open("wb", buffering=0) as mine:
        while not select.select([pipe], [], [], NEIGHBOUR_PAUSE_S)[0]:
            mine.write(b"mine")
            os.fsync(mine.fileno())


def prepare(mnt: Path, work: list[Job]) -> None:
    """A directory for each writer, durably."""
    for job in work:
        (mnt / job.name).mkdir()
    top = os.open(mnt, os.O_RDONLY)
    os.fsync(top)
    os.close(top)


def make_store(store: Path, run: Run, *, is_encrypted: bool) -> None:
    """A new store; the key of an encrypted one is kept with the run."""
    options: list[str | Path] = []
    if is_encrypted:
        key = run.directory / KEY
        key.write_bytes(os.urandom(32))
        options = ["--encrypt", "--key-file", key]
    fusefs("init", *options, store)


def record(directory: Path, seed: int, *, is_encrypted: bool = False, **environ: str) -> Run:
    """Let writers work on a new store, and keep all that its disk was told.

    `environ` is for the daemon.
    """
    directory.mkdir()
    run = Run(directory)
    image = directory / "image"
    make_ext4(run.blank)
    copy_image(run.blank, image)
    weather = WEATHERS[seed % len(WEATHERS)]
    work = jobs(seed, weather)
    save_jobs(directory, work)
    mnt = directory / "mnt"
    mnt.mkdir()
    with (
        recorded_disk(directory / "fuse", image, run.log) as device,
        ext4_mount(device, directory / "disk", weather.ext4) as disk,
    ):
        mounted = Mounted(disk / "store", mnt)
        mounted.expected = ["a record is cut short"]
        try:
            make_store(mounted.store, run, is_encrypted=is_encrypted)
            environ |= run.environ
            (directory / "start").write_text(str(run.log.stat().st_size))
            mounted.mount(**environ)
            prepare(mnt, work)
            for is_first in (True, False):
                with neighbour(disk / "neighbour"):
                    _work(run, mnt, work, is_first=is_first)
                if is_first:
                    mounted.kill()
                    mounted.mount(**environ)
            mounted.umount()
            assert mounted.unexpected() == []
        finally:
            mounted.clean_up()
    image.unlink()
    return run


def _work(run: Run, mnt: Path, work: list[Job], *, is_first: bool) -> None:
    def place() -> int:
        return run.log.stat().st_size

    halves = [
        (job, slice(job.killed_after) if is_first else slice(job.killed_after, None))
        for job in work
    ]
    with at_work(mnt, halves, run.directory, place) as writers:
        wait_for(writers)
