"""The shim (shim.c): built by a test, armed in a process that has it preloaded."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntFlag
from errno import EIO, ENOSPC
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
#: As a failure: a write that takes half of what it was given, and says so.
SHORT = 0


class Calls(IntFlag):
    """Classes of calls, as shim.c numbers them."""

    WRITE = 1
    SYNC = 2  # fsync, fdatasync, open of a directory
    MAKE = 4  # open for creation, mkdir, rename
    CHANGE = 8  # ftruncate, unlink, rmdir
    READ = 16  # read, pread, preadv, open


@dataclass(frozen=True)
class Kind:
    """What fails and how: an errno, or SHORT."""

    calls: Calls
    failure: int


KINDS = {
    "EIO": Kind(Calls.WRITE | Calls.SYNC | Calls.MAKE | Calls.CHANGE, EIO),
    "ENOSPC": Kind(Calls.WRITE | Calls.MAKE, ENOSPC),
    "short": Kind(Calls.WRITE, SHORT),
    "unreadable": Kind(Calls.READ, EIO),
}


def build(directory: Path) -> Path:
    """Compile the shim into `directory`. Raises FileNotFoundError without a compiler."""
    library = directory / "shim.so"
    compiler = os.environ.get("CC", "cc")
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


class Shim:
    """The shim in this process. A child made by fork has its own."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.faults_arm.argtypes = (
            ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_int,
        )  # fmt: skip
        self._library.faults_first.restype = ctypes.c_char_p
        for name in ("faults_count", "faults_struck"):
            getattr(self._library, name).restype = ctypes.c_long

    def arm(self, below: Path, kind: Kind, nth: int, *, stays: bool = False) -> None:
        """Let the `nth` call of `kind` below a directory fail, with `stays` all later ones too.

        With `nth` 0 they are only counted.
        """
        self._calls = kind.calls
        self._library.faults_arm(os.fsencode(below), kind.calls, kind.failure, nth, stays)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing fails and nothing is counted meanwhile."""
        self._library.faults_disarm()
        try:
            yield
        finally:
            self._library.faults_resume(self._calls)

    def disarm(self) -> None:
        self._library.faults_disarm()

    @property
    def count(self) -> int:
        """How many calls there were since it was armed."""
        return int(self._library.faults_count())

    @property
    def struck(self) -> int:
        """How many of them failed."""
        return int(self._library.faults_struck())

    @property
    def first(self) -> str:
        """The first that failed: the call and the path."""
        return os.fsdecode(self._library.faults_first())
