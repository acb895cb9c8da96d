"""What can be asked about content that is in remotes, by the agent that fetches it and by users."""

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from fusefs.base.clock import utc
from fusefs.daemon.filesystem import Filesystem
from fusefs.daemon.orders import POLL_S
from fusefs.daemon.verbs import Verb
from fusefs.errors import NotEnoughCopies, UsageError
from fusefs.store import format
from fusefs.sync.evict import Remotes
from fusefs.sync.registry import by_number

Record = dict[str, Any]


class OrdersArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`session`: of the agent's process; a new one gets again what the one before did not report.
    `limit`: how many orders it can take. `wait_s`: how long to wait for the first."""

    session: str
    limit: int = 8
    wait_s: float = POLL_S


class DoneArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`id`: of the order. `error`: why it was not done, for people, or empty. `remote`: where what
    came is from. `proofs`: of the copies that were looked at."""

    id: int
    error: str = ""
    remote: str = ""
    proofs: list[Record] = []


class PathArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`path`: of a file or directory, from the root of the filesystem."""

    path: bytes


class SegmentArguments(msgspec.Struct, forbid_unknown_fields=True):
    segment: int


class PinArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`is_pinned`: None takes the pin away, so that what is above decides."""

    path: bytes
    is_pinned: bool | None


class EvictPlanArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`paths`: what is wanted away; all if there are none. `to_free`: no more bytes than that.
    `numcopies`, `mincopies`: as in `EvictArguments`."""

    paths: list[bytes] = []
    to_free: int | None = None
    numcopies: int | None = None
    mincopies: int | None = None


class EvictArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`segments`: of a plan. `numcopies`, `mincopies`: instead of those of the store. `read_all`:
    whether each copy is read back, however lately that was done."""

    segments: list[int]
    numcopies: int | None = None
    mincopies: int | None = None
    read_all: bool = False


class CopiesArguments(msgspec.Struct, forbid_unknown_fields=True):
    """What is None stays as it is."""

    numcopies: int | None = None
    mincopies: int | None = None


class FetchDesk:
    """Answers about what of `filesystem` is where.

    Orders of the agent are::

        {"id", "kind": "fetch", "segment", "offset", "size",
         "copies": [{"remote", "name", "is_doubted"}]}
            lay these bytes of the segment into the file STORE/cache/<segment name>, from the first
            of the copies that gives them; `remote`: of the store, `name`: of the object,
            `is_doubted`: what came from it did not verify, so it is the last to be asked
        {"id", "kind": "prove", "copies": [{"segment", "remote", "name", "size", "digest",
                                            "is_read"}]}
            say of each copy {"segment", "remote", "why_not", "is_bad"}: what is wrong with it just
            now, and whether that is the copy itself, and not the way to it
    """

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._orders = filesystem.orders
        self._fetching = filesystem.fetching
        self._evicting = filesystem.evicting
        self._pins = filesystem.pins

    # -- for the agent

    async def orders(self, arguments: OrdersArguments, _uid: int) -> Record:
        """Orders for the agent; waits a while for the first one."""
        wait_s = min(arguments.wait_s, POLL_S)
        return {"orders": await self._orders.take(arguments.session, arguments.limit, wait_s)}

    async def done(self, arguments: DoneArguments, _uid: int) -> Record:
        """An order was done, or cannot be done."""
        answer = {"proofs": arguments.proofs}
        order = self._orders.done(arguments.id, arguments.error, answer)
        if order is not None and order.what["kind"] == "fetch":
            self._fetching.done(order, arguments.remote)
        return {}

    # -- for users

    async def whereis(self, arguments: PathArguments, _uid: int) -> Record:
        """Where the content of a file, or of all files below a directory, lies."""
        needed = await self._needed(arguments.path)
        remotes = by_number(self._filesystem.store)
        segments = [self._segment(*one, remotes) for one in sorted(needed.items())]
        return {
            "path": "/" + os.fsdecode(arguments.path.strip(b"/")),
            "bytes": sum(needed.values()),
            "here_bytes": sum(one["bytes"] for one in segments if one["is_here"]),
            "segments": segments,
        }

    def _segment(self, number: int, size: int, remotes: Remotes) -> Record:
        store = self._filesystem.store
        copies = [
            {
                "remote": remotes[at][0],
                "cost": remotes[at][1].cost,
                "name": copy.name,
                "verified": utc(copy.verified_ns),
            }
            for at, copy in store.copies(number).items()
            if at in remotes
        ]
        return {
            "segment": format.segment_name(number),
            "number": number,
            "bytes": size,
            "is_here": number in store.segments,
            "cached_bytes": store.cache.sizes.get(number, 0),
            "copies": sorted(copies, key=lambda one: (one["cost"], one["remote"])),
        }

    async def fetch_plan(self, arguments: PathArguments, _uid: int) -> Record:
        """The segments of a file or directory that are not here: number, bytes."""
        store = self._filesystem.store
        away = [one for one in await self._needed(arguments.path) if one not in store.segments]
        return {"segments": [(one, store.copied_size(one)) for one in sorted(away)]}

    async def fetch_segment(self, arguments: SegmentArguments, _uid: int) -> Record:
        """Bring a segment here, all of it."""
        return {"fetched_bytes": await self._fetching.fetch_segment(arguments.segment)}

    async def salvage(self, arguments: SegmentArguments, _uid: int) -> Record:
        """Have all blocks of a segment here that its damaged copies still give."""
        self._filesystem.check_writable()
        saved, lost = await self._fetching.salvage(arguments.segment)
        return {"saved": saved, "lost": lost}

    async def evict_plan(self, arguments: EvictPlanArguments, _uid: int) -> Record:
        """What an eviction would drop, if the copies can be proved. Raises NotEnoughCopies where
        there is no remote that could have one."""
        if all(row.is_trash for _, row in by_number(self._filesystem.store).values()):
            raise NotEnoughCopies(
                "the store is kept in no remote, so nothing may go from this disk: add one by"
                " 'fusefs remote add'"
            )
        wanted: set[int] | None = None
        if arguments.paths:
            wanted = set()
            for path in arguments.paths:
                wanted |= (await self._needed(path)).keys()
        plan = await self._evicting.plan(wanted, arguments.to_free)
        needed = self._evicting.settings.changed(arguments.numcopies, arguments.mincopies).needed
        return {**plan.record(), "needed_copies": needed}

    async def evict(self, arguments: EvictArguments, _uid: int) -> Record:
        """Drop segments of which there are enough copies."""
        self._filesystem.check_writable()
        done = await self._evicting.evict(
            arguments.segments,
            numcopies=arguments.numcopies,
            mincopies=arguments.mincopies,
            read_all=arguments.read_all,
        )
        return done.record()

    async def pin(self, arguments: PinArguments, _uid: int) -> Record:
        """Keep a file, or all below a directory, here."""
        self._filesystem.check_writable()
        inode = self._filesystem.resolve(arguments.path)
        value = None if arguments.is_pinned is None else b"%d" % arguments.is_pinned
        self._pins.pin(inode, value)
        return {}

    async def copies(self, arguments: CopiesArguments, _uid: int) -> Record:
        """How many copies elsewhere a segment needs to go from here; changes it if that is said."""
        known = self._evicting.settings
        changed = known.changed(arguments.numcopies, arguments.mincopies)
        if min(changed.numcopies, changed.mincopies) < 0:
            raise UsageError("numcopies and mincopies are 0 or more")
        if changed != known:
            self._filesystem.check_writable()
            self._evicting.set(changed)
        return {"numcopies": changed.numcopies, "mincopies": changed.mincopies}

    async def _needed(self, path: bytes) -> dict[int, int]:
        """The segments that a file, or what is below a directory, needs, with its bytes there."""
        needed: dict[int, int] = {}
        counted: set[int] = set()
        inode = self._filesystem.resolve(path)
        async for one in self._pins.files_below(inode):
            self._filesystem.files.flush_one(one.ino)
            for part in self._pins.parts(one):
                if part.block not in counted:
                    counted.add(part.block)
                    needed[part.segment] = needed.get(part.segment, 0) + part.stored
        return needed

    VERBS: ClassVar[Mapping[str, Verb]] = {
        "fetch_orders": Verb(OrdersArguments, orders),
        "fetch_done": Verb(DoneArguments, done),
        "whereis": Verb(PathArguments, whereis),
        "fetch_plan": Verb(PathArguments, fetch_plan),
        "fetch_segment": Verb(SegmentArguments, fetch_segment),
        "fetch_salvage": Verb(SegmentArguments, salvage),
        "evict_plan": Verb(EvictPlanArguments, evict_plan),
        "evict": Verb(EvictArguments, evict),
        "pin": Verb(PinArguments, pin),
        "copies": Verb(CopiesArguments, copies),
    }
