"""One SFTP connection: how it is opened and trusted, and many requests under way on it at once.

Traps of paramiko, all met:

- In its pipelined mode the answers to writes are thrown away on close, so that a full disk at the
  other end is not noticed. `Client.ask` keeps requests under way itself and looks at every answer.
- It does not read which extensions a server has, and has no calls for hard links, fsync and free
  space. For these, and for `ask`, a few of its private functions are used: hence the ceiling on its
  version.
- A connection that is lost raises OSError without a number, EOFError, SSHException or others.
"""

import os
import socket
import stat
from collections.abc import Iterable
from errno import ENOENT
from pathlib import Path
from typing import Any

import paramiko
from paramiko import SFTPAttributes, SFTPClient
from paramiko.message import Message
from paramiko.sftp import (
    CMD_DATA,
    CMD_EXTENDED,
    CMD_INIT,
    CMD_READ,
    CMD_STAT,
    CMD_STATUS,
    CMD_VERSION,
    CMD_WRITE,
    SFTPError,
    int64,
)

from fusefs.errors import BadRemote, RemoteDenied, RemoteUnreachable
from fusefs.remotes.address import Address
from fusefs.remotes.api import Buffer
from fusefs.remotes.secrets import Secrets

_PROTOCOL = 3
_PORT = 22
#: Requests under way: 2 MiB, in pieces of a size that every server takes.
_WINDOW = 64
_PIECE_BYTES = 32 << 10
_TAKES_NO_WRITES = 1
_KEEPALIVE_S = 30
_TIMEOUT_S = 30.0
_LOST = (EOFError, paramiko.SSHException, ConnectionError, TimeoutError, SFTPError)

Answer = tuple[int, Any] | Exception


class Client(SFTPClient):  # type: ignore[misc]
    """paramiko's client, and what OpenSSH can do beyond the protocol."""

    extensions: frozenset[str] = frozenset()

    def _send_version(self) -> int:
        hello = Message()
        hello.add_int(_PROTOCOL)
        self._send_packet(CMD_INIT, hello)
        kind, data = self._read_packet()
        if kind != CMD_VERSION:
            raise SFTPError("not an SFTP server")
        told = Message(data)
        version: int = told.get_int()
        names = []
        while told.get_remainder():
            names.append(told.get_text())
            told.get_string()
        self.extensions = frozenset(names)
        return version

    def has(self, extension: str) -> bool:
        return f"{extension}@openssh.com" in self.extensions

    def is_lost(self) -> bool:
        """Whether the connection is no more: also paramiko's own "Socket is closed" says so."""
        channel = self.get_channel()
        return bool(channel.closed or not channel.get_transport().is_active())

    def hard_link(self, old: str, new: str) -> None:
        """Raises OSError, also if there is something of that name."""
        self._request(CMD_EXTENDED, "hardlink@openssh.com", old, new)

    def sync(self, handle: bytes) -> None:
        """Make what was written to an open file durable."""
        self._request(CMD_EXTENDED, "fsync@openssh.com", handle)

    def room(self, path: str) -> tuple[int, bool]:
        """Bytes that are free on the disk of `path`, and whether it takes no writes."""
        _, told = self._request(CMD_EXTENDED, "statvfs@openssh.com", path)
        numbers = [told.get_int64() for _ in range(11)]
        return numbers[4] * numbers[1], bool(numbers[9] & _TAKES_NO_WRITES)

    def ask(self, requests: Iterable[tuple[Any, ...]]) -> list[Answer]:
        """The answers to many requests in their order, or what each failed with.

        An answer is its kind and its message.
        """
        collector = _Collector(self)
        for request in requests:
            while len(collector.waiting) >= _WINDOW:
                self._read_response()
            collector.send(request)
        while collector.waiting:
            self._read_response()
        return collector.answers

    def is_there(self, path: str) -> bool:
        try:
            self.lstat(path)
        except FileNotFoundError:
            return False
        return True

    def entries(self, path: str) -> list[SFTPAttributes]:
        """What a directory has; nothing where there is none."""
        try:
            return list(self.listdir_attr(path))
        except FileNotFoundError:
            return []

    def sizes(self, paths: Iterable[str]) -> list[int | None]:
        """Bytes of each file; None where there is none, or something else."""
        sizes: list[int | None] = []
        for answer in self.ask((CMD_STAT, path) for path in paths):
            if isinstance(answer, Exception):
                if getattr(answer, "errno", 0) != ENOENT:
                    raise answer
                sizes.append(None)
                continue
            what = SFTPAttributes._from_msg(answer[1])
            sizes.append(what.st_size if stat.S_ISREG(what.st_mode) else None)
        return sizes

    def write_at(self, handle: bytes, at: int, content: Buffer) -> None:
        """Write bytes to an open file."""
        view = memoryview(content).cast("B")
        for answer in self.ask(
            (CMD_WRITE, handle, int64(at + start), bytes(view[start : start + _PIECE_BYTES]))
            for start in range(0, len(view), _PIECE_BYTES)
        ):
            if isinstance(answer, Exception):
                raise answer

    def read_at(self, handle: bytes, start: int, end: int) -> bytes:
        """Bytes of an open file; fewer if it is shorter."""
        pieces: list[bytes] = []
        while start < end:
            begins = range(start, end, _PIECE_BYTES)
            answers = self.ask(
                (CMD_READ, handle, int64(begin), min(_PIECE_BYTES, end - begin)) for begin in begins
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
                if len(piece) < min(_PIECE_BYTES, end - begin):
                    break  # a server may answer with less than was asked
        return b"".join(pieces)


class _Collector:
    """To whom paramiko hands answers that nobody waits for in line."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.waiting: dict[int, int] = {}
        self.answers: list[Answer] = []

    def send(self, request: tuple[Any, ...]) -> None:
        self.waiting[self._client._async_request(self, *request)] = len(self.answers)
        self.answers.append(EOFError("no answer"))

    def _async_response(self, kind: int, message: Any, number: int) -> None:
        place = self.waiting.pop(number)
        self.answers[place] = kind, message
        if kind == CMD_STATUS:
            try:
                self._client._convert_status(message)
            except (OSError, EOFError) as error:
                self.answers[place] = error


class Login:
    """To whom to connect, by which key he is known, and what to show him.

    Raises BadRemote where a file, an option or a secret is missing or makes no sense.
    """

    def __init__(self, address: Address, secrets: Secrets) -> None:
        if not address.user:
            raise BadRemote("sftp: the URL lacks the user: sftp://USER@HOST/...")
        self.place = address.place
        self.host = address.host.strip("[]")
        self.port = address.port or _PORT
        self.user = address.user
        self.timeout_s: float = address.options.get("timeout", _TIMEOUT_S)
        self.trusted = _Trusted(address, self.port)
        self.key = _private_key(address, secrets)
        self.password = "" if self.key else secrets.need("password", "sftp without a private_key")


class Session:
    """A connection, opened when it is made. Raises RemoteUnreachable, RemoteDenied."""

    def __init__(self, login: Login) -> None:
        self._place = login.place
        try:
            wire = socket.create_connection((login.host, login.port), login.timeout_s)
        except OSError as error:
            raise RemoteUnreachable(f"{login.place}: {error.strerror or error}") from None
        # Otherwise the end of each message waits for an acknowledgement that the other side delays
        # by 40 ms: 64 MiB into an encrypted place took 38 s, and take 5.
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = paramiko.Transport(wire)
        try:
            self.client = self._opened(login)
        except BaseException:
            self.close()
            raise

    def _opened(self, login: Login) -> Client:
        transport = self._transport
        transport.banner_timeout = transport.auth_timeout = login.timeout_s
        login.trusted.prefer(transport)
        try:
            transport.start_client(timeout=login.timeout_s)
            login.trusted.check(transport.get_remote_server_key())
            if login.key:
                transport.auth_publickey(login.user, login.key)
            else:
                transport.auth_password(login.user, login.password)
            transport.set_keepalive(_KEEPALIVE_S)
            client: Client = Client.from_transport(transport)
            client.get_channel().settimeout(login.timeout_s)
            return client
        except paramiko.AuthenticationException:
            shown = "key" if login.key else "password"
            raise RemoteDenied(
                f"{login.place}: access denied: the server does not take this user's {shown}"
            ) from None
        except (*_LOST, OSError) as error:
            raise RemoteUnreachable(
                f"{login.place}: {str(error) or type(error).__name__}"
            ) from None

    def is_lost(self, error: Exception) -> bool:
        """Whether an error is about the connection, not about what was asked."""
        return isinstance(error, _LOST) or not self.is_alive()

    def is_alive(self) -> bool:
        return not self.client.is_lost()

    def close(self) -> None:
        self._transport.close()


class _Trusted:
    """The keys that the server of an address may have."""

    def __init__(self, address: Address, port: int) -> None:
        self._place = address.place
        self._keys: dict[str, str] = {}
        self._fingerprint = ""
        options = address.options
        written = options.get("host_key", "")
        if written.startswith("SHA256:"):
            self._fingerprint = written.rstrip("=")
        elif written:
            kind, _, key = written.partition(" ")
            self._keys[kind] = key
        elif path := options.get("known_hosts"):
            name = address.host if port == _PORT else f"[{address.host}]:{port}"
            try:
                found = paramiko.HostKeys(path).lookup(name) or {}
            except (OSError, paramiko.SSHException) as error:
                raise BadRemote(f"sftp: option known_hosts: {path}: {error}") from None
            self._keys = {kind: found[kind].get_base64() for kind in found}
            if not self._keys:
                raise BadRemote(
                    f"sftp: option known_hosts: {path} has no key of {name}: add what "
                    f"'ssh-keyscan -p {port} {address.host}' prints, if it is right"
                )
        else:
            raise BadRemote(
                "sftp: option known_hosts or host_key is missing: a server that nobody knows "
                f"might be anybody; 'ssh-keyscan -p {port} {address.host}' prints its key"
            )

    def prefer(self, transport: paramiko.Transport) -> None:
        """Have the server show a key of a kind that is known."""
        if not self._keys:
            return
        kinds = set(self._keys)
        if "ssh-rsa" in kinds:
            kinds |= {"rsa-sha2-256", "rsa-sha2-512"}
        options = transport.get_security_options()
        if wanted := [kind for kind in options.key_types if kind in kinds]:
            options.key_types = wanted

    def check(self, key: paramiko.PKey) -> None:
        """Raises RemoteDenied if the server is not the one that we know."""
        if self._fingerprint:
            is_known = key.fingerprint == self._fingerprint
        else:
            is_known = self._keys.get(key.get_name()) == key.get_base64()
        if not is_known:
            raise RemoteDenied(
                f"{self._place}: the server shows another key than the one that is known, "
                f"{key.get_name()} {key.fingerprint}: if that is right, change host_key or "
                f"known_hosts; nothing was sent to it"
            )


def _private_key(address: Address, secrets: Secrets) -> paramiko.PKey | None:
    path = address.options.get("private_key") or secrets.get("private_key")
    if not path:
        return None
    what = f"sftp: private_key {path}"
    try:
        if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            raise BadRemote(f"{what}: others may read it: chmod 600 {path}")
        return paramiko.PKey.from_path(Path(path), secrets.get("private_key_passphrase"))
    except OSError as error:
        raise BadRemote(f"{what}: {error.strerror}") from None
    except (paramiko.SSHException, ValueError, TypeError, paramiko.UnknownKeyType):
        raise BadRemote(
            f"{what}: cannot be read: not a key, or the secret private_key_passphrase is "
            "missing or wrong"
        ) from None
