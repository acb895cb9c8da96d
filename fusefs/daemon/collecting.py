"""When space is given back, and how much of the loop's time that may take.

The collector itself is the store's. Here are its timer and its manners: it begins when a round is
worth the copy of the index that it costs, works in slices with pauses between them, and reads in a
thread. The numbers, and their reasons, stand in store/margins.
"""

from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog
import trio

from fusefs.errors import DiskFull, StoreError
from fusefs.store import format
from fusefs.store.collector import Collector, Held
from fusefs.store.margins import DEFAULT, Margins
from fusefs.store.plan import Plan
from fusefs.store.store import Store

#: Told how many segments are done, and how many are planned.
Progress = Callable[[int, int], None]

log = structlog.get_logger(__name__)


@dataclass
class Collected:
    """What a collection did.

    `freed_bytes`: sizes of deleted segments; `moved_bytes` of them were needed and written again.
    `failed`: segments that the disk did not let be read or deleted, with the reason.
    """

    segments: int = 0
    freed_bytes: int = 0
    moved_bytes: int = 0
    failed_segments: int = 0
    failed: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        return asdict(self)


class Collecting:
    """The collections of one open store; one at a time.

    `progress`: segments that are done, and planned, of the one that runs.
    """

    def __init__(self, store: Store, margins: Margins = DEFAULT) -> None:
        self._store = store
        self._margins = margins
        self._collector = Collector(store, margins)
        #: Who holds it changes which segments there are.
        self.lock = trio.Lock()
        self._reported: dict[int, str] = {}
        self._retry_at = 0.0
        self.progress: tuple[int, int] | None = None
        #: Whether space is needed so much that no quiet is waited for.
        self.is_urgent: Callable[[], bool] = lambda: False
        #: The last segment that may be merged with others: remotes want no batches before it.
        self.merges_up_to: Callable[[], int] = lambda: store.newest_segment
        #: Hears of each collection that came to its end.
        self.tell: Callable[[Collected], None] = lambda done: None

    def plan(self) -> Plan:
        """What `collect` would do now, without doing it."""
        return self._collector.plan()

    async def collect(self, on_progress: Progress | None = None) -> Collected:
        """Give back everything that is worth moving for.

        Raises DiskFull or StoreError; what was done until then stays done.
        """
        async with self.lock:
            self._collector.failed.clear()
            return await self._apply(self._collector.plan(), on_progress=on_progress)

    async def run(self) -> None:
        """Collect whenever it is worth it, until cancelled."""
        seen, quiet_since = -1, trio.current_time()
        while True:
            await trio.sleep(self._margins.look_every_s)
            now = trio.current_time()
            if self._collector.activity != seen:
                seen, quiet_since = self._collector.activity, now
            if self._collector.failed and now >= self._retry_at:
                self._collector.failed.clear()
            if self.lock.locked():
                continue
            is_urgent = self.is_urgent()
            is_quiet = is_urgent or now - quiet_since >= self._margins.quiet_s
            if plan := self._plan_what_is_worth_it(is_quiet):
                await self._collect_slowly(plan, while_quiet=is_quiet and not is_urgent)
            elif not is_urgent and (plan := self._plan_merge()):
                await self._collect_slowly(plan, while_quiet=False)

    def _plan_what_is_worth_it(self, is_quiet: bool) -> Plan | None:
        if not self._is_worth_a_look:
            return None
        plan = self._collector.plan(only_mostly_dead=not is_quiet)
        return plan if self._is_worth(plan) and self._collector.may_delete() else None

    def _plan_merge(self) -> Plan | None:
        """At any time: a store with many small segments is one that is changed all day."""
        plan = self._collector.plan_merge(self.merges_up_to())
        return plan if plan.segments and self._collector.may_delete() else None

    @property
    def _is_worth_a_look(self) -> bool:
        dead_bytes, live_bytes = self._collector.dead_bytes, self._store.usage.local_bytes
        return dead_bytes > max(self._margins.worth_bytes, self._margins.worth_dead * live_bytes)

    def _is_worth(self, plan: Plan) -> bool:
        """What is of no use, in the plan or not, is to be within the promise; and what the plan
        frees is to be worth a copy of the index."""
        if plan.dead_bytes <= self._margins.worth_dead * plan.live_bytes:
            return False
        return plan.reclaimable_bytes > max(self._margins.worth_bytes, self._store.index_bytes)

    async def _collect_slowly(self, plan: Plan, *, while_quiet: bool) -> None:
        """Until it is done, or, if it began because nobody did anything, somebody does."""
        activity = self._collector.activity

        def goes_on() -> bool:
            return not while_quiet or self._collector.activity == activity

        try:
            async with self.lock:
                done = await self._apply(plan, self._margins.pause_s, goes_on)
        except DiskFull as error:
            log.warning("collecting waits for space", error=str(error))
        except StoreError as error:
            log.error("collecting failed", error=str(error))
        else:
            log.info("collected", **done.record())

    async def _apply(
        self,
        plan: Plan,
        pause_s: float = 0.0,
        goes_on: Callable[[], bool] = lambda: True,
        on_progress: Progress | None = None,
    ) -> Collected:
        collector, done = self._collector, Collected()
        planned = len(plan.segments)
        # Millions of numbers in a store of small files: not as objects, 40 bytes each.
        emptied: dict[int, array[int]] = {}
        gain = moved = 0
        try:
            collector.prepare(plan)
            for count, one in enumerate(plan.segments):
                self.progress = count, planned
                if on_progress:
                    on_progress(count, planned)
                if not goes_on():
                    break
                numbers, size = await self._empty(one.number, pause_s)
                done.moved_bytes += size
                moved += size
                if numbers is not None:
                    emptied[one.number] = numbers
                    gain += one.dead
                if self._is_time_to_delete(gain, moved):
                    await self._delete(emptied, done, pause_s)
                    emptied, gain, moved = {}, 0, 0
            await self._delete(emptied, done, pause_s)
        finally:
            self.progress = None
            self._report_failures(done)
        self.tell(done)
        return done

    def _is_time_to_delete(self, gain: int, moved: int) -> bool:
        if gain > max(self._margins.delete_bytes, self._store.index_bytes):
            return True
        return moved > self._margins.tight_part * self._store.space.refresh()

    async def _empty(self, segment: int, pause_s: float) -> tuple["array[int] | None", int]:
        """The numbers of the blocks that were in it, or None if it is to stay; bytes moved."""
        held = await trio.to_thread.run_sync(self._collector.read, segment)
        moved = 0
        for part in self._slices(held):
            moved += self._collector.move(segment, part)
            await self._pause(pause_s)
        if segment in self._collector.damaged:
            name = format.segment_name(segment)
            log.error("damaged segment is kept: run fusefs fsck --read-data", segment=name)
            return None, moved
        if segment in self._collector.failed:
            return None, moved
        return array("Q", [block.number for block in held]), moved

    async def _delete(
        self, emptied: Mapping[int, Sequence[int]], done: Collected, pause_s: float
    ) -> None:
        if not emptied:
            return
        store = self._store
        await trio.to_thread.run_sync(store.sync)  # leaves little for the checkpoint, on the loop
        store.checkpoint()
        await trio.to_thread.run_sync(store.write_snapshot)
        with closing(self._collector.delete(emptied)) as deleted:
            for _, size in deleted:
                done.segments += 1
                done.freed_bytes += size
                await self._pause(pause_s)

    async def _pause(self, pause_s: float) -> None:
        """Let requests have the loop; not for long where somebody waits for the next collection."""
        await trio.sleep(0 if self.lock.statistics().tasks_waiting else pause_s)

    def _report_failures(self, done: Collected) -> None:
        """Name each segment once for each reason."""
        failed = self._collector.failed
        done.failed = [f"segment {format.segment_name(n)} {why}" for n, why in failed.items()]
        done.failed_segments = len(failed)
        for number, why in failed.items():
            if self._reported.get(number) != why:
                name = format.segment_name(number)
                log.error("a segment is left, the others go on", segment=name, why=why)
        self._reported = dict(failed)
        if failed and (now := trio.current_time()) >= self._retry_at:
            self._retry_at = now + self._margins.retry_s

    def _slices(self, held: list[Held]) -> list[list[Held]]:
        slices: list[list[Held]] = [[]]
        size = 0
        for one in held:
            if size >= self._margins.slice_bytes or len(slices[-1]) >= self._margins.slice_blocks:
                slices.append([])
                size = 0
            slices[-1].append(one)
            size += len(one.payload)
        return slices
