"""Files in a directory of this machine, which may be a mount."""

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import (
    EACCES,
    EDQUOT,
    EFBIG,
    EILSEQ,
    EINVAL,
    EIO,
    EISDIR,
    ENAMETOOLONG,
    ENOENT,
    ENOSPC,
    ENOTDIR,
    EPERM,
    EROFS,
)
from pathlib import Path

from fusefs.base import durable
from fusefs.errors import (
    BadRemote,
    NoSuchObject,
    ObjectDamaged,
    RemoteDenied,
    RemoteError,
    RemoteFull,
    RemoteMissing,
    RemoteReadOnly,
    RemoteUnreachable,
)
from fusefs.model.inode import TRASH_RULE
from fusefs.remotes.api import Buffer
from fusefs.remotes.files import PARTIAL, PROBE, FileCapabilities, Seen

_KINDS: dict[int, type[RemoteError]] = {
    EACCES: RemoteDenied,
    EPERM: RemoteDenied,
    EDQUOT: RemoteFull,
    ENOSPC: RemoteFull,
    EFBIG: RemoteFull,
    EIO: ObjectDamaged,
    EISDIR: NoSuchObject,
    ENOENT: NoSuchObject,
    ENOTDIR: NoSuchObject,
    EROFS: RemoteReadOnly,
    **dict.fromkeys((ENAMETOOLONG, EILSEQ, EINVAL), BadRemote),  # no name for that file system
}


class LocalFiles:
    """Those below `directory`. With `mountpoint`, only while something is mounted there."""

    capabilities = FileCapabilities(can_resume=True)

    def __init__(self, directory: bytes, mountpoint: str | None = None) -> None:
        self._directory = directory
        self._mountpoint = mountpoint
        self.place = os.fsdecode(directory)

    def look(self, path: bytes) -> Seen | None:
        try:
            found = os.stat(self._path(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._error(error, path) from error
        return _seen(path, found) if stat.S_ISREG(found.st_mode) else None

    def walk(self, path: bytes) -> Iterator[Seen]:
        pending = [path]
        while pending:
            here = pending.pop()
            with self._errors(here):
                try:
                    with os.scandir(self._path(here)) as listing:
                        entries = sorted(listing, key=lambda entry: entry.name)
                except (FileNotFoundError, NotADirectoryError):
                    continue
            for entry in entries:
                below = here + b"/" + entry.name if here else entry.name
                with self._errors(below):
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(below)
                        continue
                if found := self.look(below):
                    yield found

    def has_folder(self, path: bytes) -> bool:
        return os.path.isdir(self._path(path))

    def check_readable(self) -> None:
        self._check_directory()
        with self._errors(b""), os.scandir(self._path(b"")):
            pass

    def check_writable(self) -> None:
        self._check_directory()
        probe = self._path(PROBE + os.urandom(6).hex().encode())  # others may look as well
        with self._errors(b""):
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.unlink(probe)

    def check_fits(self, path: bytes, size: int) -> None:
        """Any file may."""

    def _check_directory(self) -> None:
        with self._errors(b""):
            if not os.path.isdir(self._path(b"")):
                raise RemoteMissing(f"{self.place} is no directory: make it first")

    def reader(self, path: bytes) -> "LocalReader":
        with self._errors(path):
            return LocalReader(os.open(self._path(path), os.O_RDONLY | os.O_CLOEXEC), self, path)

    def writer(self, path: bytes, start: int) -> "LocalWriter":
        full = self._path(path)
        with self._errors(path):
            if start:
                descriptor = os.open(full, os.O_WRONLY | os.O_CLOEXEC)
            else:
                _make(os.path.dirname(full))
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                descriptor = os.open(full, flags, 0o666)
        try:
            with self._errors(path):
                if os.fstat(descriptor).st_size < start:
                    raise NoSuchObject(f"{self.place}: {_shown(path)} is shorter than it was")
                os.ftruncate(descriptor, start)
                os.lseek(descriptor, start, os.SEEK_SET)
        except BaseException:
            os.close(descriptor)
            raise
        return LocalWriter(descriptor, self, path)

    def patch(self, path: bytes, start: int, content: Buffer) -> None:
        with self._errors(path):
            descriptor = os.open(self._path(path), os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.lseek(descriptor, start, os.SEEK_SET)
                _write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def write_whole(self, path: bytes, parts: Iterable[bytes]) -> None:
        writer = self.writer(path, 0)
        try:
            for part in parts:
                writer.write(part)
            writer.sync()
        finally:
            writer.close()

    def rename(self, path: bytes, new: bytes) -> None:
        target = self._path(new)
        with self._errors(new):
            _make(os.path.dirname(target))
            os.rename(self._path(path), target)
            # Every directory from there to the top may be a new one.
            above = os.path.dirname(target)
            while len(above) >= len(self._directory):
                durable.sync_directory(Path(os.fsdecode(above)))
                if above == self._directory or above == os.path.dirname(above):
                    break
                above = os.path.dirname(above)

    def remove(self, path: bytes) -> bool:
        try:
            os.unlink(self._path(path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self._error(error, path) from error
        return True

    def remove_folder(self, path: bytes) -> None:
        with self._errors(path), suppress(FileNotFoundError):
            shutil.rmtree(self._path(path))

    def free_bytes(self) -> int | None:
        with self._errors(b""):
            found = os.statvfs(self._path(b""))
        return found.f_bavail * found.f_frsize

    def room(self) -> str:
        with self._errors(b""):
            return f"device {os.stat(self._path(b'')).st_dev}"

    def close(self) -> None:
        pass

    def _path(self, path: bytes) -> bytes:
        if self._mountpoint and not os.path.ismount(self._mountpoint):
            raise RemoteUnreachable(f"{self.place}: nothing is mounted at {self._mountpoint}")
        return os.path.join(self._directory, path) if path else self._directory

    @contextmanager
    def _errors(self, path: bytes) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error(error, path) from error

    def _error(self, error: OSError, path: bytes) -> RemoteError:
        kind = _KINDS.get(error.errno or 0, RemoteUnreachable)
        what = f"{self.place}: {_shown(path)}" if path else self.place
        return kind(f"{what}: {error.strerror}")


class LocalReader:
    """Made by `LocalFiles`."""

    def __init__(self, descriptor: int, files: LocalFiles, path: bytes) -> None:
        self._descriptor = descriptor
        self._files = files
        self._path = path

    def read(self, start: int, size: int) -> bytes:
        with self._files._errors(self._path):
            return os.pread(self._descriptor, size, start)

    def close(self) -> None:
        os.close(self._descriptor)


class LocalWriter:
    """Made by `LocalFiles`."""

    def __init__(self, descriptor: int, files: LocalFiles, path: bytes) -> None:
        self._descriptor = descriptor
        self._files = files
        self._path = path

    def write(self, content: Buffer) -> None:
        with self._files._errors(self._path):
            _write_all(self._descriptor, content)

    def sync(self) -> None:
        with self._files._errors(self._path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def _make(folder: bytes) -> None:
    """Make a folder; where that is in a fusefs, what is not ready yet has no use for its trash."""
    if os.path.isdir(folder):
        return
    os.makedirs(folder, mode=0o777, exist_ok=True)
    if os.path.basename(folder) == PARTIAL:
        with suppress(OSError):  # another filesystem, without such attributes
            os.setxattr(folder, TRASH_RULE, b"skip")


def _write_all(descriptor: int, content: Buffer) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _seen(path: bytes, found: os.stat_result) -> Seen:
    return Seen(path, found.st_size, f"{found.st_ino}.{found.st_size}.{found.st_mtime_ns}")


def _shown(path: bytes) -> str:
    return path.decode(errors="backslashreplace")
