"""A disk of a test's own, which can be full."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_ext4(
    directory: Path, size: int, ballast: int = 0, has_journal: bool = True
) -> Iterator[Path]:
    """An ext4 of `size` bytes in a file in `directory`, mounted. With so much of `ballast`, a file
    that stands for somebody else's data. Skips where there is no loop device."""
    image, path = directory / "image", directory / "disk"
    with image.open("wb") as file:
        file.truncate(size)
    journal = () if has_journal else ("-O", "^has_journal")
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", *journal, image], check=True)
    path.mkdir()
    done = subprocess.run(["mount", "-o", "loop", image, path], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    try:
        if ballast:
            descriptor = os.open(path / "ballast", os.O_CREAT | os.O_WRONLY)
            os.posix_fallocate(descriptor, 0, ballast)
            os.close(descriptor)
        yield path
    finally:
        # -l: whatever a failed test left, the machine is as before; the loop device goes with it.
        subprocess.run(["umount", "-l", path], check=True)
