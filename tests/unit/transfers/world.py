"""A store with its transfers and an agent, all in this process; what they say goes through JSON."""

import json
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio
import trio.testing

from fusefs.agent.moving import Moving
from fusefs.config.options import MountOptions
from fusefs.config.transfers import TransferOptions
from fusefs.daemon.service import Service
from fusefs.daemon.wire import encode
from fusefs.errors import PayloadTooLarge, RemoteDenied, RemoteUnreachable
from fusefs.model.transfer import TERMINAL, Endpoint, Kind, Move
from fusefs.remotes.files import FileCapabilities, Quiet, Seen
from fusefs.remotes.local_files import LocalFiles, LocalReader, LocalWriter
from fusefs.remotes.throttle import Limits
from fusefs.transfers.orders import Place
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess

Record = dict[str, Any]

ENDED = frozenset(status.value for status in TERMINAL)


class Gates:
    """Places in an agent's work where a test can hold it; what is held waits in a thread."""

    def __init__(self) -> None:
        self._closed: dict[str, threading.Event] = {}
        self._reached: dict[str, int] = {}
        self._refused: set[bytes] = set()
        self._failing: dict[str, int] = {}
        self.free_bytes: int | None = None
        self.quiet = Quiet()
        self.unfit: set[bytes] = set()

    def refuse(self, directory: bytes) -> None:
        """From now on nothing there can be read."""
        self._refused.add(directory)

    def check(self, directory: bytes) -> None:
        if directory in self._refused:
            raise RemoteDenied(f"{directory!r} is refused")

    def fail(self, name: str, times: int) -> None:
        """The next times it is reached, the network is down."""
        self._failing[name] = times

    def open_one(self, name: str) -> None:
        self._closed.pop(name).set()

    def close(self, name: str) -> None:
        self._closed[name] = threading.Event()

    def open(self) -> None:
        """All of them."""
        while self._closed:
            self._closed.popitem()[1].set()

    def passes(self, name: str) -> None:
        self._reached[name] = self._reached.get(name, 0) + 1
        if gate := self._closed.get(name):
            gate.wait(150)
        if self._failing.get(name):
            self._failing[name] -= 1
            raise RemoteUnreachable("the network is down")

    async def reached(self, name: str, times: int = 1) -> None:
        with trio.fail_after(120):
            while self._reached.get(name, 0) < times:
                await trio.testing.wait_all_tasks_blocked(0.001)


class GatedFiles(LocalFiles):
    """Files of a directory, behind gates: read, write, rename, manifest, clean, survey."""

    def __init__(self, directory: bytes, gates: Gates) -> None:
        super().__init__(directory)
        self._gates = gates
        self._where = directory

    def look(self, path: bytes) -> Seen | None:
        self._gates.check(self._where)
        return super().look(path)

    @property
    def capabilities(self) -> FileCapabilities:  # type: ignore[override]
        return FileCapabilities(can_resume=True, quiet=self._gates.quiet)

    def free_bytes(self) -> int | None:
        return self._gates.free_bytes or super().free_bytes()

    def check_fits(self, path: bytes, size: int) -> None:
        if path in self._gates.unfit:
            raise PayloadTooLarge(f"{path!r} is too large")

    def check_writable(self) -> None:
        self._gates.passes("survey")
        super().check_writable()

    def reader(self, path: bytes) -> LocalReader:
        self._gates.passes("read")
        return super().reader(path)

    def writer(self, path: bytes, start: int) -> LocalWriter:
        self._gates.passes("write")
        return super().writer(path, start)

    def rename(self, path: bytes, new: bytes) -> None:
        self._gates.passes("manifest" if new.endswith(b"/manifest.json") else "rename")
        super().rename(path, new)

    def remove_folder(self, path: bytes) -> None:
        self._gates.passes("clean")
        super().remove_folder(path)


class World:
    """`root`: where its store, sources and destinations are. `limits`: of the agent."""

    def __init__(
        self, root: Path, options: TransferOptions | None = None, limits: Limits | None = None
    ) -> None:
        self.root = root
        self.source, self.target = root / "source", root / "target"
        for directory in (self.source, self.target):
            directory.mkdir(exist_ok=True)
        self.clock = ManualClock()
        self.limits = limits or Limits(self.clock)
        self.gates = Gates()
        self.asked: Counter[str] = Counter()
        self.options = options or TransferOptions(stall_s=60, retries=2)
        self.fs = InProcess(root / "store", self.clock, MountOptions(transfers=self.options))
        self._meet()

    def _meet(self) -> None:
        self.filesystem = self.fs.filesystem
        self.transfers = self.filesystem.transfers
        self.filesystem.move_desk.mountpoint = b"/nowhere"
        self.service = Service(self.filesystem, "/nowhere")

    def crash(self) -> None:
        """As kill -9 would; and open again."""
        self.fs.crash()
        self._meet()

    async def ask(self, verb: str, *, wait_s: float = 0.0, uid: int = 0, **arguments: Any) -> Any:
        """As over the control socket, by root; `asked` has what."""
        self.asked[verb] += 1
        found = self.service.verb(verb)
        assert found is not None, verb
        kind, perform = found
        if wait_s:
            arguments["wait_s"] = wait_s
        decoded = msgspec.json.decode(encode(arguments), type=kind)
        return json.loads(encode(await perform(decoded, uid)))

    @asynccontextmanager
    async def running(self, agent: bool = True) -> AsyncIterator[None]:
        """With the roles at work, and an agent."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.transfers.serve)
            if agent:
                nursery.start_soon(Moving(self, self.limits, self._connect).run)
            while not self.transfers.is_running:
                await trio.testing.wait_all_tasks_blocked()
            try:
                yield
            finally:
                self.gates.open()
                nursery.cancel_scope.cancel()

    def _connect(self, place: Place) -> GatedFiles:
        directory = place.directory or place.url.removeprefix("file://").encode()
        return GatedFiles(os.path.join(directory, place.path).rstrip(b"/"), self.gates)

    def hold_staging(self) -> "Staging":
        """Have all of the store be elsewhere, until `done` of this."""
        staging = Staging()
        self.filesystem.move_desk._staging = staging
        return staging

    def move(self) -> Move:
        return Move(Endpoint(Kind.DIRECTORY, path=bytes(self.source)), (b".",))

    async def create(
        self,
        *files: str,
        source: Path | str | None = None,
        to: Path | str | None = None,
        **more: Any,
    ) -> str:
        """The id of a new transfer of files, by default from `source` to `target`."""
        answer = await self.ask(
            "transfer_create",
            moves=[
                {
                    "source": end(self.source if source is None else source),
                    "files": [f.encode() for f in files],
                }
            ],
            destination=end(self.target if to is None else to),
            **more,
        )
        return str(answer["id"])

    async def show(self, id: str) -> Record:
        return dict(await self.ask("transfer_show", id=id))

    async def until(self, id: str, statuses: Collection[str] = ENDED) -> Record:
        """The transfer, when it has one of these statuses."""
        return await self.when(id, lambda record: record["status"] in statuses)

    async def when(self, id: str, is_so: Callable[[Record], bool]) -> Record:
        with trio.fail_after(120):
            while not is_so(record := await self.show(id)):
                await trio.testing.wait_all_tasks_blocked(0.001)
        return record

    async def until_idle(self) -> None:
        """Return when nobody asks the agent for anything, and each end was told."""
        desk, transfers = self.filesystem.move_desk, self.transfers
        await self.wait(
            lambda: (
                not (
                    desk.is_wanted
                    or desk._withdrawn
                    or any(transfers.records.get(id).is_terminal for id in transfers.open)
                )
            )
        )
        await self.wait(lambda: not desk.is_wanted)

    async def wait(self, is_so: Callable[[], bool]) -> None:
        """Return when it is so, and all tasks have come to rest."""
        with trio.fail_after(120):
            await trio.testing.wait_all_tasks_blocked(0.01)
            while not is_so():
                await trio.testing.wait_all_tasks_blocked(0.01)

    async def wait_a_moment(self) -> None:
        """Until all tasks have come to rest, if only for now."""
        await trio.testing.wait_all_tasks_blocked(0.005)

    async def journal(self) -> list[Record]:
        return list((await self.ask("transfer_journal"))["records"])

    def manifest(self, id: str) -> Record:
        """Of what has come; its files are compared with what it says."""
        return dict(json.loads((self.target / id / "manifest.json").read_bytes()))


class Staging:
    """What `World.hold_staging` lets wait."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.asked: list[bytes] = []

    async def is_staged(self, paths: Sequence[bytes]) -> bool:
        return self.done.is_set()

    async def stage(self, paths: Sequence[bytes]) -> None:
        self.asked += paths
        await self.done.wait()


def end(place: Path | str) -> Record:
    """As the command line makes it of what a user types."""
    text = str(place)
    return {"text": text, "path": text.encode() if text.startswith("/") else b""}
