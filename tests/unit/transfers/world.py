"""A store with its transfers and an agent, all in this process; what they say goes through JSON."""

import json
from collections.abc import AsyncIterator, Callable, Collection
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
from fusefs.model.transfer import TERMINAL
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess

Record = dict[str, Any]

ENDED = frozenset(status.value for status in TERMINAL)


class World:
    """`root`: where its store, sources and destinations are."""

    def __init__(self, root: Path, options: TransferOptions | None = None) -> None:
        self.root = root
        self.source, self.target = root / "source", root / "target"
        for directory in (self.source, self.target):
            directory.mkdir(exist_ok=True)
        self.clock = ManualClock()
        self.options = options or TransferOptions(stall_s=5, retries=2)
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

    async def ask(self, verb: str, *, wait_s: float = 0.0, **arguments: Any) -> Any:
        """As over the control socket, by root."""
        found = self.service.verb(verb)
        assert found is not None, verb
        kind, perform = found
        decoded = msgspec.json.decode(encode(arguments), type=kind)
        return json.loads(encode(await perform(decoded, 0)))

    @asynccontextmanager
    async def running(self, agent: bool = True) -> AsyncIterator[None]:
        """With the roles at work, and an agent."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.transfers.serve)
            if agent:
                nursery.start_soon(Moving(self).run)
            while not self.transfers.is_running:
                await trio.testing.wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()

    async def create(
        self, *files: str, source: Path | None = None, to: Path | None = None, **more: Any
    ) -> str:
        """The id of a new transfer of files, by default from `source` to `target`."""
        answer = await self.ask(
            "transfer_create",
            moves=[{"source": end(source or self.source), "files": [f.encode() for f in files]}],
            destination=end(to or self.target),
            **more,
        )
        return str(answer["id"])

    async def show(self, id: str) -> Record:
        return dict(await self.ask("transfer_show", id=id))

    async def until(self, id: str, statuses: Collection[str] = ENDED) -> Record:
        """The transfer, when it has one of these statuses."""
        return await self.when(id, lambda record: record["status"] in statuses)

    async def when(self, id: str, is_so: Callable[[Record], bool]) -> Record:
        with trio.fail_after(30):
            while not is_so(record := await self.show(id)):
                await trio.testing.wait_all_tasks_blocked(0.001)
        return record

    async def journal(self) -> list[Record]:
        return list((await self.ask("transfer_journal"))["records"])

    def manifest(self, id: str) -> Record:
        """Of what has come; its files are compared with what it says."""
        return dict(json.loads((self.target / id / "manifest.json").read_bytes()))


def end(path: Path) -> Record:
    return {"text": str(path), "path": str(path).encode()}
