"""How much of mapped files counts as memory of this process, and how to give it back.

LMDB maps its whole file, and what was once read of it counts as resident until the kernel needs the
memory for something else: 500 MiB after a million files. On a shared mapping of a file
madvise(MADV_DONTNEED) takes the pages from the process and leaves them in the page cache, see
madvise(2): the next look at one costs a minor fault.
"""

import ctypes
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: In this time some 20 MiB are read out of the kernel's memory.
_EVERY_S = 0.01

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def mapped_bytes() -> int:
    """Of mapped files, programs and libraries included, what is resident."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[2]) * mmap.PAGESIZE


def release(directory: Path) -> None:
    """Give back the pages of all shared mappings of files below `directory`."""
    _forget(_mappings(directory))


@contextmanager
def kept_small(directory: Path) -> Iterator[None]:
    """Give back pages of files below `directory` again and again, while something reads all of
    them in another thread. They must stay mapped where they are meanwhile."""
    mappings = _mappings(directory)
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_EVERY_S):
            _forget(mappings)

    watcher = threading.Thread(target=watch, name="resident", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()


def _mappings(directory: Path) -> list[tuple[int, int]]:
    """(address, size) of each shared mapping of a file below `directory`."""
    below = os.fsencode(directory.resolve()) + b"/"
    with open("/proc/self/maps", "rb") as file:
        lines = file.readlines()
    found = []
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith(below) and fields[1].endswith(b"s"):
            start, _, end = fields[0].partition(b"-")
            found.append((int(start, 16), int(end, 16) - int(start, 16)))
    return found


def _forget(mappings: list[tuple[int, int]]) -> None:
    for address, size in mappings:
        _libc.madvise(address, size, mmap.MADV_DONTNEED)
