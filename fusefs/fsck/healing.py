"""Bad blocks that are whole in a remote are written anew, before a repair calls them lost."""

from collections.abc import Callable
from pathlib import Path

import structlog

from fusefs.base.clock import Clock
from fusefs.errors import FusefsError, RemoteUnreachable
from fusefs.fsck.segments import Blocks, Progress
from fusefs.fsck.selection import Selection
from fusefs.fsck.tables import Tables
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.model.remote import Remote as Row
from fusefs.remotes.api import Remote
from fusefs.store.cipher import Cipher
from fusefs.store.log import Buffer
from fusefs.store.store import Store
from fusefs.sync.copies import cheapest_first

log = structlog.get_logger(__name__)


class Healer:
    """Heals the blocks of one store. `connect`: from the row of a remote to that; may raise."""

    def __init__(
        self, path: Path, connect: Callable[[Row], Remote], cipher: Cipher | None = None
    ) -> None:
        self._path = path
        self._cipher = cipher
        self._connect = connect
        self._remotes: dict[str, Remote] = {}

    def heal(
        self, selection: Selection, clock: Clock, progress: Progress | None = None
    ) -> list[int]:
        """Write the bad blocks anew of which a remote has the content; returns their numbers.

        Nobody else has the store open. Raises RemoteUnreachable where a remote with a copy does not
        answer: what it has is not lost; and as opening a store does.
        """
        store = Store.open(self._path, clock=clock, cipher=self._cipher)
        try:
            healed = self._heal(store, selection, progress)
        except BaseException:
            store.abandon()
            raise
        finally:
            for one in self._remotes.values():
                one.close()
        store.close()
        return healed

    def _heal(self, store: Store, selection: Selection, progress: Progress | None) -> list[int]:
        if next(store.scan(keys.COPY), None) is None:
            return []
        tables = Tables(store)
        blocks = Blocks(
            self._path / "segments", tables, selection, progress, lambda: True, self._cipher
        )
        blocks.check()
        healed = []
        for number in sorted(blocks.bad):
            block = tables.block(number)
            if block is None or not block.refs:
                continue
            content = self._content(store, number, block)
            if content is not None:
                batch = store.batch()
                store.blocks.heal(batch, number, content)
                store.commit(batch)
                healed.append(number)
        return healed

    def _content(self, store: Store, number: int, block: Block) -> Buffer | None:
        """Of the first copy that verifies, the cheapest first."""
        unreachable: FusefsError | None = None
        for name, row, copy in cheapest_first(store, block.segment):
            try:
                payload = self._remote(name, row).get(copy.name, block.offset, block.stored)
            except FusefsError as error:
                log.warning("a copy cannot be read", remote=name, block=number, error=str(error))
                unreachable = error
                continue
            content = store.blocks.decode(block, payload)
            if content is not None:
                return content
        if unreachable is not None:
            raise RemoteUnreachable(
                f"block {number} is bad here, and its copies cannot be read ({unreachable}): try"
                " again, or say --no-remotes to have it marked as lost"
            )
        return None

    def _remote(self, name: str, row: Row) -> Remote:
        if name not in self._remotes:
            self._remotes[name] = self._connect(row)
        return self._remotes[name]
