"""The numbers of a mount for Prometheus, over HTTP: ``GET /metrics``, and nothing else.

Everybody who can reach the address can read them; there are no names of files among them. Clients
are few and have little time, so that none of them is a burden for the mount.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus

import structlog
import trio

from fusefs.config.options import Address
from fusefs.daemon.metrics import CONTENT_TYPE
from fusefs.errors import UsageError

MAX_CLIENTS = 4
MAX_REQUEST_BYTES = 8 << 10
#: For one request and its reply.
CLIENT_TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)


async def listen(address: Address) -> trio.SocketListener:
    """Raises UsageError where that is not possible."""
    try:
        (listener,) = await trio.open_tcp_listeners(address.port, host=address.host)
    except OSError as error:
        raise UsageError(
            f"mount option metrics: cannot listen on {address} ({error.strerror}): choose another"
            " port, or an address of this machine"
        ) from error
    return listener


def address_of(listener: trio.SocketListener) -> str:
    """Where it listens, with the port that was chosen for it if 0 was asked for."""
    host, port = listener.socket.getsockname()[:2]
    return str(Address(host, port))


async def serve(listener: trio.SocketListener, render: Callable[[], bytes]) -> None:
    """Answer with what `render` returns, until cancelled."""
    limiter = trio.CapacityLimiter(MAX_CLIENTS)
    handler: Callable[[trio.SocketStream], Awaitable[None]] = partial(_serve, limiter, render)
    await trio.serve_listeners(handler, [listener])


async def _serve(
    limiter: trio.CapacityLimiter, render: Callable[[], bytes], stream: trio.SocketStream
) -> None:
    """One client. A task boundary: what goes wrong here goes no further."""
    try:
        limiter.acquire_nowait()
    except trio.WouldBlock:
        await trio.aclose_forcefully(stream)
        return
    try:
        with trio.move_on_after(CLIENT_TIMEOUT_S):
            await stream.send_all(_reply(await _receive(stream), render))
            await stream.send_eof()
    except trio.BrokenResourceError:
        pass  # the client went away
    except Exception:
        log.exception("metrics client failed")
    finally:
        limiter.release()
        with suppress(OSError):
            await trio.aclose_forcefully(stream)


async def _receive(stream: trio.SocketStream) -> bytes:
    """The head of a request, as far as it came."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MAX_REQUEST_BYTES:
        received = await stream.receive_some(MAX_REQUEST_BYTES)
        if not received:
            break
        head += received
    return head


def _reply(head: bytes, render: Callable[[], bytes]) -> bytes:
    line, _, _ = head.partition(b"\r\n")
    match line.split(b" ") if b"\r\n\r\n" in head else []:
        case [b"GET", path, _] if path.partition(b"?")[0] == b"/metrics":
            return _response(HTTPStatus.OK, CONTENT_TYPE, render())
        case [b"GET", _, _]:
            return _response(HTTPStatus.NOT_FOUND, "text/plain", b"see /metrics\n")
        case [_, _, _]:
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"GET only\n")
        case _:
            return _response(HTTPStatus.BAD_REQUEST, "text/plain", b"that is no request\n")


def _response(status: HTTPStatus, content_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body
