"""Dropping local segments of which there are enough copies elsewhere, proved right then.

::

    plan:   sync.evict says what may go, the least recently used first
    evict:  prove: the agent looks at the copies, now
            drop:  checkpoint, copy of the index -> what has enough proofs is deleted

Evictions and collections exclude each other, and nobody else reads segments meanwhile. Killed
anywhere, what was deleted is in remotes and known to be there, and what was not is here.

By itself, with a limit for the cache: what was fetched goes first, then segments.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
import trio

from fusefs.base import failpoints
from fusefs.daemon.collecting import Collecting
from fusefs.daemon.fetching import Fetching
from fusefs.daemon.orders import Orders
from fusefs.daemon.pins import Pins
from fusefs.errors import InUse, NotEnoughCopies, StoreDamaged, StoreError
from fusefs.model import eviction, keys
from fusefs.model.block import Block
from fusefs.model.eviction import CopySettings
from fusefs.store import format
from fusefs.store.collector import no_readers
from fusefs.store.store import Store
from fusefs.sync import evict
from fusefs.sync.copies import note_seen
from fusefs.sync.evict import Asked, Plan, Verdict
from fusefs.sync.registry import by_number

#: For the agent to look at the copies of one call: they may have to be read.
PROOF_TIMEOUT_S = 240.0
#: Segments whose copies are proved in one go.
STEP_SEGMENTS = 16
#: Between two looks at whether there is more than the limit.
_LOOK_EVERY_S = 5.0
#: After an eviction that freed too little, as long as no remote publishes more.
_RETRY_S = 300.0


log = structlog.get_logger(__name__)


@dataclass
class Evicted:
    """What an eviction did. `refused`: why each other segment is here still."""

    segments: int = 0
    freed_bytes: int = 0
    refused: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        return msgspec.to_builtins(self)  # type: ignore[no-any-return]


class Evicting:
    """The evictions of one open store; one at a time.

    `limit_bytes`: of segments and cache together, 0 for none.
    """

    def __init__(
        self, store: Store, pins: Pins, orders: Orders, fetching: Fetching,
        collecting: Collecting, *, limit_bytes: int,
    ) -> None:  # fmt: skip
        self._store = store
        self._pins = pins
        self._orders = orders
        self._fetching = fetching
        self._collecting = collecting
        self._limit_bytes = limit_bytes
        self._said = ""
        #: Hears of each eviction.
        self.tell: Callable[[Evicted], None] = lambda done: None

    # -- settings

    @property
    def settings(self) -> CopySettings:
        row = self._store.get(keys.COPIES_WANTED)
        try:
            return eviction.unpack(row) if row is not None else CopySettings()
        except msgspec.MsgspecError as error:
            raise StoreDamaged(f"how many copies are wanted does not decode: {error}") from error

    def set(self, settings: CopySettings) -> None:
        """Raises DiskFull, StoreError."""
        batch = self._store.batch()
        batch.put(keys.COPIES_WANTED, eviction.pack(settings))
        self._store.commit(batch)

    # -- planning

    async def plan(self, wanted: Collection[int] | None, to_free: int | None) -> Plan:
        """What would be dropped of the segments in `wanted` (None: all), until `to_free` bytes are
        free (None: all of it). Raises DiskFull, StoreError."""
        if self._store.sealed_segment >= self._store.checkpointed.segment:
            self._store.checkpoint()  # it would keep what was sealed a moment ago
        pinned = await self._pins.segments()
        found, kept = evict.candidates(self._store, by_number(self._store), pinned, wanted)
        return evict.choose(found, kept, to_free)

    # -- dropping

    async def evict(
        self, segments: Iterable[int], *, numcopies: int | None = None,
        mincopies: int | None = None, read_all: bool = False,
    ) -> Evicted:  # fmt: skip
        """Drop segments that have enough copies, proved now; what has not is `refused`.

        Raises NotEnoughCopies where nobody can look at the copies, InUse, DiskFull, StoreError.
        """
        wanted = list(segments)
        done = Evicted()
        needed = self.settings.changed(numcopies, mincopies).needed
        async with self._collecting.lock:
            for start in range(0, len(wanted), STEP_SEGMENTS):
                part = wanted[start : start + STEP_SEGMENTS]
                await self._evict(part, needed, done, read_all=read_all)
        self.tell(done)
        return done

    async def _evict(
        self, segments: list[int], needed: int, done: Evicted, *, read_all: bool
    ) -> None:
        plan = await self.plan(segments, None)
        allowed = [one.number for one in plan.segments]
        for number in segments:
            if number in self._store.segments and number not in allowed:
                name = format.segment_name(number)
                done.refused.append(f"segment {name} is pinned, or not published in any remote yet")
        if not allowed:
            return
        verdict = await self._prove(allowed, needed, read_all=read_all)
        done.refused += verdict.refused.values()
        still = {one.number for one in (await self.plan(verdict.proved, None)).segments}
        if still:
            await self._drop([one for one in verdict.proved if one in still], done)

    async def _prove(self, segments: list[int], needed: int, *, read_all: bool) -> Verdict:
        asked = evict.to_prove(self._store, by_number(self._store), segments, read_all=read_all)
        what = {"kind": "prove", "copies": [one.record() for one in asked]}
        order = self._orders.place(what)
        timeout_s = PROOF_TIMEOUT_S if self._orders.has_agent() else self._fetching.timeout_s
        if not await order.wait(timeout_s):
            self._orders.withdraw(order, "nobody waits for it")
            raise NotEnoughCopies(
                f"nobody has looked at the copies within {timeout_s:.0f} s: is the network, and the"
                " agent beside the mount, alive? Nothing was dropped"
            )
        if order.error:
            raise NotEnoughCopies(
                f"the copies cannot be proved ({order.error}): nothing is dropped"
            )
        proofs = order.answer["proofs"]
        self._note_proofs(asked, proofs)
        why_not = {(one["segment"], one["remote"]): one["why_not"] for one in proofs}
        return evict.judge(segments, asked, why_not, needed)

    def _note_proofs(self, asked: list[Asked], proofs: list[dict[str, Any]]) -> None:
        """Remember when content was seen whole, and what was seen to be bad."""
        now = self._store.clock.time_ns()
        read = {(one.segment, one.remote) for one in asked if one.is_read}
        seen = {}
        for one in proofs:
            key = one["segment"], one["remote"]
            if one["is_bad"]:
                seen[key] = 0
            elif key in read and not one["why_not"]:
                seen[key] = now
        note_seen(self._store, seen)

    async def _drop(self, segments: list[int], done: Evicted) -> None:
        store = self._store
        for number in segments:
            self._forget_garbage(number)
        await trio.to_thread.run_sync(store.sync)
        store.checkpoint()
        if store.snapshot_segment <= max(segments):
            await trio.to_thread.run_sync(store.write_snapshot)
        failpoints.hit("evict.proved")
        with no_readers(store.path) as is_alone:
            if not is_alone:
                raise InUse(f"somebody reads the segments of {store.path}, as fsck does: try again")
            for number in segments:
                if number in store.segments and store.is_copied(number):
                    done.freed_bytes += store.evict(number)
                    done.segments += 1

    def _forget_garbage(self, segment: int) -> None:
        """Forget blocks in a segment that nothing needs: without it they could not be found."""
        store = self._store
        path = store.path / "segments" / format.segment_name(segment)
        try:
            data = memoryview(path.read_bytes())
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        batch = store.batch()
        for record in format.scan(data, format.HEADER_SIZE, verify_blocks=False):
            if isinstance(record, format.Torn) or record.kind != format.BLOCK:
                continue
            number = format.unpack_block(record.body)[0]
            row = store.get(keys.block(number))
            block = Block.unpack(row) if row is not None else None
            if block is not None and not block.refs and block.segment == segment:
                store.blocks.drop(batch, number)
        store.commit(batch)

    # -- by itself

    async def run(self) -> None:
        """Keep what is here within the limit, until cancelled."""
        if not self._limit_bytes:
            return
        retry_at = 0.0
        published: dict[int, int] = {}
        while True:
            await trio.sleep(_LOOK_EVERY_S)
            if self._excess_bytes() <= 0:
                continue
            while self._excess_bytes() > 0 and self._fetching.drop_oldest():
                await trio.lowlevel.checkpoint()
            before, published = published, self._published()
            is_resting = trio.current_time() < retry_at and published == before
            if self._excess_bytes() <= 0 or is_resting:
                continue
            try:
                await self._free(self._excess_bytes())
            except (StoreError, NotEnoughCopies, InUse) as error:
                self._say(str(error))
            if self._excess_bytes() > 0:
                retry_at = trio.current_time() + _RETRY_S

    async def _free(self, size: int) -> None:
        plan = await self.plan(None, size)
        if not plan.segments:
            self._say("all that is over the cache size is pinned, new, or in no remote yet")
            return
        done = await self.evict(one.number for one in plan.segments)
        self._say(done.refused[0] if done.refused else "")

    def _published(self) -> dict[int, int]:
        """By the number of a remote, the last segment that it has published."""
        rows = (row for _, row in by_number(self._store).values())
        return {row.number: row.published_segment for row in rows}

    def _excess_bytes(self) -> int:
        """How much is here beyond the limit."""
        store = self._store
        return store.segments_bytes + store.cache.total_bytes - self._limit_bytes

    def _say(self, why: str) -> None:
        if why and why != self._said:
            log.warning("the cache is larger than it should be", why=why)
        self._said = why
