"""Connections to a directory of a server, handed from thread to thread; their errors as ours.

A few are kept open. One that fails in any way is thrown away; the next call opens another.
"""

import posixpath
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, ENOENT
from stat import S_ISDIR

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
from fusefs.remotes.secrets import Secrets
from fusefs.remotes.sftp_session import Client, Login, Session

_CONNECTIONS = 4
#: What a file system may keep for itself while it says that so much is free.
_MARGIN_BYTES = 1 << 20


class Pool:
    """Those to the directory `root` of an address. Its methods may be called by several threads."""

    def __init__(self, address: Address, secrets: Secrets) -> None:
        """Raises BadRemote. Nothing is sent."""
        self.place = address.place
        self.root = address.path
        self._login = Login(address, secrets)
        self._slots = threading.Semaphore(address.options.get("connections", _CONNECTIONS))
        self._idle: list[Session] = []
        self._lock = threading.Lock()

    def free_bytes(self) -> int | None:
        """Room on the disk of `root`, or None where the server does not say."""
        with self.client("") as client:
            return client.room(self.root)[0] if client.has("statvfs") else None

    def close(self, last: Callable[[Client], object] = lambda client: None) -> None:
        """Let go of all connections; `last` is tried on each before."""
        with self._lock:
            sessions, self._idle = self._idle, []
        for session in sessions:
            with suppress(Exception):
                last(session.client)
            session.close()

    @contextmanager
    def client(self, name: str) -> Iterator[Client]:
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
            if S_ISDIR(session.client.stat(self.root).st_mode):
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
                session.client.stat(self.root)
            except FileNotFoundError:
                return RemoteMissing(f"{self.place}: no such directory: make it first")
            except Exception:
                return RemoteUnreachable(f"{what}: the connection is lost")
            return NoSuchObject(f"{what}: no such object")
        if number == EACCES:
            return RemoteDenied(f"{what}: access denied: the user has no right to that")
        if isinstance(error, OSError):
            return self.failure(session.client, what, str(error))
        return RemoteError(f"{what}: {type(error).__name__}")

    def failure(self, client: Client, what: str, said: str) -> RemoteError:
        """OpenSSH says "Failure" for a full disk and for one that takes no writes."""
        if client.has("statvfs"):
            with suppress(OSError):
                free, is_read_only = client.room(self.root)
                if is_read_only:
                    return RemoteReadOnly(f"{what}: the disk there takes no writes")
                if free < _MARGIN_BYTES:
                    return RemoteFull(f"{what}: no room is left there")
        return RemoteError(f"{what}: the server says: {said}")

    def make_parents(self, client: Client, path: str) -> None:
        """Have the directories above `path` be there, as far as that can be."""
        name = path[len(self.root.rstrip("/")) + 1 :]
        for parent in reversed(parents(name)):
            # There already, or made by another; the next turn tells.
            with suppress(OSError):
                client.mkdir(posixpath.join(self.root, parent))


def parents(name: str) -> tuple[str, ...]:
    """The directories of a name, the innermost first."""
    parts = name.split("/")[:-1]
    return tuple("/".join(parts[:count]) for count in range(len(parts), 0, -1))
