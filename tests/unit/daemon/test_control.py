"""The control socket: what is said on it, and that no client can hurt the daemon."""

import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from fusefs.agent.link import Link
from fusefs.base.events import Events
from fusefs.daemon import control
from fusefs.daemon.client import Client
from fusefs.daemon.control import ControlServer
from fusefs.daemon.service import BoundVerb
from fusefs.daemon.trash_desk import ListArguments, RestoreArguments
from fusefs.daemon.wire import (
    AGENT_NAME,
    MAX_REQUEST_BYTES,
    NAME,
    decode_error,
    encode_error,
    socket_address,
)
from fusefs.errors import DaemonFailed, FusefsError, NoSuchPath, Refused, TargetExists
from tests.unit.clocks import ManualClock

ODD = os.fsdecode(b"a\xff\n\x1b[31mb")


class FakeService:
    """Answers as the real one does, remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.events = Events(ManualClock())
        self.told_twice = trio.Event()

    def status(self) -> dict[str, Any]:
        self.asked.append(("status",))
        if self.asked.count(("status",)) == 3:
            self.told_twice.set()
        done = {"segments_done": len(self.asked), "segments_planned": 9}
        return {"pid": os.getpid(), "errors": [], "collecting": done}

    async def gc(self, dry_run: bool) -> dict[str, Any]:
        await self.told_twice.wait()
        return {"segments": 9}

    def df(self) -> dict[str, Any]:
        raise ZeroDivisionError("a bug")

    def info(self, path: bytes) -> dict[str, Any]:
        if path == b"missing":
            raise NoSuchPath("missing is not there")
        return {"path": os.fsdecode(path)}

    def verb(self, name: str) -> BoundVerb | None:
        verbs: dict[str, BoundVerb] = {
            "trash_list": (ListArguments, self.trash_list),
            "trash_restore": (RestoreArguments, self.trash_restore),
        }
        return verbs.get(name)

    async def trash_list(self, arguments: ListArguments, uid: int) -> list[dict[str, Any]]:
        return [{"id": 1, "path": ODD}]

    async def trash_restore(self, arguments: RestoreArguments, uid: int) -> dict[str, Any]:
        self.asked.append((arguments.targets, arguments.to, uid))
        if arguments.targets == [7]:
            raise TargetExists("docs/a.txt exists: restore it under another name with --to")
        return {"restored": ["docs/a.txt"]}

    def checkpoint(self) -> None:
        self.asked.append(("checkpoint",))

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        self.asked.append(("flush",))


class Running:
    """A server at work, and ways to talk to it."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.service = FakeService()
        self.stops = 0
        self.server = ControlServer(store, self.service, self.stop)  # type: ignore[arg-type]

    def stop(self) -> None:
        self.stops += 1

    async def ask(self, verb: Callable[[Client], Any]) -> Any:
        def talk() -> Any:
            client = Client.connect(self.store)
            assert client is not None
            with client:
                return verb(client)

        return await trio.to_thread.run_sync(talk)

    async def send(self, *pieces: bytes) -> bytes:
        """Send raw bytes, return the first reply or b"" if the server hangs up."""
        with socket_address(self.store) as address:
            stream = await trio.open_unix_socket(address)
        async with stream:
            for piece in pieces:
                await stream.send_all(piece)
            received = b""
            while not received.endswith(b"\n"):
                try:
                    more = await stream.receive_some(65536)
                except trio.BrokenResourceError:
                    return b""
                if not more:
                    return received
                received += more
            return received


@asynccontextmanager
async def running(store: Path) -> AsyncIterator[Running]:
    box = Running(store)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(box.server.serve)
            with trio.fail_after(120):
                yield box
            nursery.cancel_scope.cancel()
    finally:
        box.server.close()


async def test_verbs_and_their_answers(tmp_path: Path) -> None:
    async with running(tmp_path) as box:
        assert (await box.ask(Client.status))["pid"] == os.getpid()
        box.service.asked.clear()
        assert await box.ask(lambda c: c.ask("trash_list")) == [{"id": 1, "path": ODD}]
        assert await box.ask(lambda c: c.info(b"a\xff")) == {"path": os.fsdecode(b"a\xff")}
        await box.ask(Client.checkpoint)
        await box.ask(Client.flush)
        assert box.service.asked == [("checkpoint",), ("flush",)]
        await box.ask(Client.stop)
        assert box.stops == 1


async def test_who_waits_for_a_collection_is_told_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    async with running(tmp_path) as box:
        done = await box.ask(
            lambda c: c.gc(False, lambda done, planned: told.append((done, planned)))
        )
    assert done == {"segments": 9}
    assert told[:2] == [(1, 9), (2, 9)]


async def test_a_verb_of_the_trash_knows_who_asks_and_what(tmp_path: Path) -> None:
    async with running(tmp_path) as box:
        await box.ask(lambda c: c.ask("trash_restore", targets=[b"docs/\xff", 3], to=b"new"))
        await box.ask(lambda c: c.ask("trash_restore", targets=[3]))
        uid = os.getuid()
        assert box.service.asked == [([b"docs/\xff", 3], b"new", uid), ([3], None, uid)]


async def test_errors_arrive_as_what_they_are(tmp_path: Path) -> None:
    async with running(tmp_path) as box:
        with pytest.raises(NoSuchPath, match=r"^missing is not there$"):
            await box.ask(lambda c: c.info(b"missing"))
        with pytest.raises(TargetExists, match="--to"):
            await box.ask(lambda c: c.ask("trash_restore", targets=[7]))


async def test_a_bug_in_a_verb_is_logged_and_told_and_not_fatal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as box:
        with pytest.raises(FusefsError, match="ZeroDivisionError"):
            await box.ask(Client.df)
        assert await box.ask(Client.status)


async def test_two_clients_are_served_while_a_third_says_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as box:
        with socket_address(tmp_path) as address:
            silent = await trio.open_unix_socket(address)
        async with silent, trio.open_nursery() as nursery:
            nursery.start_soon(box.ask, Client.status)
            nursery.start_soon(box.ask, lambda c: c.ask("trash_list"))


@pytest.mark.parametrize(
    "request_line",
    [
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b"{}\n",
        b'{"verb": 5}\n',
        b'{"verb": "status", "args": {"x": 1}}\n',
        b'{"verb": "status", "extra": 1}\n',
        b'{"verb": "explode"}\n',
        b'{"verb": "info"}\n',
        b'{"verb": "info", "args": {"path": "not base64!"}}\n',
        b'{"verb": "trash_restore", "args": {"targets": null}}\n',
        b'{"verb": "events", "args": {"after": -1}}\n',
        b"\xff\xfe\n",
        b'{"verb": "status", "args": ' + b"[" * 20000 + b"]" * 20000 + b"}\n",
    ],
)
async def test_a_malformed_request_is_refused_and_nothing_else(
    tmp_path: Path, request_line: bytes
) -> None:
    async with running(tmp_path) as box:
        reply = json.loads(await box.send(request_line))
        assert reply["error"]["class"] == "UsageError"
        assert reply["error"]["exit_code"] == 2
        assert await box.ask(Client.status)


async def test_an_endless_request_ends_its_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as box:
        with pytest.raises(trio.BrokenResourceError):
            await box.send(b"x" * MAX_REQUEST_BYTES * 16)
        assert await box.ask(Client.status)


async def test_a_slow_request_ends_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "CLIENT_TIMEOUT_S", 0.05)
    async with running(tmp_path) as box:
        assert await box.send(b'{"verb": ') == b""
        monkeypatch.undo()
        assert await box.ask(Client.status)


async def test_more_clients_than_slots_wait_for_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MAX_CLIENTS", 2)
    async with running(tmp_path) as box, trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(box.ask, Client.status)


async def test_the_agent_is_heard_however_many_clients_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MAX_CLIENTS", 2)
    async with running(tmp_path) as box, AsyncExitStack() as waiting:
        for _ in range(2):
            with socket_address(tmp_path) as address:
                waiting.push_async_exit(await trio.open_unix_socket(address))
        assert (await Link(tmp_path).ask("status"))["pid"]
        await waiting.aclose()
        assert await box.ask(Client.status)


async def test_two_requests_in_one_packet_get_two_replies(tmp_path: Path) -> None:
    async with running(tmp_path) as box:
        with socket_address(tmp_path) as address:
            stream = await trio.open_unix_socket(address)
        async with stream:
            await stream.send_all(b'{"verb":"status"}\n{"verb":"trash_list"}\n')
            received = b""
            while received.count(b"\n") < 2:
                received += await stream.receive_some(65536)
        assert b"pid" in received.split(b"\n")[0]
        assert b"path" in received.split(b"\n")[1]
        assert await box.ask(Client.status)


async def test_a_store_may_lie_deeper_than_a_socket_address_is_long(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100) / ("y" * 100)
    deep.mkdir(parents=True)
    async with running(deep) as box:
        assert await box.ask(Client.status)


async def test_the_socket_is_private_and_goes_with_the_server(tmp_path: Path) -> None:
    async with running(tmp_path):
        for name in (NAME, AGENT_NAME):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []
    assert Client.connect(tmp_path) is None


async def test_a_socket_that_a_dead_daemon_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left, socket_address(tmp_path) as address:
        left.bind(address)
    assert Client.connect(tmp_path) is None
    async with running(tmp_path) as box:
        assert await box.ask(Client.status)


def test_a_daemon_that_hangs_is_a_daemon_that_failed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        with socket_address(tmp_path) as address:
            listener.bind(address)
        listener.listen()
        client = Client.connect(tmp_path)
        assert client is not None
        with client, pytest.raises(DaemonFailed, match="does not answer"):
            client._ask("status", timeout_s=0.05)


def test_a_daemon_that_dies_while_asked_is_a_daemon_that_failed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        with socket_address(tmp_path) as address:
            listener.bind(address)
        listener.listen()
        client = Client.connect(tmp_path)
        listener.accept()[0].close()
        assert client is not None
        with client, pytest.raises(DaemonFailed, match="went away"):
            client.status()


def test_every_error_survives_the_wire() -> None:
    def tree(kind: type[FusefsError]) -> list[type[FusefsError]]:
        return [kind, *(k for sub in kind.__subclasses__() for k in tree(sub))]

    for kind in tree(FusefsError):
        error = kind(13, "x y") if issubclass(kind, Refused) else kind("x y")
        back = decode_error(json.loads(encode_error(error))["error"])
        assert (type(back), str(back), back.errno) == (kind, str(error), error.errno)
    assert type(decode_error({"class": "Unheard", "message": "m"})) is FusefsError
