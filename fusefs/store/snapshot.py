"""STORE/snapshot: a compacted copy of the index, with a sum over it.

::

    snapshot = the pages of an LMDB file  "FUSEFSNP" blake3:32

LMDB takes no notice of what stands behind its pages, so the file can be opened as it is; and it
has no sums of its own, so only this one tells that a copy is what it was. Written before segments
are deleted: the copy, and the log from its position on, are what an index is made from again.
"""

import os
import shutil
from errno import ENOSPC
from pathlib import Path

from blake3 import blake3

NAME = "snapshot"
_MAGIC = b"FUSEFSNP"
_DIGEST_SIZE = 32
_TRAILER_SIZE = len(_MAGIC) + _DIGEST_SIZE
_PIECE = 1 << 20


def seal(descriptor: int) -> None:
    """Write the sum behind the pages that are in the file. Raises OSError."""
    size = os.fstat(descriptor).st_size
    trailer = _MAGIC + _digest(descriptor, size)
    if os.pwrite(descriptor, trailer, size) != len(trailer):
        raise OSError(ENOSPC, os.strerror(ENOSPC))


def problem(path: Path) -> str | None:
    """Why the copy at `path` is not what was written, "" if it is, None where there is no sum to
    tell it by. Raises OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size - _TRAILER_SIZE
        trailer = os.pread(file.fileno(), _TRAILER_SIZE, max(size, 0))
        if size < 0 or not trailer.startswith(_MAGIC):
            return None
        is_whole = trailer[len(_MAGIC) :] == _digest(file.fileno(), size)
        return "" if is_whole else "it does not match its sum"


def copy_pages(path: Path, target: Path) -> None:
    """Copy what LMDB wrote to a new file, durably. Raises OSError."""
    shutil.copyfile(path, target)
    with open(target, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if os.pread(file.fileno(), _TRAILER_SIZE, max(size - _TRAILER_SIZE, 0)).startswith(_MAGIC):
            os.ftruncate(file.fileno(), size - _TRAILER_SIZE)
        os.fsync(file.fileno())


def _digest(descriptor: int, size: int) -> bytes:
    hasher = blake3()
    for at in range(0, size, _PIECE):
        hasher.update(os.pread(descriptor, min(_PIECE, size - at), at))
    return hasher.digest()
