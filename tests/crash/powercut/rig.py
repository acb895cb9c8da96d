"""The machine around a store: image files, loop devices, an ext4, and the disk that remembers.

Everything is a context manager that takes down what it set up, whatever happened inside.
"""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which

import pytest

from tests.conftest import ROOT

MIB = 1 << 20
IMAGE_BYTES = 256 * MIB
TIMEOUT_S = 180
#: How ext4 is mounted: by its defaults a file never has bytes that were not yet written, ...
ORDERED = "data=ordered,commit=1"
#: ... in this way it may, so that the end of a log is torn or has garbage in it.
UNORDERED = "data=writeback,nodelalloc,dioread_lock,commit=1"

needs_loop_devices = pytest.mark.skipif(
    os.getuid() != 0 or not Path("/dev/loop-control").exists() or not which("mkfs.ext4"),
    reason="needs to be root, loop devices, and mkfs.ext4",
)


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert not done.returncode, (command, done.stderr)
    return done.stdout.strip()


def make_ext4(image: Path) -> None:
    """An empty ext4 with a journal, and nothing left to be initialized in the background."""
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    lazy = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    _run("mkfs.ext4", "-q", "-m", "0", "-b", "4096", "-J", "size=8", "-E", lazy, image)


@contextmanager
def loop_device(image: Path, *, is_direct: bool) -> Iterator[Path]:
    """A block device over a file. Skips the test where there are none."""
    mode = "on" if is_direct else "off"
    done = subprocess.run(
        ["losetup", "--find", "--show", f"--direct-io={mode}", image],
        capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    device = Path(done.stdout.strip())
    try:
        yield device
    finally:
        _run("losetup", "--detach", device)


@contextmanager
def ext4_mount(device: Path, directory: Path, options: str = ORDERED) -> Iterator[Path]:
    """The ext4 of a device; mounting recovers its journal."""
    directory.mkdir(exist_ok=True)
    _run("mount", "-t", "ext4", "-o", options, device, directory)
    try:
        yield directory
    finally:
        _unmount(directory)


@contextmanager
def ext4_of(image: Path, directory: Path) -> Iterator[Path]:
    """The ext4 in an image file."""
    with loop_device(image, is_direct=False) as device, ext4_mount(device, directory):
        yield directory


def _unmount(directory: Path) -> None:
    """Lazily where somebody a failed test left is still in it: it goes with them."""
    if subprocess.run(["umount", directory], stderr=subprocess.DEVNULL).returncode:
        _run("umount", "--lazy", directory)


@contextmanager
def recorded_disk(directory: Path, image: Path, log: Path) -> Iterator[Path]:
    """A block device whose writes and flushes go through `disk` into `log`."""
    directory.mkdir(exist_ok=True)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.powercut.disk", directory, image, log],
        cwd=ROOT, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        ready, _, _ = select.select([server.stdout], [], [], TIMEOUT_S)
        if not ready or server.stdout.readline() != b"ready\n":
            pytest.skip("the recorded disk cannot be mounted: is FUSE there?")
        with loop_device(directory / "disk", is_direct=True) as device:
            yield device
    finally:
        subprocess.run(["umount", directory], stderr=subprocess.DEVNULL)
        with suppress(subprocess.TimeoutExpired):
            server.wait(10)
        if server.poll() is None:
            server.kill()
            server.wait()
            subprocess.run(["umount", "--lazy", directory], stderr=subprocess.DEVNULL)
        server.stdout.close()
