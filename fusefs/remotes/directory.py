"""A local directory as a remote, such as one on a mounted disk.

An object is written to a file of its own in ``.incoming``, synced, and linked to its name: a hard
link never overwrites, so of two writers one is refused. Where the file system knows no hard links
(FAT, exFAT) the file is renamed after a look; two writers may then meet unnoticed, and
`capabilities` says so. Whoever writes holds a lock on the file in ``.incoming``; what is not locked
there was left by a writer that was killed, and is removed by the next one.

A directory that does not exist is an error, never made: a disk that is not plugged in must not be
taken for an empty one. For a disk whose mountpoint is itself the directory, the address says which
mountpoint it must be.
"""

import fcntl
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from errno import (
    EACCES,
    EDQUOT,
    EFBIG,
    EHOSTDOWN,
    EHOSTUNREACH,
    EIO,
    EISDIR,
    EMLINK,
    ENODEV,
    ENOENT,
    ENOLINK,
    ENOSPC,
    ENOSYS,
    ENOTCONN,
    ENOTDIR,
    ENXIO,
    EOPNOTSUPP,
    EPERM,
    EROFS,
    ESHUTDOWN,
    ESTALE,
    ETIMEDOUT,
)  # fmt: skip
from pathlib import Path

from fusefs.base import durable
from fusefs.errors import (
    NoSuchObject,
    RemoteDenied,
    RemoteError,
    RemoteFull,
    RemoteMissing,
    RemoteReadOnly,
    RemoteUnreachable,
)
from fusefs.remotes.api import Buffer, Capabilities, Found
from fusefs.remotes.names import check_name, check_prefix

_INCOMING = ".incoming"
_NO_LINKS = (EPERM, EOPNOTSUPP, ENOSYS, EMLINK)
#: What a disk that was pulled out, or a server behind a mount that does not answer, has to say.
_GONE = (
    EIO, ENODEV, ENXIO, ENOTCONN, ESHUTDOWN, ESTALE, ETIMEDOUT, EHOSTDOWN, EHOSTUNREACH, ENOLINK,
)  # fmt: skip
_KINDS: dict[int, type[RemoteError]] = {
    **dict.fromkeys(_GONE, RemoteUnreachable),
    **dict.fromkeys((EACCES, EPERM), RemoteDenied),
    **dict.fromkeys((ENOSPC, EDQUOT, EFBIG), RemoteFull),
    EROFS: RemoteReadOnly,
}


class DirectoryRemote:
    """Objects as files below `root`. With `mountpoint`, only while something is mounted there."""

    def __init__(self, place: str, root: Path, mountpoint: Path | None = None) -> None:
        self.place = place
        self._root = root
        self._mountpoint = mountpoint
        self._capabilities: Capabilities | None = None
        self._has_swept = False

    @property
    def capabilities(self) -> Capabilities:
        """Found out by a look at whether the file system has hard links, once it can be had."""
        if not self._capabilities:
            self._capabilities = Capabilities(
                is_conditional=self._has_links(), knows_free_space=True
            )
        return self._capabilities

    def put(self, name: str, content: Buffer) -> bool:
        path = self._path(name)
        with self._errors(name):
            if os.path.lexists(path):
                return False
            with self._incoming(content) as temporary:
                return self._publish(temporary, path)

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        path = self._path(name)
        with self._errors(name), path.open("rb", buffering=0) as file:
            length = os.fstat(file.fileno()).st_size
            end = length if size is None else min(length, start + size)
            parts: list[bytes] = []
            while start < end and (part := os.pread(file.fileno(), end - start, start)):
                parts.append(part)
                start += len(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        paths = {name: self._path(name) for name in names}
        there: dict[str, int] = {}
        with self._errors(""):
            for name, path in paths.items():
                with suppress(FileNotFoundError, NotADirectoryError):
                    what = path.stat()
                    if stat.S_ISREG(what.st_mode):
                        there[name] = what.st_size
        return there

    def list(self, prefix: str) -> Iterator[Found]:
        waiting = [check_prefix(prefix)]
        self._check_root()
        while waiting:
            below = waiting.pop()
            with self._errors(below):
                entries = _entries(self._root / below)
            for entry in entries:
                name = below + entry.name
                if entry.name.startswith("."):
                    continue
                with self._errors(name):
                    if entry.is_dir():
                        waiting.append(f"{name}/")
                        continue
                    try:
                        what = entry.stat()
                    except FileNotFoundError:
                        continue
                yield Found(name, what.st_size, what.st_mtime_ns)

    def delete(self, name: str) -> bool:
        path = self._path(name)
        with self._errors(name):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return False
            # Directories that are empty now go as well; a put that meets that makes them again.
            with suppress(FileNotFoundError):
                durable.sync_directory(path.parent)
            with suppress(OSError):
                for parent in path.relative_to(self._root).parents[:-1]:
                    (self._root / parent).rmdir()
            return True

    def free_bytes(self) -> int | None:
        with self._errors(""):
            self._check_root()
            room = os.statvfs(self._root)
        return room.f_bavail * room.f_frsize

    def close(self) -> None:
        """Nothing is kept open; a directory of unfinished files that has none goes."""
        with suppress(OSError):
            (self._root / _INCOMING).rmdir()

    def _path(self, name: str) -> Path:
        check_name(name)
        self._check_root()
        return self._root / name

    def _check_root(self) -> None:
        if self._mountpoint and not os.path.ismount(self._mountpoint):
            raise RemoteUnreachable(f"{self.place}: nothing is mounted at {self._mountpoint}")
        try:
            if stat.S_ISDIR(self._root.stat().st_mode):
                return
        except OSError as error:
            if error.errno not in (ENOENT, ENOTDIR):
                kind = _KINDS.get(error.errno or EIO, RemoteError)
                raise kind(f"{self.place}: {error.strerror}") from error
        raise RemoteMissing(f"{self.place}: no such directory: plug in the disk, or mkdir it")

    @contextmanager
    def _incoming(self, content: Buffer) -> Iterator[Path]:
        """A file of this content, locked and durable but for its name."""
        directory = self._root / _INCOMING
        if not self._has_swept:
            self._has_swept = True
            _sweep(directory)
        temporary, descriptor = _create_locked(directory)
        try:
            rest = memoryview(content).cast("B")
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
            yield temporary
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
            os.close(descriptor)

    def _publish(self, temporary: Path, path: Path) -> bool:
        """Give a file its name, durably; False if something has it."""
        while True:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except FileNotFoundError:
                if not temporary.exists():
                    raise RemoteUnreachable(f"{self.place}: swept away") from None
                self._make_parents(path)
                continue
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if os.path.lexists(path):
                    return False
                self._make_parents(path)
                temporary.rename(path)
            durable.sync_directory(path.parent)
            return True

    def _make_parents(self, path: Path) -> None:
        for parent in reversed(path.relative_to(self._root).parents[:-1]):
            # What another's delete takes away meanwhile, the next turn makes again.
            with suppress(FileExistsError, FileNotFoundError):
                (self._root / parent).mkdir()
                durable.sync_directory((self._root / parent).parent)

    def _has_links(self) -> bool:
        with self._errors(""), self._incoming(b"") as temporary:
            other = temporary.with_name(f"{temporary.name}-link")
            try:
                os.link(temporary, other)
            except OSError as error:
                if error.errno in _NO_LINKS:
                    return False
                raise
            other.unlink()
            return True

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Raise what the operating system says about an object as an error of ours."""
        try:
            yield
        except OSError as error:
            what, number = f"{self.place}: {name}".rstrip(": "), error.errno or EIO
            if number in (ENOENT, ENOTDIR, EISDIR):
                # Of the object, or of everything: a disk that was pulled out just now.
                self._check_root()
                raise NoSuchObject(f"{what}: no such object") from None
            raise _KINDS.get(number, RemoteError)(f"{what}: {error.strerror}") from error


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _create_locked(directory: Path) -> tuple[Path, int]:
    """A new file, and its descriptor with the lock that keeps `_sweep` away."""
    while True:
        path = directory / os.urandom(12).hex()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            directory.mkdir(exist_ok=True)
            continue
        with suppress(OSError):  # of file systems without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        # Another's sweep was between the two calls.
        os.close(descriptor)


def _sweep(directory: Path) -> None:
    """Remove the files of writers that were killed: those that nobody has locked."""
    for entry in _entries(directory):
        with suppress(OSError):
            descriptor = os.open(entry.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)
            finally:
                os.close(descriptor)
