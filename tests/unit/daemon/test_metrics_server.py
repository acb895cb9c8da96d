"""Who asks for the counters gets them; nobody who asks otherwise is a burden."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from fusefs.config.options import Address
from fusefs.daemon.metrics_server import (
    MAX_CLIENTS,
    MAX_REQUEST_BYTES,
    address_of,
    listen,
    serve,
)
from fusefs.errors import UsageError

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
ANY = Address("127.0.0.1", 0)


@asynccontextmanager
async def serving(render: Callable[[], bytes] = lambda: b"numbers") -> AsyncIterator[Address]:
    listener = await listen(ANY)
    host, _, port = address_of(listener).rpartition(":")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener, render)
        yield Address(host, int(port))
        nursery.cancel_scope.cancel()


async def ask(address: Address, request: bytes) -> bytes:
    """The whole answer; empty where the server hangs up."""
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        answer = b""
        try:
            await stream.send_all(request)
            async for part in stream:
                answer += part
        except trio.BrokenResourceError:
            pass
        return answer


async def test_who_asks_gets_the_numbers_of_the_moment() -> None:
    told = iter([b"first", b"second"])
    async with serving(lambda: next(told)) as address:
        for body in (b"first", b"second"):
            head, _, rest = (await ask(address, GET)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
            assert f"Content-Length: {len(body)}".encode() in head
            assert rest == body


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics?name=x HTTP/1.0\r\n\r\n", b"200"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /metrics/../etc/passwd HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"\r\n\r\n", b"400"),
        (b"\xff\x00\r\n\r\n", b"400"),
        (b"x" * MAX_REQUEST_BYTES, b"400"),
    ],
)
async def test_other_requests_are_refused(request_: bytes, status: bytes) -> None:
    async with serving() as address:
        assert (await ask(address, request_)).split(b" ")[1] == status
        assert b"numbers" in await ask(address, GET)


async def test_a_client_that_stalls_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as address:
        stream = await trio.open_tcp_stream(*address)
        async with stream:
            await stream.send_all(b"GET /metr")
            assert await stream.receive_some() == b""


async def test_too_many_clients_are_sent_away_and_the_others_served() -> None:
    async with serving() as address:
        held = [await trio.open_tcp_stream(*address) for _ in range(MAX_CLIENTS)]
        await trio.testing.wait_all_tasks_blocked()
        while await ask(address, GET):
            await trio.lowlevel.checkpoint()
        for stream in held:
            await stream.send_all(GET)
            assert b"numbers" in await stream.receive_some()
            await stream.aclose()


async def test_numbers_that_cannot_be_told_end_one_connection() -> None:
    fails = iter([True, False])

    def render() -> bytes:
        if next(fails):
            raise ZeroDivisionError
        return b"numbers"

    with capture_logs() as lines:
        async with serving(render) as address:
            assert await ask(address, GET) == b""
            assert b"numbers" in await ask(address, GET)
    assert [line["event"] for line in lines] == ["metrics client failed"]


async def test_an_address_that_is_taken_or_not_ours_is_refused() -> None:
    with socket.create_server(ANY) as other:
        taken = Address(*other.getsockname())
        with pytest.raises(UsageError, match=rf"cannot listen on {taken} \(.*\): choose another"):
            await listen(taken)
    with pytest.raises(UsageError, match="choose another"):
        await listen(Address("192.0.2.1", 9125))
