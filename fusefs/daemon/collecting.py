"""When space is given back, and how much of the loop's time that may take.

The collector itself is the store's. Here are its timer and its manners: it waits until a round is
worth the copy of the index that it costs, works in slices of about 1 MiB with pauses between them,
and reads in a thread.
"""

from dataclasses import asdict, dataclass
from typing import Any

import structlog
import trio

from fusefs.base.events import Events
from fusefs.errors import DiskFull, StoreError
from fusefs.store import format
from fusefs.store.collector import LEAST_DEAD, Candidate, Collector, Held
from fusefs.store.store import Store

#: Between two looks at whether there is enough to do.
LOOK_EVERY_S = 60.0
#: A round by itself begins when it frees this much, and more than the index is long.
WORTH_BYTES = 128 << 20
#: Segments that are deleted together, after one checkpoint and one copy of the index.
ROUND = 64
#: After each slice, where nobody waits for the result: leaves most of the time to requests.
PAUSE_S = 0.05
_SLICE_BYTES = 1 << 20
_SLICE_BLOCKS = 500

log = structlog.get_logger(__name__)


@dataclass
class Collected:
    """What a collection did, or, if `is_plan`, what it would do at most.

    `freed_bytes`: sizes of deleted segments; `moved_bytes` of them were needed and written again.
    """

    segments: int = 0
    freed_bytes: int = 0
    moved_bytes: int = 0
    is_plan: bool = False

    def record(self) -> dict[str, Any]:
        return asdict(self)


class Collecting:
    """The collections of one open store; one at a time."""

    def __init__(self, store: Store, events: Events) -> None:
        self._store = store
        self._events = events
        self._collector = Collector(store)
        self._lock = trio.Lock()

    def plan(self) -> Collected:
        """What `collect` would do now, without doing it."""
        found = self._collector.plan()
        size, live = sum(one.size for one in found), sum(one.live for one in found)
        return Collected(len(found), size, live, is_plan=True)

    async def run(self) -> None:
        """Collect whenever it is worth it, until cancelled."""
        while True:
            await trio.sleep(LOOK_EVERY_S)
            gain = _gain(self._collector.plan())
            if gain < max(WORTH_BYTES, self._store.index_bytes):
                continue
            try:
                done = await self.collect(pause_s=PAUSE_S)
            except DiskFull as error:
                log.warning("collecting waits for space", error=str(error))
            except StoreError as error:
                log.error("collecting failed", error=str(error))
            else:
                log.info("collected", **done.record())

    async def collect(self, least_dead: float = LEAST_DEAD, pause_s: float = 0.0) -> Collected:
        """Empty and delete every segment of which that part is of no use.

        Raises DiskFull or StoreError; what was done until then stays done.
        """
        done = Collected()
        async with self._lock:
            emptied: dict[int, list[int]] = {}
            for one in self._collector.plan(least_dead):
                held = await trio.to_thread.run_sync(self._collector.read, one.number)
                for part in _slices(held):
                    done.moved_bytes += self._collector.move(one.number, part)
                    await trio.sleep(pause_s)
                if one.number in self._collector.damaged:
                    name = format.segment_name(one.number)
                    log.error("damaged segment is kept: run fusefs fsck --read-data", segment=name)
                    continue
                emptied[one.number] = [block.number for block in held]
                if len(emptied) == ROUND:
                    await self._delete(emptied, done)
                    emptied = {}
            if emptied:
                await self._delete(emptied, done)
        self._events.publish("collected", **done.record())
        return done

    async def _delete(self, emptied: dict[int, list[int]], done: Collected) -> None:
        store = self._store
        await trio.to_thread.run_sync(store.sync)  # leaves little for the checkpoint, on the loop
        store.checkpoint()
        await trio.to_thread.run_sync(store.write_snapshot)
        deleted = self._collector.delete(emptied)
        done.segments += len(deleted)
        done.freed_bytes += sum(deleted.values())


def _gain(found: list[Candidate]) -> int:
    return sum(one.size - one.live for one in found)


def _slices(held: list[Held]) -> list[list[Held]]:
    """In pieces of some 1 MiB."""
    slices: list[list[Held]] = [[]]
    size = 0
    for one in held:
        if size >= _SLICE_BYTES or len(slices[-1]) >= _SLICE_BLOCKS:
            slices.append([])
            size = 0
        slices[-1].append(one)
        size += len(one.payload)
    return slices
