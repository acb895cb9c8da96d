"""The server of the control socket and of the agent's; `wire` says what is spoken.

The sockets have mode 0600, so their clients are the owner of the store and root; SO_PEERCRED says
which, and the verbs that care are told. A client may wait for the agent, and keeps its place
meanwhile; therefore the agent comes in by a door of its own. A request that is malformed, too long,
too slow or whose client goes away ends its connection and nothing else. One that follows the events
is handed to `following`, and leaves its place here to others.
"""

import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
import trio

from fusefs.daemon.following import GONE, EventsArguments, Following
from fusefs.daemon.wire import (
    AGENT_NAME,
    MAX_REQUEST_BYTES,
    NAME,
    encode,
    encode_error,
    socket_address,
)
from fusefs.errors import FusefsError, UsageError

if TYPE_CHECKING:
    from fusefs.daemon.service import Service

#: For one whole request to arrive, and for one reply to be taken.
CLIENT_TIMEOUT_S = 10.0
REPLY_TIMEOUT_S = 60.0
#: Connections served at one time; more of them wait in the kernel's queue. Many of them only wait
#: for something to happen: each ``transfer create --wait`` does so for as long as that takes.
MAX_CLIENTS = 128
#: The same for the agent, which asks for one thing at a time, and reports up to a hundred.
MAX_OF_AGENT = 128
_CHUNK_BYTES = 64 << 10

log = structlog.get_logger(__name__)


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """One line from a client. `args` is decoded by the verb that it is for."""

    verb: str
    args: msgspec.Raw = msgspec.Raw(b"{}")


class NoArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Of most verbs."""


class InfoArguments(msgspec.Struct, forbid_unknown_fields=True):
    path: bytes


class GcArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Of ``gc``."""

    dry_run: bool = False


class ControlServer:
    """Answers the sockets of one store, for as long as `serve` runs.

    Make it and close it only while holding the lock of the store: sockets that are there already
    were left by a daemon that died, and are replaced. `stop` is called by the verb of that name.
    """

    def __init__(self, store: Path, service: "Service", stop: Callable[[], None]) -> None:
        self._store = store
        self._service = service
        self._stop = stop
        self._doors = [_Door(store, NAME, MAX_CLIENTS), _Door(store, AGENT_NAME, MAX_OF_AGENT)]
        self._following = Following(service.events, stall_s=REPLY_TIMEOUT_S)

    def close(self) -> None:
        """Take the sockets away; new clients see at once that no one is there."""
        for door in self._doors:
            door.close()

    async def finish(self) -> None:
        """Send the followers of the events the last of them. To be called while `serve` runs."""
        await self._following.finish()

    async def serve(self) -> None:
        """Accept and answer until cancelled."""
        async with trio.open_nursery() as nursery:
            for door in self._doors:
                nursery.start_soon(self._attend, door, nursery)

    async def _attend(self, door: "_Door", nursery: trio.Nursery) -> None:
        while True:
            token = object()
            connection = await door.enter(token)
            nursery.start_soon(self._serve_client, connection, door, token)

    async def _serve_client(
        self, connection: trio.socket.SocketType, door: "_Door", token: object
    ) -> None:
        """One connection. A task boundary: what goes wrong here goes no further."""
        try:
            stream = trio.SocketStream(connection)
            try:
                followed = await self._talk(stream, peer_uid(connection))
            finally:
                door.leave(token)
            if followed:
                await self._following.follow(stream, followed)
        except GONE:
            pass  # the client went away, or stalls: its own loss
        except _TooLong:
            refusal = encode_error(UsageError(f"request longer than {MAX_REQUEST_BYTES} bytes"))
            with trio.move_on_after(1), suppress(OSError, trio.BrokenResourceError):
                await stream.send_all(refusal)
        except Exception:
            log.exception("control client failed")
        finally:
            connection.close()

    async def _talk(self, stream: trio.SocketStream, uid: int) -> EventsArguments | None:
        """Answer requests until the client has no more, or wants to follow events: these."""
        pending = b""
        while True:
            line, pending = await _receive_line(stream, pending)
            if line is None:
                return None
            reply = await self._answer(line, uid)
            if isinstance(reply, bytes):
                with trio.fail_after(REPLY_TIMEOUT_S):
                    await stream.send_all(reply)
            elif reply.follow:
                return reply
            else:
                await self._following.send_kept(stream, reply)

    async def _answer(self, line: bytes, uid: int) -> bytes | EventsArguments:
        """The reply, or which events are to be sent instead of one."""
        try:
            result = await self._perform(line, uid)
            return result if isinstance(result, EventsArguments) else encode({"result": result})
        except FusefsError as error:
            return encode_error(error)
        except (msgspec.MsgspecError, RecursionError) as error:
            return encode_error(UsageError(f"malformed request: {error}"))
        except Exception as error:
            log.exception("control verb failed")
            what = f"{type(error).__name__}: {error}"
            return encode_error(FusefsError(f"the daemon failed ({what}): see its log"))

    async def _perform(self, line: bytes, uid: int) -> object:
        request = msgspec.json.decode(line, type=Request)
        service = self._service
        if request.verb == "info":
            info = msgspec.json.decode(request.args, type=InfoArguments)
            return service.info(info.path)
        if (found := service.verb(request.verb)) is not None:
            kind, perform = found
            return await perform(msgspec.json.decode(request.args, type=kind), uid)
        if request.verb == "gc":
            gc = msgspec.json.decode(request.args, type=GcArguments)
            return await service.gc(gc.dry_run)
        if request.verb == "events":
            return msgspec.json.decode(request.args, type=EventsArguments)
        msgspec.json.decode(request.args, type=NoArguments)
        match request.verb:
            case "status":
                return service.status()
            case "df":
                return service.df()
            case "checkpoint":
                service.checkpoint()
            case "flush":
                await service.flush()
            case "stop":
                self._stop()
            case _:
                raise UsageError(f"the daemon knows no verb {request.verb!r}")
        return None


class _Door:
    """One socket in a store, with places for so many clients at a time."""

    def __init__(self, store: Path, name: str, places: int) -> None:
        self._path = store / name
        with suppress(FileNotFoundError):
            os.unlink(self._path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            with socket_address(store, name) as address:
                self._socket.bind(address)
        finally:
            os.umask(before)
        self._socket.listen(64)
        self._places = trio.CapacityLimiter(places)

    async def enter(self, token: object) -> trio.socket.SocketType:
        """The next client, which has a place until `leave`."""
        listener = trio.socket.from_stdlib_socket(self._socket)
        await self._places.acquire_on_behalf_of(token)
        while True:
            try:
                connection, _ = await listener.accept()
            except OSError as error:
                log.warning("a socket cannot accept", socket=self._path.name, error=str(error))
                await trio.sleep(0.1)
            else:
                return connection

    def leave(self, token: object) -> None:
        self._places.release_on_behalf_of(token)

    def close(self) -> None:
        self._socket.close()
        with suppress(FileNotFoundError):
            os.unlink(self._path)


class _TooLong(Exception):
    """The client sends a line without end."""


async def _receive_line(stream: trio.SocketStream, pending: bytes) -> tuple[bytes | None, bytes]:
    """The next line and what came after it; None at the end of the stream.

    Raises TooSlowError, _TooLong, BrokenResourceError.
    """
    with trio.fail_after(CLIENT_TIMEOUT_S):
        while b"\n" not in pending:
            if len(pending) > MAX_REQUEST_BYTES:
                raise _TooLong
            received = await stream.receive_some(_CHUNK_BYTES)
            if not received:
                return None, b""
            pending += received
    line, _, rest = bytes(pending).partition(b"\n")
    if len(line) > MAX_REQUEST_BYTES:
        raise _TooLong
    return line, rest


def peer_uid(connection: trio.socket.SocketType | socket.socket) -> int:
    """The user at the other end of a unix socket."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("=iII", credentials)[1])
