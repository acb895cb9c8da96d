"""The store's role: makes changes durable, then visible, then hands transfers on.

A change of status says who has the transfer next, so it and the hand-off are one batch. Whoever
tells somebody of a change waits for it here: several that come together share one fdatasync.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

import structlog
import trio

from fusefs.base import failpoints
from fusefs.errors import DiskFull
from fusefs.model.transfer import File, Specification, Transfer
from fusefs.store.index import Batch
from fusefs.store.store import Store
from fusefs.transfers.records import Records, shown

#: Between two tries to record something on a disk that is full.
FULL_REST_S = 1.0

#: For a role that is cancelled to have recorded what it did; it would be done again otherwise.
LAST_WORD_S = 3.0

#: What a batch is made of when its turn comes, and what came of it: the transfer before and after.
Build = Callable[[], tuple[Batch, Transfer | None, Transfer]]

log = structlog.get_logger(__name__)


class _Act:
    """One change that waits to be recorded."""

    def __init__(self, id: bytes, build: Build) -> None:
        self.id = id
        self.build = build
        self.done = trio.Event()
        self.after: Transfer | None = None
        self.error: Exception | None = None


class Recorder:
    """A task with an inbox: `run`. `tell` hears of each status; `hand_on` of each open transfer."""

    def __init__(self, store: Store, records: Records) -> None:
        self._store = store
        self._records = records
        self._scope = trio.CancelScope(shield=True)
        self._inbox_in, self._inbox = trio.open_memory_channel[_Act](10_000)
        self._synced = trio.Event()
        self._synced.set()
        self.tell: Callable[[bytes, Transfer], None] = lambda id, transfer: None
        self.hand_on: Callable[[bytes, Transfer], None] = lambda id, transfer: None

    async def run(self) -> None:
        """Record what comes, until `end`: a role that is cancelled may have something to say."""
        with self._scope:
            async for act in self._inbox:
                acts = [act]
                with suppress(trio.WouldBlock):
                    while True:
                        acts.append(self._inbox.receive_nowait())
                await self._record(acts)

    def end(self) -> None:
        """No role is there any more."""
        self._scope.cancel()

    async def create(self, asked: Specification, transfer: Transfer, files: list[File]) -> None:
        """Durable on return, as all of these. Raises DiskFull at once: nothing is recorded then."""
        batch = self._records.created(asked, transfer, files)
        self._store.commit(batch)
        await self._ask(_Act(asked.id, lambda: (self._store.batch(), None, transfer)))

    async def change(
        self, id: bytes, change: Callable[[Transfer], Transfer], files: Iterable[File] = ()
    ) -> Transfer:
        """Waits where the disk is full. Raises NoSuchTransfer, WrongState, StoreError."""
        act = _Act(id, lambda: self._records.changed(id, change, files))
        return await self._ask(act)

    async def settled(self) -> None:
        """Returns when what the rows say is durable: who shows it to somebody waits for that."""
        while not self._synced.is_set():
            await self._synced.wait()

    async def _ask(self, act: _Act) -> Transfer:
        await self._inbox_in.send(act)
        await act.done.wait()
        if act.error is not None:
            raise act.error
        assert act.after is not None
        return act.after

    async def _record(self, acts: list[_Act]) -> None:
        changed: list[tuple[bytes, Transfer]] = []
        for act in acts:
            try:
                before, after = await self._commit(act)
            except Exception as error:  # of whoever asked
                act.error = error
                continue
            act.after = after
            if before is None or before.status is not after.status:
                changed.append((act.id, after))
        try:
            await self._sync()
        except Exception as error:
            for act in acts:
                act.error = act.error or error
        for act in acts:
            act.done.set()
        for id, after in changed:
            self.tell(id, after)
            self._hand(id, after)

    async def _sync(self) -> None:
        self._synced = trio.Event()
        try:
            await trio.to_thread.run_sync(self._store.sync)
        finally:
            self._synced.set()

    async def _commit(self, act: _Act) -> tuple[Transfer | None, Transfer]:
        while True:
            batch, before, after = act.build()
            failpoints.hit("transfer.commit")
            try:
                self._store.commit(batch)
            except DiskFull as error:
                log.warning("transfers wait for space", transfer=shown(act.id), error=str(error))
                await self._sync()  # what was changed before it, and can be seen
                await trio.sleep(FULL_REST_S)
            else:
                return before, after

    def _hand(self, id: bytes, after: Transfer) -> None:
        """To the next role. What is lost here is found by whoever compares rows and roles."""
        try:
            failpoints.hit("transfer.hand-on")
            self.hand_on(id, after)
        except OSError as error:
            log.warning("a transfer was not handed on", transfer=shown(id), error=str(error))
