"""When blocks are read just to verify them, at what pace, and what is remembered of bad ones.

The reading itself is the store's (store.scrubber). A pass goes over all blocks that something
needs; it begins when the last one began long enough ago, or when somebody asks, and goes on where
it stood after a restart. Each bad block gets a record in the index, from a pass or from any reader
that met it: with the files that need it, when it was first and last seen, and why. The record goes
when the block is found good again, is written again, or is not needed any more.

A pass that was asked for goes at the rate that was asked for, or at none; requests come first all
the same.
"""

import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import structlog
import trio

from fusefs.base import failpoints
from fusefs.base.clock import utc
from fusefs.daemon.pace import Pace
from fusefs.daemon.users import users_of
from fusefs.errors import DiskFull, StoreError
from fusefs.model import corruption, keys, scrub
from fusefs.model.block import Block
from fusefs.model.corruption import MAX_RECORDS, Bad, Corruption, Object
from fusefs.model.scrub import Pass
from fusefs.store.scrubber import Scrubber, Slice
from fusefs.tree.tree import Tree

#: A mount that has just come up has other things to do.
FIRST_LOOK_S = 60.0
#: Between two looks at whether there is anything to do.
IDLE_S = 1.0
#: Between two notes of how far a pass is: so much is read again after a crash.
SAVE_EVERY_S = 60.0
#: A bad block that readers meet again and again is recorded anew only after so long.
RENEW_S = 3600.0
#: After an error of the store.
RETRY_S = 10.0

_KEY = keys.setting("scrub")

log = structlog.get_logger(__name__)


async def _cannot_heal(_number: int) -> bool:
    return False


class Scrubbing:
    """The scrub of one open store, and its records of bad blocks.

    `rate`: bytes a second, 0: only when somebody asks. `every_s`: from one pass to the next.
    `scrubbed_blocks`, `scrubbed_bytes`: read since the store was opened.
    """

    def __init__(self, tree: Tree, pace: Pace, *, rate: int, every_s: float) -> None:
        self._tree = tree
        self._store = tree.store
        self._clock = tree.store.clock
        self._scrubber = Scrubber(tree.store)
        self._pace = pace
        self._rate = rate
        self._every_ns = int(every_s * 1e9)
        self._asked_rate: int | None = None  # None: nobody has asked; 0: as fast as it goes
        self._woken = trio.Event()
        self._pass = self._read_pass()
        self._is_saved = True
        self._saved_at = self._clock.monotonic()
        self._first_look = self._saved_at + FIRST_LOOK_S
        self._met: deque[tuple[int, Bad]] = deque(maxlen=MAX_RECORDS)  # any thread adds to it
        self._found: dict[int, Bad] = {}
        self._trouble = ""
        self._is_full = False
        self.scrubbed_blocks = self.scrubbed_bytes = 0
        #: Hears of each new record, and of each pass that came to its end.
        self.tell_found: Callable[[Corruption], None] = lambda one: None
        self.tell_over: Callable[[Pass], None] = lambda done: None
        #: Heals a block, if there is a copy of it; whether it did.
        self.heal: Callable[[int], Awaitable[bool]] = _cannot_heal
        self._store.blocks.on_damage = lambda number, bad: self._met.append((number, bad))
        self._store.blocks.on_heal = self._forget

    def _read_pass(self) -> Pass:
        row = self._store.get(_KEY)
        try:
            return scrub.unpack(row) if row is not None else Pass()
        except msgspec.MsgspecError:
            return Pass()  # fsck tells it; the next pass writes it anew

    # -- asking

    def ask(self, rate: int) -> None:
        """Have a pass now, or go on with the one under way; at `rate`, 0 being no limit."""
        self._asked_rate = rate
        self._woken.set()

    def record(self) -> dict[str, Any]:
        """Where the pass stands that is under way, or what the last one came to."""
        one = self._pass
        return {
            "is_running": self._is_wanted() and (one.is_under_way or self._asked_rate is not None),
            "began": utc(one.began_ns) if one.began_ns else None,
            "ended": utc(one.ended_ns) if one.ended_ns else None,
            "blocks": one.blocks,
            "read_bytes": one.read_bytes,
            "total_bytes": self._store.totals.stored_bytes,
            "damaged": one.damaged,
            "healed": one.healed,
            "records": self.count(),
            "trouble": self._trouble,
        }

    def count(self) -> int:
        """How many blocks are known to be bad."""
        return sum(1 for _ in self.records())

    def records(self, after: int = 0) -> Iterator[Corruption]:
        """What is known of them, by number behind `after`. Must not be kept over a change."""
        for _, row in self._store.scan(keys.corruption(after + 1), keys.CORRUPTION):
            try:
                yield corruption.unpack(row)
            except msgspec.MsgspecError:
                continue  # fsck tells it

    # -- working

    async def run(self) -> None:
        """Scrub whenever it is time, and record what readers met, until cancelled."""
        while True:
            self._woken = trio.Event()
            started = trio.current_time()
            before = self.scrubbed_bytes
            try:
                is_busy = await self.step()
                self._trouble = ""
            except (DiskFull, StoreError) as error:
                self._say(error)
                await self._wait(RETRY_S)
                continue
            except Exception as error:  # the mount goes on without its scrub for a while
                log.exception("scrubbing failed", error=str(error))
                await self._wait(RETRY_S)
                continue
            if not is_busy:
                await self._wait(IDLE_S)
                continue
            worked_s = trio.current_time() - started
            rest_s = self._limit_s(self.scrubbed_bytes - before) - worked_s
            await self._wait(max(rest_s, self._pace.rest_s(worked_s)))

    async def work_for(self, seconds: float) -> None:
        """Go on with what was asked for, where no requests come. Raises DiskFull, StoreError."""
        deadline = time.monotonic() + seconds
        while self._asked_rate is not None and time.monotonic() < deadline:
            started, before = time.monotonic(), self.scrubbed_bytes
            await self.step()
            limit_s = self._limit_s(self.scrubbed_bytes - before)
            await trio.sleep(max(0.0, limit_s - (time.monotonic() - started)))

    async def step(self) -> bool:
        """Do a slice; whether there was anything to do. Raises DiskFull, StoreError."""
        await self.settle()
        if not self._is_wanted():
            return False
        if not self._pass.is_under_way:
            self._pass = Pass(began_ns=self._clock.time_ns())
            self._is_saved = False
            self.save()
        wanted = self._scrubber.after(self._pass.position)
        bad = await trio.to_thread.run_sync(self._scrubber.read, wanted)
        healed = await self._heal(wanted, bad)
        self._take(wanted, bad, healed)
        await self.settle()
        if wanted.is_end:
            self._end()
        elif self._clock.monotonic() - self._saved_at >= SAVE_EVERY_S:
            self.save()
        return True

    async def _heal(self, wanted: Slice, bad: dict[int, Bad]) -> int:
        """Take out of `bad` what was found to be good in a remote, and written anew; how much."""
        healed = 0
        for number, block in wanted.blocks:
            if number not in bad or not self._scrubber.is_in_place(number, block):
                continue
            if await self.heal(number):
                del bad[number]
                healed += 1
        return healed

    def _is_wanted(self) -> bool:
        if self._asked_rate is not None:
            return True
        if not self._rate or self._clock.monotonic() < self._first_look:
            return False
        age_ns = self._clock.time_ns() - self._pass.began_ns
        return self._pass.is_under_way or not 0 <= age_ns < self._every_ns  # or the clock went back

    def _limit_s(self, size: int) -> float:
        """How long so many bytes are to take."""
        rate = self._rate if self._asked_rate is None else self._asked_rate
        return size / rate if rate else 0.0

    def _take(self, wanted: Slice, bad: dict[int, Bad], healed: int) -> None:
        """Note what was read; forget records of blocks in the slice that are good or gone."""
        one = self._pass
        for number, block in wanted.blocks:
            if number in bad and not self._scrubber.is_in_place(number, block):
                del bad[number]
        self._found |= bad
        self._forget_good(wanted.first, wanted.last, bad)
        one.position = wanted.last
        one.blocks += len(wanted.blocks)
        one.read_bytes += wanted.size_bytes
        one.damaged += len(bad) + healed
        one.healed += healed
        self.scrubbed_blocks += len(wanted.blocks)
        self.scrubbed_bytes += wanted.size_bytes
        self._is_saved = False

    def _forget_good(self, first: int, last: int, bad: dict[int, Bad]) -> None:
        """Drop the records of blocks from `first` to `last` that are not in `bad`."""
        batch = self._store.batch()
        for key, _ in self._store.scan(keys.corruption(first), keys.CORRUPTION):
            number = keys.number(key)
            if number > last:
                break
            if number not in bad:
                batch.delete(key)
                log.info("a bad block is good again, or gone", block=number)
        self._store.commit(batch)
        failpoints.hit("scrub.forgot")

    def _end(self) -> None:
        self._pass.ended_ns = self._clock.time_ns()
        self._asked_rate = None
        self._is_saved = False
        self.save()
        done = self._pass
        log.info(
            "scrubbed", blocks=done.blocks, read_bytes=done.read_bytes, damaged=done.damaged,
            healed=done.healed,
        )  # fmt: skip
        self.tell_over(done)

    def save(self) -> None:
        """Note how far the pass is, if it went on and what it found is recorded.

        Raises DiskFull, StoreError.
        """
        if self._is_saved or self._found:
            return
        batch = self._store.batch()
        batch.put(_KEY, scrub.pack(self._pass))
        self._store.commit(batch)
        self._is_saved = True
        self._saved_at = self._clock.monotonic()
        failpoints.hit("scrub.saved")

    # -- records

    def _forget(self, number: int) -> None:
        """A block was healed before it was recorded; who reads it again finds out if it was not."""
        self._found.pop(number, None)
        for one in list(self._met):  # readers in threads add to it
            if one[0] == number:
                self._met.remove(one)

    async def settle(self) -> None:
        """Record the bad blocks that a pass or readers found. Raises DiskFull, StoreError."""
        while self._met:
            number, bad = self._met.popleft()
            if number not in self._found and self._is_news(number):
                self._found[number] = bad
        if not self._found:
            return
        started = trio.current_time()

        async def rest() -> None:
            nonlocal started
            await trio.sleep(self._pace.rest_s(trio.current_time() - started))
            started = trio.current_time()

        users = await users_of(self._tree, set(self._found), rest)
        for number, (objects, others) in users.items():
            if number in self._found:
                self._record(number, self._found[number], objects, others)
                del self._found[number]

    def _is_news(self, number: int) -> bool:
        known = self._known(number)
        age_ns = self._clock.time_ns() - known.last_ns if known else 0
        return known is None or not 0 <= age_ns < RENEW_S * 1e9

    def _known(self, number: int) -> Corruption | None:
        row = self._store.get(keys.corruption(number))
        try:
            return corruption.unpack(row) if row is not None else None
        except msgspec.MsgspecError:
            return None

    def _record(self, number: int, bad: Bad, objects: tuple[Object, ...], others: int) -> None:
        row = self._store.get(keys.block(number))
        block = Block.unpack(row) if row is not None else None
        if block is None or not block.refs:
            return  # gone meanwhile
        known = self._known(number)
        if known is None and not self._has_room():
            return
        now = self._clock.time_ns()
        one = Corruption(
            number, block.segment, block.offset, bad.state, bad.reason,
            known.first_ns if known else now, now, objects, others,
        )  # fmt: skip
        batch = self._store.batch()
        batch.put(keys.corruption(number), corruption.pack(one))
        self._store.commit(batch)
        failpoints.hit("scrub.recorded")
        if known is None:
            files = [os.fsdecode(one.path) or f"inode {one.ino}" for one in objects]
            log.error("a block is bad", block=number, why=bad.reason, files=files, others=others)
            self.tell_found(one)

    def _has_room(self) -> bool:
        was_full, self._is_full = self._is_full, self.count() >= MAX_RECORDS
        if self._is_full and not was_full:
            log.error(
                "there are too many bad blocks to record them all: fusefs fsck --read-data names"
                " them",
                records=MAX_RECORDS,
            )
        return not self._is_full

    # -- waiting

    async def _wait(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._woken.wait()

    def _say(self, error: StoreError) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("scrubbing waits", error=str(error))
