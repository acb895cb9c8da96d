"""Files in a directory of another machine, by SFTP.

Each call borrows one of a few connections, as those of `sftp` do, and opens the file anew: nothing
is held between calls, so a connection that is lost costs a call. Whether a rename outlives a power
cut of the server is up to its file system. Times there are whole seconds: a source that changes
twice in one, and keeps its size, does not look changed. Names must be UTF-8.
"""

import os
import posixpath
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from stat import S_ISDIR, S_ISREG
from typing import Any

from fusefs.errors import BadTransfer, NoSuchObject
from fusefs.remotes.address import Address
from fusefs.remotes.api import Buffer
from fusefs.remotes.files import PROBE, FileCapabilities, ReadAhead, Reader, Seen, Writer
from fusefs.remotes.secrets import Secrets
from fusefs.remotes.sftp_pool import Pool
from fusefs.remotes.sftp_session import Client

#: Read at one time, because each call costs ways to the server and back.
_AHEAD_BYTES = 4 << 20


class SftpFiles:
    """Those below an address."""

    capabilities = FileCapabilities(can_resume=True)

    def __init__(self, address: Address, secrets: Secrets) -> None:
        """Raises BadRemote. Nothing is sent."""
        self._pool = Pool(address, secrets)
        self._root = address.path
        self.place = address.place

    def look(self, path: bytes) -> Seen | None:
        with self._pool.client(_name(path)) as client:
            try:
                found = client.stat(self._path(path))
            except FileNotFoundError:
                return None
        return _seen(path, found) if S_ISREG(found.st_mode or 0) else None

    def walk(self, path: bytes) -> Iterator[Seen]:
        pending = [path]
        while pending:
            here = pending.pop()
            with self._pool.client(_name(here)) as client:
                entries = sorted(client.entries(self._path(here)), key=lambda entry: entry.filename)
            for entry in entries:
                name = entry.filename.encode()
                below = here + b"/" + name if here else name
                if S_ISDIR(entry.st_mode or 0):
                    pending.append(below)
                elif not name.startswith(PROBE):
                    # Of a link, and where the server says nothing, it is asked what is behind.
                    is_file = S_ISREG(entry.st_mode or 0)
                    if found := _seen(below, entry) if is_file else self.look(below):
                        yield found

    def has_folder(self, path: bytes) -> bool:
        with self._pool.client(_name(path)) as client:
            try:
                return S_ISDIR(client.stat(self._path(path)).st_mode or 0)
            except FileNotFoundError:
                return False

    def check_readable(self) -> None:
        with self._pool.client("") as client:
            client.listdir_attr(self._root)

    def check_writable(self) -> None:
        probe = self._path(PROBE + os.urandom(6).hex().encode())
        with self._pool.client("") as client:
            client.open(probe, "wx").close()
            client.remove(probe)

    def check_fits(self, path: bytes, size: int) -> None:
        _name(path)

    def reader(self, path: bytes) -> Reader:
        if self.look(path) is None:
            raise NoSuchObject(f"{self.place}: {_name(path)}: no such file")
        return ReadAhead(partial(self._read, path), _AHEAD_BYTES)

    def writer(self, path: bytes, start: int) -> Writer:
        full = self._path(path)
        with self._pool.client(_name(path)) as client:
            if start:
                if (client.stat(full).st_size or 0) < start:
                    raise NoSuchObject(f"{self.place}: {_name(path)} is shorter than it was")
                client.truncate(full, start)
            else:
                self._pool.make_parents(client, full)
                client.open(full, "w").close()
        return _Writer(self, path, start)

    def patch(self, path: bytes, start: int, content: Buffer) -> None:
        self._write(path, start, content)
        self._sync(path)

    def write_whole(self, path: bytes, parts: Iterable[bytes]) -> None:
        writer = self.writer(path, 0)
        for part in parts:
            writer.write(part)
        writer.sync()

    def rename(self, path: bytes, new: bytes) -> None:
        old, final = self._path(path), self._path(new)
        with self._pool.client(_name(new)) as client:
            self._pool.make_parents(client, final)
            if client.has("posix-rename"):
                client.posix_rename(old, final)
                return
            with suppress(FileNotFoundError):  # servers without it do not replace
                client.remove(final)
            client.rename(old, final)

    def remove(self, path: bytes) -> bool:
        with self._pool.client(_name(path)) as client:
            try:
                client.remove(self._path(path))
            except FileNotFoundError:
                return False
        return True

    def remove_folder(self, path: bytes) -> None:
        with self._pool.client(_name(path)) as client:
            _remove_all(client, self._path(path))

    def free_bytes(self) -> int | None:
        return self._pool.free_bytes()

    def room(self) -> str:
        return self.place

    def close(self) -> None:
        self._pool.close()

    def _path(self, path: bytes) -> str:
        return posixpath.join(self._root, _name(path)) if path else self._root

    def _write(self, path: bytes, start: int, content: Buffer) -> None:
        with (
            self._pool.client(_name(path)) as client,
            client.open(self._path(path), "r+") as file,
        ):
            client.write_at(file.handle, start, content)

    def _sync(self, path: bytes) -> None:
        with self._pool.client(_name(path)) as client:
            if client.has("fsync"):
                with client.open(self._path(path), "r+") as file:
                    client.sync(file.handle)

    def _read(self, path: bytes, start: int, size: int) -> bytes:
        with (
            self._pool.client(_name(path)) as client,
            client.open(self._path(path), "r") as file,
        ):
            return client.read_at(file.handle, start, start + size)


class _Writer:
    """Appends by calls of their own."""

    def __init__(self, files: SftpFiles, path: bytes, start: int) -> None:
        self._files = files
        self._path = path
        self._at = start

    def write(self, content: Buffer) -> None:
        self._files._write(self._path, self._at, content)
        self._at += memoryview(content).nbytes

    def sync(self) -> None:
        self._files._sync(self._path)

    def close(self) -> None:
        pass


def _seen(path: bytes, found: Any) -> Seen:
    """`found`: attributes as paramiko has them."""
    return Seen(path, found.st_size or 0, f"{found.st_size}.{found.st_mtime}")


def _remove_all(client: Client, path: str) -> None:
    for entry in client.entries(path):
        below = posixpath.join(path, entry.filename)
        if S_ISDIR(entry.st_mode or 0):
            _remove_all(client, below)
        else:
            with suppress(FileNotFoundError):
                client.remove(below)
    with suppress(FileNotFoundError):
        client.rmdir(path)


def _name(path: bytes) -> str:
    try:
        return path.decode()
    except UnicodeDecodeError:
        shown = path.decode(errors="backslashreplace")
        raise BadTransfer(f"{shown}: a name for SFTP must be UTF-8") from None
