"""The verb `events`: each follower gets everything, and none can harm another or the daemon."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fusefs.base.events import Kind
from fusefs.daemon import control
from fusefs.daemon.client import Client
from fusefs.daemon.following import MAX_FOLLOWERS
from fusefs.daemon.wire import encode, socket_address
from fusefs.errors import DaemonFailed
from tests.unit.daemon.test_control import ODD, Running, running


class Follower:
    """One connection with a request for events on it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._pending = b""

    async def next(self) -> Any:
        """The next reply, or "hung up"."""
        while b"\n" not in self._pending:
            received = await self.stream.receive_some(65536)
            if not received:
                return "hung up"
            self._pending += received
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line).get("result", json.loads(line))

    async def number(self) -> int:
        number: int = (await self.next())["number"]
        return number


@asynccontextmanager
async def following(box: Running, **arguments: object) -> AsyncIterator[Follower]:
    with socket_address(box.store) as address:
        stream = await trio.open_unix_socket(address)
    async with stream:
        await stream.send_all(encode({"verb": "events", "args": {"follow": True, **arguments}}))
        yield Follower(stream)


def publish(box: Running, count: int = 1, kind: Kind = Kind.PURGE, size: int = 0) -> None:
    for _ in range(count):
        box.service.events.publish(kind, path=b"x" * size)


async def test_what_is_kept_comes_to_an_end_and_the_connection_goes_on(tmp_path: Path) -> None:
    def talk(client: Client) -> list[Any]:
        odd = [record["path"] for record in client.events(after=999, kinds=[Kind.RESTORE])]
        purged = [record["number"] for record in client.events(kinds=[Kind.PURGE])]
        return [odd, purged, list(client.events(kinds=[Kind.POLICY])), client.ask("trash_list")]

    async with running(tmp_path) as box:
        publish(box, 700)
        box.service.events.publish(Kind.RESTORE, path=ODD)
        publish(box, 2)
        expected = [[ODD], [*range(1, 701), 702, 703], [], [{"id": 1, "path": ODD}]]
        assert await box.ask(talk) == expected


async def test_two_followers_get_what_was_and_what_comes(tmp_path: Path) -> None:
    async with running(tmp_path) as box:
        publish(box, 2)
        async with following(box) as one, following(box, after=1, kinds=["restore"]) as two:
            assert [await one.number() for _ in range(2)] == [1, 2]
            publish(box, 500)
            publish(box, 1, kind=Kind.RESTORE)
            assert [await one.number() for _ in range(501)] == list(range(3, 504))
            assert await two.number() == 503
            publish(box, 1, kind=Kind.RESTORE)
            assert [await one.number(), await two.number()] == [504, 504]


async def test_the_end_of_the_mount_is_the_last_that_a_follower_hears(tmp_path: Path) -> None:
    async with running(tmp_path) as box:
        async with following(box) as one, following(box) as two:
            await trio.testing.wait_all_tasks_blocked()
            publish(box, 300)
            await box.server.finish()
            for follower in (one, two):
                assert [await follower.number() for _ in range(300)] == list(range(1, 301))
                assert [await follower.next(), await follower.next()] == [None, "hung up"]
        async with following(box, after=299) as late:
            assert [await late.number(), await late.next()] == [300, None]


def test_a_daemon_that_dies_is_no_end_of_the_mount(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        with socket_address(tmp_path) as address:
            listener.bind(address)
        listener.listen()
        client = Client.connect(tmp_path)
        assert client is not None
        with client, listener.accept()[0] as daemon:
            daemon.sendall(encode({"result": {"number": 1}}))
            found = client.events(follow=True)
            assert next(found) == {"number": 1}
            daemon.close()
            with pytest.raises(DaemonFailed, match="went away"):
                next(found)


async def test_followers_leave_room_for_others_and_the_next_one_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as box, AsyncExitStack() as stack:
        publish(box, 1)
        followers = [await stack.enter_async_context(following(box)) for _ in range(MAX_FOLLOWERS)]
        for follower in followers:
            assert await follower.number() == 1
        async with following(box) as refused:
            reply = await refused.next()
            assert (reply["error"]["class"], reply["error"]["exit_code"]) == ("FusefsError", 1)
            assert str(MAX_FOLLOWERS) in reply["error"]["message"]
            assert await refused.next() == "hung up"
        async with AsyncExitStack() as others:
            for _ in range(control.MAX_CLIENTS - 1):
                with socket_address(tmp_path) as address:
                    others.push_async_exit(await trio.open_unix_socket(address))
            assert await box.ask(Client.status)
        publish(box, 1)
        assert [await follower.number() for follower in followers] == [2] * MAX_FOLLOWERS


async def test_who_asks_for_an_unknown_kind_is_told_and_not_left_waiting(tmp_path: Path) -> None:
    async with running(tmp_path) as box, following(box, kinds=["purge", "prugde"]) as follower:
        error = (await follower.next())["error"]
        assert (error["class"], "'prugde'" in error["message"]) == ("UsageError", True)


@pytest.mark.parametrize("farewell", [b"", b"x"])
async def test_a_follower_that_goes_away_is_noticed_without_an_event(
    tmp_path: Path, farewell: bytes
) -> None:
    async with running(tmp_path) as box, AsyncExitStack() as stack:
        publish(box, 1)
        for _ in range(MAX_FOLLOWERS - 1):
            await stack.enter_async_context(following(box))
        async with following(box) as vanishing:
            assert await vanishing.number() == 1
            await vanishing.stream.send_all(farewell)
        await trio.testing.wait_all_tasks_blocked()
        async with following(box) as next_one:
            assert await next_one.number() == 1


async def test_a_follower_that_does_not_read_is_dropped_and_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(control, "REPLY_TIMEOUT_S", 5)
    async with running(tmp_path) as box, following(box) as slow, following(box) as quick:
        await trio.testing.wait_all_tasks_blocked()
        publish(box, 1000, size=4096)
        assert [await quick.number() for _ in range(1000)] == list(range(1, 1001))
        await trio.sleep(6)
        seen = 0
        while (reply := await slow.next()) != "hung up":
            seen += 1
            assert reply["number"] == seen
        assert seen < 1000
        publish(box, 1)
        assert await quick.number() == 1001


async def test_the_end_does_not_wait_for_a_follower_that_does_not_read(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as box, following(box):
        await trio.testing.wait_all_tasks_blocked()
        publish(box, 1000, size=4096)
        before = trio.current_time()
        await box.server.finish()
        assert trio.current_time() - before < 2
