"""Processes that carry out plans in a mount, and note on another disk what was acknowledged.

A line of a history is a JSON array: number of the step, whether it is done (or about to begin),
and how long the log of the disk was then. It is written with one call, after the step's calls
have returned, so it never says more than the filesystem did.
"""

import errno
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import NamedTuple

from tests.conftest import fusefs
from tests.crash.powercut.steps import PAGE, Step, plan

#: The file that stays open.
PAGES_NAME = "pages"
#: What a writer hears when the power fails.
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.EROFS)


class Job(NamedTuple):
    """A writer's work: `name` is that of its directory. `killed_after`: how many steps it had done
    when the daemon was killed and started again."""

    name: str
    seed: int
    count: int
    synced_share: float
    by_verbs: bool
    killed_after: int = -1

    @property
    def steps(self) -> list[Step]:
        return plan(self.seed, self.count, self.synced_share, by_verbs=self.by_verbs)


class Writer:
    """Takes steps in the directory `name` of a mount."""

    def __init__(self, mnt: Path, name: str, *, by_verbs: bool) -> None:
        self._mnt = mnt
        self._directory = mnt / name
        self._by_verbs = by_verbs
        self._pages = os.open(self._directory / PAGES_NAME, os.O_CREAT | os.O_RDWR, 0o600)

    def take(self, step: Step) -> None:
        """Returns when it is done, and durable if it says so."""
        path = self._directory / step.name
        match step.action:
            case "create":
                self._write(path, os.O_CREAT | os.O_EXCL, step, 0)
            case "append":
                self._write(path, 0, step, path.stat().st_size)
            case "splice":
                self._write(path, 0, step, step.offset)
            case "cut":
                os.truncate(path, step.offset)
                self._sync(path, step)
            case "mkdir":
                (self._directory / step.other).parent.mkdir()
                self._rename(path, step)
            case "rename" | "move":
                self._rename(path, step)
            case "unlink":
                path.unlink()
                self._sync(self._directory, step)
            case "restore" if self._by_verbs:
                to = self._directory / step.other
                fusefs("trash", "restore", path, "--to", to)
            case "restore":
                self._rename(self._in_trash(step.name), step)
            case "purge" if self._by_verbs:
                listed = json.loads(fusefs("trash", "list", "--all", "--json", self._mnt))
                wanted = "/" + str(path.relative_to(self._mnt))
                numbers = [one["id"] for one in listed if one["original_path"] == wanted]
                fusefs("trash", "purge", self._mnt, *map(str, numbers))
            case "purge":
                self._in_trash(step.name).unlink()
                self._sync(self._directory, step)
            case "collect":
                fusefs("gc", self._mnt)
            case "scribble":
                for page, content in step.pages.items():
                    os.pwrite(self._pages, content, page * PAGE)
            case "settle":
                os.fsync(self._pages)

    def _write(self, path: Path, flags: int, step: Step, offset: int) -> None:
        file = os.open(path, os.O_WRONLY | flags, 0o600)
        try:
            data = step.data
            half = len(data) // 2
            os.pwrite(file, data[:half], offset)
            os.pwrite(file, data[half:], offset + half)
            if step.is_durable:
                os.fsync(file)
        finally:
            os.close(file)

    def _rename(self, path: Path, step: Step) -> None:
        os.rename(path, self._directory / step.other)
        self._sync(self._directory, step)

    def _in_trash(self, name: str) -> Path:
        below = Path(self._directory.name, name)
        trash = self._mnt / ".trash"
        found = [trash / hour / below for hour in os.listdir(trash)]
        return next(path for path in found if path.exists())

    @staticmethod
    def _sync(path: Path, step: Step) -> None:
        if step.is_durable:
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)


def run_writer(
    mnt: Path, job: Job, part: slice, history: Path, place: Callable[[], int], may_fail: bool
) -> None:
    """In a process of its own: take a part of the steps, perhaps until the power fails."""
    notes = os.open(history, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        writer = Writer(mnt, job.name, by_verbs=job.by_verbs)
        for step in job.steps[part]:
            os.write(notes, json.dumps([step.index, False, place()]).encode() + b"\n")
            writer.take(step)
            os.write(notes, json.dumps([step.index, True, place()]).encode() + b"\n")
    except OSError as error:
        if not may_fail or error.errno not in GONE:
            raise


@contextmanager
def at_work(
    mnt: Path,
    parts: list[tuple[Job, slice]],
    histories: Path,
    place: Callable[[], int],
    *,
    may_fail: bool = False,
) -> Iterator[list[ForkProcess]]:
    """Writers that have begun; none is left at the end."""
    fork = multiprocessing.get_context("fork")
    writers = [
        fork.Process(
            target=run_writer, args=(mnt, job, part, histories / job.name, place, may_fail)
        )
        for job, part in parts
    ]
    try:
        for writer in writers:
            writer.start()
        yield writers
    finally:
        for writer in writers:
            if writer.pid is not None and writer.is_alive():
                writer.kill()
            if writer.pid is not None:
                writer.join()


def wait_for(writers: list[ForkProcess], timeout_s: float = 120) -> None:
    """Until all have done their part, without an error."""
    for writer in writers:
        writer.join(timeout_s)
    assert [writer.exitcode for writer in writers] == [0] * len(writers)
