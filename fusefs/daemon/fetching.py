"""Bringing what readers want from remotes into the cache.

A segment is fetched in pieces of 1 MiB on a grid, so that readers of the same place share an order.
Of a piece only what lacks is asked for: what was fetched once is not fetched again, whoever died
meanwhile. A reader waits for the pieces that it needs; more of them come behind it, twice as many
each time that it goes on where it was.

What comes is verified by whoever reads it. Where it does not verify it is fetched anew, from
another remote if there is one, and the copy that it came from is read back before an eviction
counts it again. A reader waits for a bounded time, and learns then why.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from itertools import islice
from typing import Any

import structlog
import trio
from blake3 import blake3

from fusefs.daemon.orders import Order, Orders
from fusefs.errors import NotLocal, StoreError
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.model.remote import Copy, Remote
from fusefs.store import format
from fusefs.store.log import Buffer
from fusefs.store.presence import GRAIN
from fusefs.store.store import Store
from fusefs.sync.copies import cheapest_first, note_seen

PIECE = 1 << 20
#: Readahead begins with so many pieces behind what is wanted, and grows up to so many.
_AHEAD_FIRST, _AHEAD_MOST = 1, 8
#: Orders that nobody waits for are placed while there are fewer than this.
_AHEAD_ORDERS = 32
#: Requests of the kernel that may wait for a network at one time; the others of the face's tasks
#: are for those that need none.
_WAITING_MOST = 48
#: Pieces of which it is known where they came from.
_SERVED_MOST = 4096
_BAD_COPIES = "what its copies hold does not verify: see fusefs sync verify"
#: Rows of blocks that are looked at before others have their turn.
_SCANNED = 1000

Key = tuple[int, int]
Record = dict[str, Any]

log = structlog.get_logger(__name__)


@dataclass
class FetchCounts:
    """Since the store was opened. `fetches`: pieces that came, with `fetched_bytes`;
    `failed_fetches`: readers that were refused."""

    fetches: int = 0
    fetched_bytes: int = 0
    failed_fetches: int = 0


class Fetching:
    """Brings content for one open store; satisfies `files.elsewhere.Elsewhere`.

    `timeout_s`: how long a reader waits for a piece.
    """

    def __init__(self, store: Store, orders: Orders, *, timeout_s: float, read_only: bool) -> None:
        self._store = store
        self._orders = orders
        self.timeout_s = timeout_s
        self._read_only = read_only
        self._open: dict[Key, Order] = {}
        self._served: OrderedDict[Key, list[str]] = OrderedDict()  # remotes, the last one last
        self._ahead: OrderedDict[int, tuple[int, int]] = OrderedDict()  # next piece, how many
        self._waiting = 0
        self._said = ""
        self.counts = FetchCounts()
        #: Hears that a reader was refused: segment, and why.
        self.tell_failed: Callable[[int, str], None] = lambda segment, why: None
        #: Hears of each block that was healed, and where it lay.
        self.tell_healed: Callable[[int, Block], None] = lambda number, bad: None

    # -- for readers

    async def fetch(self, wanted: NotLocal, tries: int = 0) -> None:
        """Bring what is wanted into the cache. Raises NotLocal, which says why that cannot be."""
        copies = cheapest_first(self._store, wanted.segment)
        if not copies:
            raise self._refused(wanted, "it is in no remote")
        if tries > len(copies):
            raise self._refused(wanted, _BAD_COPIES)
        if self._waiting >= _WAITING_MOST:
            raise self._refused(wanted, f"{self._waiting} others wait for remotes already")
        if why := self._why_no_room(wanted.size):
            raise self._refused(wanted, why)
        self._waiting += 1
        try:
            await self._wait_for(wanted, copies, is_again=tries > 0)
        finally:
            self._waiting -= 1

    async def _wait_for(
        self, wanted: NotLocal, copies: list[tuple[str, Remote, Copy]], *, is_again: bool
    ) -> None:
        size = copies[0][2].size
        end = min(wanted.offset + wanted.size, size)
        pieces = range(wanted.offset // PIECE, -(-end // PIECE))
        if is_again:
            orders = [self._order_again(wanted, piece, copies, end) for piece in pieces]
        else:  # with none the last of it came while the reader looked: it looks again
            orders = self._order_lacking(wanted, pieces, copies, end)
            self._order_ahead(wanted.segment, pieces.stop, copies)
        for key, order in orders:
            if not await order.wait(self.timeout_s):
                if not order.waiting:
                    self._open.pop(key, None)
                    self._orders.withdraw(order, "nobody waits for it")
                has_agent = self._orders.has_agent()
                why = "no remote answered" if has_agent else "there is no agent that fetches it"
                raise self._refused(wanted, f"{why} within {self.timeout_s:.0f} s")
            if order.error:
                raise self._refused(wanted, order.error)
        self._said = ""

    def expect(self, wanted: NotLocal) -> None:
        """Order what is wanted soon, if the agent is not busy."""
        copies = cheapest_first(self._store, wanted.segment)
        if copies and self._orders.has_agent():
            end = min(wanted.offset + wanted.size, copies[0][2].size)
            for piece in range(wanted.offset // PIECE, -(-end // PIECE)):
                self._order_one_ahead(wanted.segment, piece, copies)

    async def heal(self, number: int) -> Buffer | None:
        """The content of a bad block from a copy of its segment, written anew under its number."""
        store = self._store
        block = Block.unpack(store.get(keys.block(number)) or b"")
        tries = 0
        while True:
            try:
                cold = store.blocks.locate_copy(number)
                content = await trio.to_thread.run_sync(cold.read)
                break
            except NotLocal as wanted:
                if not store.is_copied(block.segment):
                    return None
                try:
                    await self.fetch(wanted, tries)
                except NotLocal as refused:
                    log.warning("a bad block is not healed", block=number, why=str(refused))
                    return None
                tries += 1
        assert content is not None  # it may wait
        self._write_anew(number, block, content)
        return content

    async def heal_now(self, number: int) -> bool:
        """Heal a block if there is an agent to fetch it; whether it is healed."""
        return self._orders.has_agent() and await self.heal(number) is not None

    def _write_anew(self, number: int, bad: Block, content: Buffer) -> None:
        """Unless somebody did meanwhile, or nothing may be written."""
        store = self._store
        row = store.get(keys.block(number))
        now = Block.unpack(row) if row is not None else None
        if self._read_only or now is None or not now.refs:
            return
        if (now.segment, now.offset) != (bad.segment, bad.offset):
            return
        try:
            batch = store.batch()
            store.blocks.heal(batch, number, content)
            store.commit(batch)
        except StoreError as error:
            log.warning("a bad block cannot be written anew", block=number, error=str(error))
            return
        log.info("a bad block was healed from a remote", block=number)
        self.tell_healed(number, bad)

    # -- for who brings back whole segments

    async def fetch_segment(self, number: int) -> int:
        """Bring all of a segment here, verified; returns the bytes that were fetched.

        Raises NotLocal, DiskFull, StoreError.
        """
        store = self._store
        copies = cheapest_first(store, number)
        if number in store.segments:
            return 0
        name = format.segment_name(number)
        if not copies:
            nowhere = NotLocal(f"segment {name} is nowhere", number, 0, 0)
            raise self._refused(nowhere, "it is in no remote")
        copy = copies[0][2]
        before = self.counts.fetched_bytes
        for tries in range(len(copies) + 1):
            wanted = NotLocal(f"segment {name} is in a remote only", number, 0, copy.size)
            if tries or store.cache.lacking(number, 0, copy.size):
                await self.fetch(wanted, tries)
            if await trio.to_thread.run_sync(_is_whole, store, number, copy):
                store.bring_back(number)
                return self.counts.fetched_bytes - before
        raise self._refused(wanted, _BAD_COPIES)

    async def salvage(self, segment: int) -> tuple[int, int]:
        """Have all blocks of a segment here that its damaged copies still give; returns how many
        these are, and how many are lost. Raises NotLocal where they cannot be fetched, or kept."""
        store, name = self._store, format.segment_name(segment)
        if not self._orders.has_agent():
            raise NotLocal(f"nobody fetches segment {name}: mount the store", segment, 0, 0)
        size = store.copied_size(segment)
        await self.fetch(NotLocal(f"segment {name} is in a remote only", segment, 0, size))
        saved = lost = 0
        async for number in self._blocks_of(segment):
            if await self.heal(number) is None:
                lost += 1
            elif Block.unpack(store.get(keys.block(number)) or b"").segment != segment:
                saved += 1
            else:
                raise NotLocal(f"what is good of segment {name} cannot be written", segment, 0, 0)
        return saved, lost

    async def _blocks_of(self, segment: int) -> AsyncIterator[int]:
        """The blocks of use in a segment."""
        last = 0
        while rows := list(islice(self._store.scan(keys.block(last + 1), keys.BLOCK), _SCANNED)):
            last = keys.number(rows[-1][0])
            for key, row in rows:
                block = Block.unpack(row)
                if block.segment == segment and block.refs:
                    yield keys.number(key)
            await trio.lowlevel.checkpoint()

    # -- orders

    def _order_lacking(
        self, wanted: NotLocal, pieces: range, copies: list[tuple[str, Remote, Copy]], end: int
    ) -> list[tuple[Key, Order]]:
        """Orders for what lacks of the pieces with holes where something is wanted."""
        orders = []
        for piece in pieces:
            key = wanted.segment, piece
            order = self._open.get(key)
            if order is None:
                start = max(wanted.offset, piece * PIECE)
                stop = min(end, (piece + 1) * PIECE)
                if not self._store.cache.lacking(wanted.segment, start, stop):
                    continue
                order = self._order_piece(key, copies)
            if order is not None:
                self._orders.hurry(order)
                orders.append((key, order))
        return orders

    def _order_piece(
        self, key: Key, copies: list[tuple[str, Remote, Copy]], *, is_urgent: bool = True
    ) -> Order | None:
        """An order for what lacks of a piece; None where nothing does."""
        segment, piece = key
        size = copies[0][2].size
        stop = min((piece + 1) * PIECE, size)
        hole = self._store.cache.lacking(segment, piece * PIECE, stop)
        if hole is None:
            return None
        return self._order(key, hole[0], hole[1], copies, is_urgent=is_urgent)

    def _order_again(
        self, wanted: NotLocal, piece: int, copies: list[tuple[str, Remote, Copy]], end: int
    ) -> tuple[Key, Order]:
        """Order a part again that is there and does not verify, elsewhere first."""
        key = wanted.segment, piece
        if (order := self._open.get(key)) is not None:
            return key, order
        start = max(wanted.offset, piece * PIECE)
        stop = min(end, (piece + 1) * PIECE)
        served = self._served.get(key, [])
        if served:
            self._distrust(wanted.segment, served[-1])
        copies = sorted(copies, key=lambda one: served.index(one[0]) if one[0] in served else -1)
        return key, self._order(key, start, stop, copies, is_urgent=True, doubted=served)

    def _distrust(self, segment: int, name: str) -> None:
        """Have a copy read back before it counts again: what came from it did not verify."""
        copies = cheapest_first(self._store, segment)
        if not any(one[0] == name and one[2].verified_ns for one in copies):
            return  # that is known
        log.warning(
            "what came from a remote does not verify: see fusefs sync verify",
            remote=name, segment=format.segment_name(segment),
        )  # fmt: skip
        if self._read_only:
            return
        try:
            note_seen(self._store, {(segment, name): 0})
        except StoreError as error:
            log.warning("a bad copy in a remote cannot be noted", error=str(error))

    def _order(
        self, key: Key, start: int, stop: int, copies: list[tuple[str, Remote, Copy]], *,
        is_urgent: bool, doubted: Collection[str] = (),
    ) -> Order:  # fmt: skip
        segment = key[0]
        start = start // GRAIN * GRAIN
        stop = min(-(-stop // GRAIN) * GRAIN, copies[0][2].size)
        what = {
            "kind": "fetch",
            "segment": segment,
            "offset": start,
            "size": stop - start,
            "copies": [
                {"remote": name, "name": copy.name, "is_doubted": name in doubted}
                for name, _, copy in copies
            ],
        }
        order = self._open[key] = self._orders.place(what, is_urgent=is_urgent)
        return order

    def _order_ahead(
        self, segment: int, after: int, copies: list[tuple[str, Remote, Copy]]
    ) -> None:
        """Order what comes behind the pieces before `after`, more for who reads in sequence."""
        expected, count = self._ahead.pop(segment, (after - 1, 0))
        goes_on = expected - 1 <= after - 1 <= expected + count
        count = min(max(2 * count, _AHEAD_FIRST), _AHEAD_MOST) if goes_on else 0
        self._ahead[segment] = after, count
        if len(self._ahead) > _AHEAD_ORDERS:
            self._ahead.popitem(last=False)
        for piece in range(after, after + count):
            self._order_one_ahead(segment, piece, copies)

    def _order_one_ahead(
        self, segment: int, piece: int, copies: list[tuple[str, Remote, Copy]]
    ) -> None:
        if len(self._orders) >= _AHEAD_ORDERS or piece * PIECE >= copies[0][2].size:
            return
        if (segment, piece) not in self._open and not self._why_no_room(PIECE):
            self._order_piece((segment, piece), copies, is_urgent=False)

    def _why_no_room(self, size: int) -> str:
        """Why so much cannot be fetched, "" if it can; drops what was used least lately for it."""
        space = self._store.space
        while space.refresh() - space.reserve_bytes < size:
            if not self.drop_oldest():
                return f"the disk of {self._store.path} is full up to its reserve"
        try:
            self._store.cache.make()
        except OSError as error:
            return f"{self._store.path / 'cache'}: {error.strerror}"
        return ""

    def drop_oldest(self) -> bool:
        """Drop what was fetched of the segment that was used least lately; False if nothing can
        be dropped."""
        cache = self._store.cache
        busy = {segment for segment, _ in self._open}
        for segment in cache.sizes:
            if segment not in busy:
                self._store.blocks.forget_segment(segment)
                cache.drop(segment)
                return True
        return False

    # -- for the agent

    def done(self, order: Order, served: str) -> None:
        """An order was reported; `served`: the remote that it came from."""
        segment, offset = order.what["segment"], order.what["offset"]
        key = segment, offset // PIECE
        if self._open.get(key) is order:
            del self._open[key]
        if order.error:
            self._say(order.error)
            return
        self._store.cache.used(segment)
        self.counts.fetches += 1
        self.counts.fetched_bytes += order.what["size"]
        before = [one for one in self._served.get(key, []) if one != served]
        self._served[key] = [*before, served]
        if len(self._served) > _SERVED_MOST:
            self._served.popitem(last=False)

    # -- looking

    def record(self) -> Record:
        """For `status`."""
        return {
            "cache_bytes": self._store.cache.total_bytes,
            "away_bytes": self._store.usage.absent_bytes,
            "waiting": self._waiting,
            "orders": len(self._open),
            "last_error": self._said,
        }

    def _refused(self, wanted: NotLocal, why: str) -> NotLocal:
        self.counts.failed_fetches += 1
        self._say(why)
        self.tell_failed(wanted.segment, why)
        name = format.segment_name(wanted.segment)
        message = f"segment {name} is in remotes only, and cannot be fetched: {why}"
        return NotLocal(message, wanted.segment, wanted.offset, wanted.size)

    def _say(self, why: str) -> None:
        if why != self._said:
            self._said = why
            log.warning("a part of a segment cannot be fetched", why=why)


def _is_whole(store: Store, number: int, copy: Copy) -> bool:
    """Whether what was fetched of a segment is all of it, and what was stored."""
    hasher = blake3()
    try:
        with open(store.cache.path(number), "rb") as file:
            for piece in iter(lambda: file.read(PIECE), b""):
                hasher.update(piece)
            return file.tell() == copy.size and hasher.digest() == copy.digest
    except OSError:
        return False
