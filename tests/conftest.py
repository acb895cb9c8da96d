"""Fixtures that several folders of tests share: stores, and real mounts of them.

Everything here goes through the program, in processes of their own (see `launcher`). Nothing
sleeps: a process is awaited by its descriptor, a mount by the program's own promise that it answers
when the command returns.
"""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs.daemon.mountpoint import unmount
from fusefs.daemon.mounttable import MountTable
from tests import launcher
from tests.launcher import ROOT as ROOT

#: For one command, on a loaded machine.
COMMAND_TIMEOUT_S = 180
_BAD_LINE = re.compile(r"^\S+ (WARNING|ERROR|CRITICAL) |^Traceback |^Fatal Python error")

Done = subprocess.CompletedProcess[str]


def _can_unshare_mounts() -> bool:
    command = ["unshare", "--mount", "true"]
    return os.getuid() == 0 and not subprocess.run(command, stderr=subprocess.DEVNULL).returncode


needs_mount_namespace = pytest.mark.skipif(
    not _can_unshare_mounts(),
    reason="needs root, and a / that is a mount point (a plain chroot's is none)",
)


def pytest_configure() -> None:
    """Programs that a test interrupts heed it, even if a shell runs this in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones come first: none of them is the last, with nothing else left to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def run_fusefs(*arguments: str | Path, **environ: str) -> Done:
    """Run the program in a process of its own; never raises for its exit code."""
    return run_fusefs_as(0, *arguments, **environ)


def run_fusefs_as(user: int, *arguments: str | Path, cwd: str | Path = ".", **environ: str) -> Done:
    """Run the program as a user, or as who runs the tests (0); into `cwd` need the user not be let.

    Its start is the one of an interpreter where that may make a difference.
    """
    everything = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    ours = all(name.startswith("FUSEFS_") for name in environ)
    if user or (ours and os.environ.get("FUSEFS_FORKS") != "0"):
        call = launcher.Call([*map(str, arguments)], everything, str(Path(cwd).absolute()), user)
        return launcher.run(call, COMMAND_TIMEOUT_S)
    return subprocess.run(
        [sys.executable, "-m", "fusefs", *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        stdin=subprocess.DEVNULL,
        env=everything,
        cwd=cwd,
        timeout=COMMAND_TIMEOUT_S,
    )


def fusefs(*arguments: str | Path, **environ: str) -> str:
    """Run the program, which must succeed without a word on stderr; returns its output."""
    done = run_fusefs(*arguments, **environ)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


class Mounted:
    """A mounted filesystem and the daemon that serves it.

    Patterns in `expected` allow lines of the log that would otherwise fail the test.
    """

    def __init__(self, store: Path, mnt: Path) -> None:
        self.store = store
        self.mnt = mnt
        self.pid = 0
        self.expected: list[str] = []
        self._process = -1

    def mount(self, *options: str, **environ: str) -> None:
        """Mount; `options` come before the paths on the command line."""
        out = fusefs("mount", "--json", *options, self.store, self.mnt, **environ)
        self.pid = json.loads(out)["pid"]
        if self._process >= 0:
            os.close(self._process)
        self._process = os.pidfd_open(self.pid)

    def umount(self) -> None:
        """Unmount as users do; all is durable afterwards."""
        fusefs("umount", self.mnt)
        self.wait_for_end()

    def remount(self, *options: str, **environ: str) -> None:
        """Unmount if need be, and mount again."""
        if self.is_mounted and not self.has_ended():
            self.umount()
        self.mount(*options, **environ)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the daemon a signal, SIGKILL by default, and wait for its end."""
        if number == signal.SIGKILL:
            self.expected.append("a record is cut short")  # which it was just writing
        signal.pidfd_send_signal(self._process, number)
        self.wait_for_end()

    def wait_for_end(self, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        """Return when the daemon has ended."""
        assert self.has_ended(timeout_s), f"daemon {self.pid} still runs"

    def has_ended(self, timeout_s: float = 0) -> bool:
        """Whether the daemon has ended, or does so within `timeout_s`."""
        poller = select.poll()
        poller.register(self._process, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))

    @property
    def is_mounted(self) -> bool:
        """Whether the kernel has a mount at `mnt`, be its daemon dead or alive."""
        return MountTable.read().at(os.fsencode(self.mnt)) is not None

    @property
    def log(self) -> str:
        """The daemon's log, all of it."""
        files = sorted(self.store.glob("daemon.log*"), reverse=True)
        return "".join(f.read_text("utf-8", "backslashreplace") for f in files)

    def unexpected(self) -> list[str]:
        """Lines of the log that a healthy run does not have."""
        bad = [line for line in self.log.splitlines() if _BAD_LINE.match(line)]
        return [line for line in bad if not any(re.search(p, line) for p in self.expected)]

    def clean_up(self) -> None:
        """Leave neither mount nor process behind, whatever the test did."""
        try:
            if self._process >= 0 and not self.has_ended() and self.is_mounted:
                run_fusefs("umount", "--force", self.mnt)
        finally:
            if self._process >= 0:
                if not self.has_ended(timeout_s=5):
                    self.kill()
                os.close(self._process)
            while self.is_mounted:
                unmount(self.mnt, lazy=True)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A new, empty store."""
    path = tmp_path / "store"
    fusefs("init", path)
    return path


@pytest.fixture
def mnt(tmp_path: Path) -> Path:
    """An empty directory to mount on."""
    path = tmp_path / "mnt"
    path.mkdir()
    return path


@pytest.fixture
def mounted(store: Path, mnt: Path) -> Iterator[Mounted]:
    """A new filesystem, mounted. The test fails on a warning or an error in the daemon's log."""
    filesystem = Mounted(store, mnt)
    try:
        filesystem.mount()
        yield filesystem
    finally:
        filesystem.clean_up()
    assert filesystem.unexpected() == []
    shutil.rmtree(store)
