"""What of the store a transfer has to wait for before it can be read at once."""

from collections.abc import AsyncIterator, Sequence

import trio

from fusefs.daemon.fetching import Fetching
from fusefs.daemon.pins import Pins
from fusefs.errors import NotLocal, Refused, RemoteUnreachable
from fusefs.store.store import Store
from fusefs.tree.tree import Tree

#: Files that are looked at without a pause for others.
_STEP = 100


class Staging:
    """Has whole segments fetched. Paths are from the root of the filesystem."""

    def __init__(self, store: Store, tree: Tree, pins: Pins, fetching: Fetching) -> None:
        self._store = store
        self._tree = tree
        self._pins = pins
        self._fetching = fetching

    async def is_staged(self, paths: Sequence[bytes]) -> bool:
        """Whether all of these files can be read without a remote."""
        async for _ in self._away(paths):
            return False
        return True

    async def stage(self, paths: Sequence[bytes]) -> None:
        """Return when they can. Raises RemoteUnreachable, DiskFull, StoreError."""
        async for segment in self._away(paths):
            try:
                await self._fetching.fetch_segment(segment)
            except NotLocal as error:
                raise RemoteUnreachable(str(error)) from error

    async def _away(self, paths: Sequence[bytes]) -> AsyncIterator[int]:
        """Segments that files need and that are in remotes only when it is their turn."""
        if not self._store.usage.absent_bytes:
            return
        for count, path in enumerate(paths):
            if count % _STEP == 0:
                await trio.lowlevel.checkpoint()
            try:
                inode = self._tree.resolve(path)
            except Refused:
                continue  # who moves it says that it has gone
            for part in list(self._pins.parts(inode)):
                if part.segment not in self._store.segments:
                    yield part.segment
