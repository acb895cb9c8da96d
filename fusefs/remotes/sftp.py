"""A directory on another machine as a remote, by SFTP.

As in a local directory an object is written to a file of its own in ``.incoming``, synced where
the server can, and given its name by a hard link, which never overwrites. Servers other than
OpenSSH may have neither: then the file is renamed after a look, and `capabilities` says that two
writers may meet unnoticed. Whether a name that was just made outlives a power cut of the server is
up to its file system: the protocol cannot sync a directory.

A few connections are kept open and handed from thread to thread. One that fails in any way is
thrown away; the next call opens another.
"""

import os
import posixpath
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, ENOENT
from stat import S_ISDIR, S_ISREG
from typing import TypeVar

from paramiko import SFTPAttributes
from paramiko.sftp import CMD_DATA, CMD_READ, CMD_STAT, CMD_WRITE, int64

from fusefs.errors import (
    NoSuchObject,
    RemoteDenied,
    RemoteError,
    RemoteFull,
    RemoteMissing,
    RemoteReadOnly,
    RemoteUnreachable,
)
from fusefs.remotes.address import Address
from fusefs.remotes.api import Buffer, Capabilities, Found
from fusefs.remotes.names import check_name, check_prefix
from fusefs.remotes.secrets import Secrets
from fusefs.remotes.sftp_session import PIECE_BYTES, Client, Login, Session

_CONNECTIONS = 4
_INCOMING = ".incoming"
#: Left there by a writer that was killed, without doubt: by the clock of the server alone.
_STALE_S = 86400
#: What a file system may keep for itself while it says that so much is free.
_MARGIN_BYTES = 1 << 20
_T = TypeVar("_T")


class SftpRemote:
    """Objects as files below a directory of a server."""

    def __init__(self, address: Address, secrets: Secrets) -> None:
        """Raises BadRemote. Nothing is sent."""
        self.place = address.place
        self._login = Login(address, secrets)
        self._root = address.path
        self._slots = threading.Semaphore(address.options.get("connections", _CONNECTIONS))
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        self._capabilities: Capabilities | None = None
        self._has_swept = False

    @property
    def capabilities(self) -> Capabilities:
        """Known when a server has said what it can do; raises as any call does."""
        if not self._capabilities:
            with self._client("") as client:
                self._capabilities = Capabilities(
                    is_conditional=client.has("hardlink"), knows_free_space=client.has("statvfs")
                )
        return self._capabilities

    def put(self, name: str, content: Buffer) -> bool:
        path = self._path(name)
        with self._client(name) as client:
            if _is_there(client, path):
                return False
            with self._incoming(client, content) as temporary:
                return self._publish(client, temporary, path)

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        path = self._path(name)
        with self._client(name) as client, client.open(path, "r") as file:
            length = file.stat().st_size
            end = length if size is None else min(length, start + size)
            return _read(client, file.handle, start, end)

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        wanted = [check_name(name) for name in names]
        there: dict[str, int] = {}
        with self._client("") as client:
            answers = client.ask((CMD_STAT, self._path(name)) for name in wanted)
            for name, answer in zip(wanted, answers, strict=True):
                if isinstance(answer, Exception):
                    if getattr(answer, "errno", 0) != ENOENT:
                        raise answer
                    continue
                what = SFTPAttributes._from_msg(answer[1])
                if S_ISREG(what.st_mode):
                    there[name] = what.st_size
        return there

    def list(self, prefix: str) -> Iterator[Found]:
        waiting = [check_prefix(prefix)]
        while waiting:
            below = waiting.pop()
            with self._client(below) as client:
                entries = _entries(client, posixpath.join(self._root, below))
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
        with self._client(name) as client:
            if not _is_there(client, path):
                return False
            try:
                client.remove(path)
            except FileNotFoundError:
                return False
            # Directories that are empty now go as well; a put that meets that makes them again.
            with suppress(OSError):
                for parent in _parents(name):
                    client.rmdir(posixpath.join(self._root, parent))
            return True

    def free_bytes(self) -> int | None:
        with self._client("") as client:
            return client.room(self._root)[0] if client.has("statvfs") else None

    def close(self) -> None:
        with self._lock:
            sessions, self._idle = self._idle, []
        for session in sessions:
            with suppress(Exception):
                session.client.rmdir(posixpath.join(self._root, _INCOMING))
            session.close()

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, check_name(name))

    @contextmanager
    def _client(self, name: str) -> Iterator[Client]:
        """A connection for one call about an object; errors come out as ours."""
        with self._slots:
            session = self._session()
            try:
                yield session.client
            except RemoteError:
                self._put_back(session)
                raise
            except Exception as error:
                told = self._error(session, error, name)
                if isinstance(told, RemoteUnreachable):
                    session.close()
                else:
                    self._put_back(session)
                raise told from None
            except BaseException:
                session.close()
                raise
            self._put_back(session)

    def _session(self) -> Session:
        while True:
            with self._lock:
                session = self._idle.pop() if self._idle else None
            if session is None:
                return self._connected()
            if session.is_alive():
                return session
            session.close()

    def _connected(self) -> Session:
        session = Session(self._login)
        try:
            self._check_root(session)
        except BaseException:
            session.close()
            raise
        return session

    def _check_root(self, session: Session) -> None:
        try:
            if S_ISDIR(session.client.stat(self._root).st_mode):
                return
        except FileNotFoundError:
            pass
        except Exception as error:
            raise self._error(session, error, "") from None
        raise RemoteMissing(f"{self.place}: no such directory: make it first")

    def _put_back(self, session: Session) -> None:
        with self._lock:
            self._idle.append(session)

    def _error(self, session: Session, error: Exception, name: str) -> RemoteError:
        """What paramiko raised, as an error of ours."""
        what = f"{self.place}: {name}".rstrip(": ")
        if session.is_lost(error):
            return RemoteUnreachable(f"{what}: the connection is lost ({type(error).__name__})")
        number = getattr(error, "errno", None)
        if number == ENOENT:
            try:
                session.client.stat(self._root)
            except FileNotFoundError:
                return RemoteMissing(f"{self.place}: no such directory: make it first")
            except Exception:
                return RemoteUnreachable(f"{what}: the connection is lost")
            return NoSuchObject(f"{what}: no such object")
        if number == EACCES:
            return RemoteDenied(f"{what}: access denied: the user has no right to that")
        if isinstance(error, OSError):
            return self._failure(session.client, what, str(error))
        return RemoteError(f"{what}: {type(error).__name__}")

    def _failure(self, client: Client, what: str, said: str) -> RemoteError:
        """OpenSSH says "Failure" for a full disk and for one that takes no writes."""
        if client.has("statvfs"):
            with suppress(OSError):
                free, is_read_only = client.room(self._root)
                if is_read_only:
                    return RemoteReadOnly(f"{what}: the disk there takes no writes")
                if free < _MARGIN_BYTES:
                    return RemoteFull(f"{what}: no room is left there")
        return RemoteError(f"{what}: the server says: {said}")

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
            _write(client, handle, memoryview(content).cast("B"))
            if client.has("fsync"):
                client.sync(handle)
        except OSError as error:
            if error.errno or client.is_lost():
                raise
            # Now, while the file is there: the room that it lacks is free again without it.
            raise self._failure(client, self.place, str(error)) from None

    def _publish(self, client: Client, temporary: str, path: str) -> bool:
        """Give a file its name; False if something has it."""
        give = client.hard_link if client.has("hardlink") else client.rename
        while True:
            if not client.has("hardlink") and _is_there(client, path):
                return False
            try:
                give(temporary, path)
            except FileNotFoundError:
                if not _is_there(client, temporary):
                    raise RemoteUnreachable(f"{self.place}: an unfinished file is gone") from None
                self._make_parents(client, path)
                continue
            except PermissionError:
                raise
            except OSError:
                if _is_there(client, path):
                    return False
                raise
            return True

    def _make_parents(self, client: Client, path: str) -> None:
        name = path[len(self._root.rstrip("/")) + 1 :]
        for parent in reversed(_parents(name)):
            # There already, or made by another; the next turn tells.
            with suppress(OSError):
                client.mkdir(posixpath.join(self._root, parent))


def _parents(name: str) -> tuple[str, ...]:
    """The directories of a name, the innermost first."""
    parts = name.split("/")[:-1]
    return tuple("/".join(parts[:count]) for count in range(len(parts), 0, -1))


def _is_there(client: Client, path: str) -> bool:
    try:
        client.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _make_directory(client: Client, path: str) -> None:
    """Make one, unless another does just then."""
    try:
        client.mkdir(path)
    except OSError:
        if not _is_there(client, path):
            raise


def _entries(client: Client, path: str) -> tuple[SFTPAttributes, ...]:
    try:
        return tuple(client.listdir_attr(path))
    except FileNotFoundError:
        return ()


def _sweep(client: Client, directory: str, now_s: int) -> None:
    """Remove what writers left that were killed."""
    for entry in _entries(client, directory):
        if now_s - (entry.st_mtime or now_s) > _STALE_S:
            with suppress(OSError):
                client.remove(posixpath.join(directory, entry.filename))


def _write(client: Client, handle: bytes, content: memoryview, at: int = 0) -> None:
    for answer in client.ask(
        (CMD_WRITE, handle, int64(at + start), bytes(content[start : start + PIECE_BYTES]))
        for start in range(0, len(content), PIECE_BYTES)
    ):
        if isinstance(answer, Exception):
            raise answer


def _read(client: Client, handle: bytes, start: int, end: int) -> bytes:
    """Bytes of an open file; fewer if it is shorter. Servers may answer with less than asked."""
    pieces: list[bytes] = []
    while start < end:
        begins = range(start, end, PIECE_BYTES)
        answers = client.ask(
            (CMD_READ, handle, int64(begin), min(PIECE_BYTES, end - begin)) for begin in begins
        )
        for begin, answer in zip(begins, answers, strict=True):
            if isinstance(answer, EOFError):
                return b"".join(pieces)
            if isinstance(answer, Exception):
                raise answer
            if answer[0] != CMD_DATA:
                raise OSError("the server answers a read with something else")
            piece = answer[1].get_string()
            pieces.append(piece)
            start = begin + len(piece)
            if len(piece) < min(PIECE_BYTES, end - begin):
                break
    return b"".join(pieces)
