"""How much of mapped files counts as memory of this process, and how to give it back.

LMDB maps its whole file, and what was once read of it counts as resident until the kernel needs the
memory for something else: 500 MiB after a million files. On a shared mapping of a file
madvise(MADV_DONTNEED) takes the pages from the process and leaves them in the page cache, see
madvise(2): the next look at one costs a minor fault.
"""

import ctypes
import mmap
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def mapped_bytes() -> int:
    """Of mapped files, programs and libraries included, what is resident."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[2]) * mmap.PAGESIZE


def release(directory: Path) -> None:
    """Give back the pages of all shared mappings of files below `directory`."""
    below = os.fsencode(directory.resolve()) + b"/"
    with open("/proc/self/maps", "rb") as file:
        lines = file.readlines()
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith(below) and fields[1].endswith(b"s"):
            start, _, end = fields[0].partition(b"-")
            address = int(start, 16)
            _libc.madvise(address, int(end, 16) - address, mmap.MADV_DONTNEED)
