"""A directory on another machine as a remote, by SFTP.

As in a local directory an object is written to a file of its own in ``.incoming``, synced where
the server can, and given its name by a hard link, which never overwrites. Servers other than
OpenSSH may have neither: then the file is renamed after a look, and `capabilities` says that two
writers may meet unnoticed. Whether a name that was just made outlives a power cut of the server is
up to its file system: the protocol cannot sync a directory.
"""

import os
import posixpath
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from stat import S_ISDIR

from fusefs.errors import RemoteUnreachable
from fusefs.remotes.address import Address
from fusefs.remotes.api import Buffer, Capabilities, Found
from fusefs.remotes.names import check_name, check_prefix
from fusefs.remotes.secrets import Secrets
from fusefs.remotes.sftp_pool import Pool, parents
from fusefs.remotes.sftp_session import Client

_INCOMING = ".incoming"
#: Left there by a writer that was killed, without doubt: by the clock of the server alone.
_STALE_S = 86400


class SftpRemote:
    """Objects as files below a directory of a server."""

    def __init__(self, address: Address, secrets: Secrets) -> None:
        """Raises BadRemote. Nothing is sent."""
        self.place = address.place
        self._pool = Pool(address, secrets)
        self._root = address.path
        self._capabilities: Capabilities | None = None
        self._has_swept = False

    @property
    def capabilities(self) -> Capabilities:
        """Known when a server has said what it can do; raises as any call does."""
        if not self._capabilities:
            with self._pool.client("") as client:
                self._capabilities = Capabilities(
                    is_conditional=client.has("hardlink"), knows_free_space=client.has("statvfs")
                )
        return self._capabilities

    def put(self, name: str, content: Buffer) -> bool:
        path = self._path(name)
        with self._pool.client(name) as client:
            if client.is_there(path):
                return False
            with self._incoming(client, content) as temporary:
                return self._publish(client, temporary, path)

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        path = self._path(name)
        with self._pool.client(name) as client, client.open(path, "r") as file:
            length = file.stat().st_size
            end = length if size is None else min(length, start + size)
            return client.read_at(file.handle, start, end)

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        paths = {name: self._path(name) for name in names}
        with self._pool.client("") as client:
            sizes = client.sizes(paths.values())
        return {name: size for name, size in zip(paths, sizes, strict=True) if size is not None}

    def list(self, prefix: str) -> Iterator[Found]:
        waiting = [check_prefix(prefix)]
        while waiting:
            below = waiting.pop()
            with self._pool.client(below) as client:
                entries = client.entries(posixpath.join(self._root, below))
            for entry in entries:
                name = below + entry.filename
                if entry.filename.startswith("."):
                    continue
                if S_ISDIR(entry.st_mode):
                    waiting.append(f"{name}/")
                else:
                    yield Found(name, entry.st_size, entry.st_mtime * 10**9)

    def delete(self, name: str) -> bool:
        path = self._path(name)
        with self._pool.client(name) as client:
            if not client.is_there(path):
                return False
            try:
                client.remove(path)
            except FileNotFoundError:
                return False
            # Directories that are empty now go as well; a put that meets that makes them again.
            with suppress(OSError):
                for parent in parents(name):
                    client.rmdir(posixpath.join(self._root, parent))
            return True

    def free_bytes(self) -> int | None:
        return self._pool.free_bytes()

    def close(self) -> None:
        """A directory of unfinished files that has none goes."""
        self._pool.close(lambda client: client.rmdir(posixpath.join(self._root, _INCOMING)))

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, check_name(name))

    @contextmanager
    def _incoming(self, client: Client, content: Buffer) -> Iterator[str]:
        """A file of this content without a name that counts."""
        directory = posixpath.join(self._root, _INCOMING)
        path = posixpath.join(directory, os.urandom(12).hex())
        try:
            file = client.open(path, "wx")
        except FileNotFoundError:
            _make_directory(client, directory)
            file = client.open(path, "wx")
        try:
            with file:
                if not self._has_swept:
                    self._has_swept = True
                    _sweep(client, directory, file.stat().st_mtime)
                self._fill(client, file.handle, content)
            yield path
        finally:
            with suppress(OSError, EOFError):
                client.remove(path)

    def _fill(self, client: Client, handle: bytes, content: Buffer) -> None:
        try:
            client.write_at(handle, 0, content)
            if client.has("fsync"):
                client.sync(handle)
        except OSError as error:
            if error.errno or client.is_lost():
                raise
            # Now, while the file is there: the room that it lacks is free again without it.
            raise self._pool.failure(client, self.place, str(error)) from None

    def _publish(self, client: Client, temporary: str, path: str) -> bool:
        """Give a file its name; False if something has it."""
        give = client.hard_link if client.has("hardlink") else client.rename
        while True:
            if not client.has("hardlink") and client.is_there(path):
                return False
            try:
                give(temporary, path)
            except FileNotFoundError:
                if not client.is_there(temporary):
                    raise RemoteUnreachable(f"{self.place}: an unfinished file is gone") from None
                self._pool.make_parents(client, path)
                continue
            except PermissionError:
                raise
            except OSError:
                if client.is_there(path):
                    return False
                raise
            return True


def _make_directory(client: Client, path: str) -> None:
    """Make one, unless another does just then."""
    try:
        client.mkdir(path)
    except OSError:
        if not client.is_there(path):
            raise


def _sweep(client: Client, directory: str, now_s: int) -> None:
    """Remove what writers left that were killed."""
    for entry in client.entries(directory):
        if now_s - (entry.st_mtime or now_s) > _STALE_S:
            with suppress(OSError):
                client.remove(posixpath.join(directory, entry.filename))
