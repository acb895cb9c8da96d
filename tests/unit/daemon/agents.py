"""An agent in this process, with remotes that count what is read of them."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from fusefs.agent.fetching import Fetcher
from fusefs.daemon.fetch_desk import DoneArguments, FetchDesk, OrdersArguments
from fusefs.errors import FusefsError
from fusefs.model.extent import BLOCK_SIZE
from tests.unit.elsewhere import Away
from tests.unit.inprocess import InProcess


class Counted:
    """A remote that counts what is read of it. `why_not`: raised instead."""

    place = "memory:"

    def __init__(self, away: Away) -> None:
        self.away = away
        self.reads: list[tuple[str, int, int]] = []
        self.why_not: Exception | None = None
        self.read_bytes = 0

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        if self.why_not:
            raise self.why_not
        content = self.away.by_name(name)
        part = content[start:] if size is None else content[start : start + size]
        self.reads.append((name, start, len(part)))
        self.read_bytes += len(part)
        return part

    def sizes(self, names: list[str]) -> dict[str, int]:
        if self.why_not:
            raise self.why_not
        return {name: len(self.away.by_name(name)) for name in names}


class Agent:
    """An agent in this process, that takes orders while `act` runs."""

    def __init__(self, fs: InProcess, **remotes: Counted) -> None:
        self.fs = fs
        self.remotes = remotes
        self.fetcher = Fetcher(fs.path, lambda name: remotes[name])  # type: ignore[arg-type,return-value]
        self.sessions = 0
        self.orders: list[dict[str, Any]] = []

    async def serve(self) -> None:
        """As a new process."""
        self.sessions += 1
        session = f"session {self.sessions}"
        desk = FetchDesk(self.fs.filesystem)
        while True:
            answer = await desk.orders(OrdersArguments(session, 8), 0)
            for order in answer["orders"]:
                self.orders.append(order)
                done = await trio.to_thread.run_sync(self.fetcher.do, order)
                await desk.done(DoneArguments(**done), 0)

    def run(self, act: Callable[[], Awaitable[Any]]) -> Any:
        async def both() -> Any:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.serve)
                try:
                    return await act(), None
                except FusefsError as error:
                    return None, error
                finally:
                    nursery.cancel_scope.cancel()

        found, error = trio.run(both)
        if error:
            raise error
        return found

    def read(self, path: bytes, offset: int = 0, size: int = 1 << 40) -> bytes:
        """As a kernel reads: in requests of 1 MiB, through one handle."""
        fs = self.fs
        inode = fs.at(path)
        end = min(offset + size, inode.size)
        number = fs.files.open(inode, for_writing=False)

        async def act() -> bytes:
            file = fs.files.handle(number).file
            parts = []
            for at in range(offset, end, BLOCK_SIZE):
                parts.append(bytes(await fs.files.read(file, at, min(BLOCK_SIZE, end - at))))
            return b"".join(parts)

        try:
            return bytes(self.run(act))
        finally:
            fs.files.release(number)
