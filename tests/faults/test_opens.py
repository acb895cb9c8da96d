"""A daemon that has opened and closed files all day holds no more than in the morning."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Mounted
from tests.system.trashcan import until

#: How many files are opened and closed; tools/soak does more.
OPENS = int(os.environ.get("FUSEFS_OPENS", "16000"))
#: Rounds after which it is looked how much memory there is; the first ones fill caches.
_ROUNDS = 8

pytestmark = [pytest.mark.mount, pytest.mark.slow, pytest.mark.timeout(900)]


def descriptors(pid: int) -> dict[str, int]:
    """How many of each kind a process has open: files of segments come and go."""
    found: dict[str, int] = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed by now
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            if "/segments/" not in target:
                found[target] = found.get(target, 0) + 1
    return found


def memory_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_and_close(mnt: Path, number: int) -> None:
    """One of the ways in which files are opened."""
    flags = (os.O_RDONLY, os.O_RDWR, os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)[number % 4]
    path = mnt / (f"new {number % 16}" if number % 4 == 3 else f"file {number % 7}")
    descriptor = os.open(path, flags)
    try:
        if number % 4 == 2:
            os.read(descriptor, 100)
        if number % 4 == 3:
            os.write(descriptor, b"written")
    finally:
        os.close(descriptor)
    if number % 16 == 15:
        path.unlink()


def test_files_that_are_opened_and_closed_leave_nothing_behind(mounted: Mounted) -> None:
    os.setxattr(mounted.mnt, "user.fusefs.trash", b"skip")
    for number in range(7):
        (mounted.mnt / f"file {number}").write_bytes(b"content" * 1000)
    for number in range(200):
        open_and_close(mounted.mnt, number)
    before, memory = descriptors(mounted.pid), []
    for turn in range(_ROUNDS):
        for number in range(OPENS // _ROUNDS):
            open_and_close(mounted.mnt, turn + number)
        memory.append(memory_bytes(mounted.pid))
    os.sync()  # release is asynchronous, and this waits for what came before
    (mounted.mnt / "file 0").stat()
    # A directory that is synced is open for a moment, before or now.
    until(
        lambda: all(
            count <= before.get(target, 0) for target, count in descriptors(mounted.pid).items()
        )
    )
    assert memory[-1] < 1.1 * memory[_ROUNDS // 2 - 1], memory
