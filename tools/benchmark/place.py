"""A directory of our own below the one that is measured, and nothing of it left afterwards."""

import ctypes
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fusefs.daemon.mounttable import Location, Mount, MountTable

_libc = ctypes.CDLL(None, use_errno=True)
#: So often rmtree begins again where a killed program was still writing.
_ATTEMPTS = 5


class Place:
    """`path` is a new name in `directory`; the directory is there while `made` is entered.

    What was there before is never touched: the name is random, and only made, never taken over.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        location = MountTable.read().locate(os.fsencode(directory))
        self.mount: Mount | None = location.mount
        self.path = directory / f"fusefs-bench-{secrets.token_hex(6)}"
        self._trash = _trash_of(location)

    @property
    def is_fusefs(self) -> bool:
        return self.mount is not None and self.mount.is_fusefs

    @property
    def free_bytes(self) -> int:
        """What may be written to the filesystem by this user."""
        space = os.statvfs(self.directory)
        return space.f_bavail * space.f_frsize

    @contextmanager
    def made(self) -> Iterator[None]:
        """The directory exists in the block, and is removed however that ends."""
        try:
            self.path.mkdir(mode=0o700)
            yield
        finally:
            try:
                self._remove()
            except BaseException:  # a signal that came now; a second one ends the process
                self._remove()
                raise

    def _remove(self) -> None:
        self.empty()
        with suppress(FileNotFoundError):
            self.path.rmdir()
        self._empty_trash()

    def empty(self) -> None:
        """Remove all that is in it, and what it has in the trash of a fusefs."""
        if self.is_fusefs:
            # What is removed below it from now on is destroyed and does not go to the trash.
            with suppress(OSError):
                os.setxattr(self.path, "user.fusefs.trash", b"0")
        with suppress(FileNotFoundError):
            for name in os.listdir(self.path):
                _remove_tree(self.path / name)
        self._empty_trash()
        if self.is_fusefs:
            with suppress(OSError):
                os.removexattr(self.path, "user.fusefs.trash")

    def sync(self) -> None:
        """Have written out what waits. A FUSE daemon hears of fsync alone, not of syncfs."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _libc.syncfs(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(self.path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _empty_trash(self) -> None:
        if self._trash is None:
            return
        # Purges in the background may be faster; a later removal has its number behind the name.
        mounted, inner = self._trash
        for found in mounted.glob(f".trash/*/{glob.escape(inner)}{self.path.name}*"):
            shutil.rmtree(found, ignore_errors=True)


def _trash_of(location: Location) -> tuple[Path, str] | None:
    """Where a fusefs is mounted whole, and the directory in it, with a slash behind it if any."""
    mount = location.mount
    if mount is None or not mount.is_fusefs or mount.root != b"/":
        return None
    inner = os.fsdecode(location.inner)
    return mount.path, f"{inner}/" if inner else ""


def _remove_tree(path: Path) -> None:
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError, NotADirectoryError):
            shutil.rmtree(path, ignore_errors=True)
            path.unlink()
        if not os.path.lexists(path):
            return
    shutil.rmtree(path)  # says why not
