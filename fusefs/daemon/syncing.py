"""When what goes to which remote: orders for the agent, and what came of them.

The agent asks for an order and waits until there is one::

    send      these sealed segments, oldest first; they will be needed
    publish   make a cut and bring it into the remote whole: see `sync.publish`
    expire    delete there what nothing needs any more: see `sync.expire`

A cut seals the log, so one is made when users have rested for some seconds, or after some more
seconds while they do not; a user who asks does not wait. What the agent tells is kept in rows as
far as it must outlive the daemon, in a `State` for the rest.
"""

import math
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
import trio

from fusefs.base.clock import utc
from fusefs.base.events import Events, Kind
from fusefs.errors import NoSuchRemote, WrongState
from fusefs.model.remote import Copy, Remote
from fusefs.store.store import Store
from fusefs.sync import layout
from fusefs.sync.copies import Copies
from fusefs.sync.margins import DEFAULT as MARGINS
from fusefs.sync.registry import Registry
from fusefs.sync.unpublished import has_acts_behind

#: Users have rested for so long, or have gone on for so long, when a cut is made.
IDLE_S, AT_LATEST_S = 3.0, 30.0
#: Segments in one order; which of them are there already is asked for all at once.
ORDER_SEGMENTS = 32
#: After a start, before it is looked for what a remote does not need any more.
FIRST_TIDY_S = 3600.0
#: Between two looks for an order.
_LOOK_S = 0.25
#: The rate that is shown is that of about so many seconds.
_RATE_S = 10.0

Record = dict[str, Any]

log = structlog.get_logger(__name__)


class Rate:
    """Bytes a second, of the last seconds more than of those before."""

    def __init__(self) -> None:
        self._bytes_per_s = 0.0
        self._at = -math.inf

    def add(self, count: int, now: float) -> None:
        self._bytes_per_s = self.at(now) + count / _RATE_S
        self._at = now

    def at(self, now: float) -> float:
        age = now - self._at
        return self._bytes_per_s * math.exp(-age / _RATE_S) if age < 100 * _RATE_S else 0.0


@dataclass
class Cut:
    """The log up to `end`, as it is to be published. `acts`: `Store.acts` then; `needed`: the
    segments that it needs; `time_ns`: wall time."""

    number: int
    end: tuple[int, int]
    acts: int
    needed: list[int]
    time_ns: int


@dataclass
class State:
    """What is known of a remote while this daemon lives.

    `published_acts`: `Store.acts` at the last cut that was published, -1 while nothing is known.
    `behind_since`: loop time since which there are acts that are not published, or None.
    `asked`: how often users wanted all to be there now; `ordered`: how often they had, when the
    agent got its last order; `settled`: how many of these are done with, well or not. `held_until`:
    loop time up to which nothing is sent, because somebody tidies up there. `error`: what went
    wrong last, if nothing went right since; `failures`: how often something did, without that which
    is tried again at once. `doing`: what the agent does, for people. `tidied_at`: loop time when
    the agent has looked for what is not needed there any more.
    """

    published_acts: int = -1
    behind_since: float | None = None
    asked: int = 0
    ordered: int = 0
    settled: int = 0
    held_until: float = -math.inf
    error: Record | None = None
    error_ns: int = 0
    doing: str = ""
    cut: Cut | None = None
    sent_bytes: int = 0
    sent_objects: int = 0
    retries: int = 0
    failures: int = 0
    tidied_at: float = math.inf
    rate: Rate = field(default_factory=Rate)

    @property
    def is_asked(self) -> bool:
        """Whether a user waits for all to be there."""
        return self.asked > self.settled


class Syncing:
    """The sync of an open store. `write_out` stores what users wrote. Of a store that is
    `is_read_only` nothing is sent: what was sent could not be remembered."""

    def __init__(
        self,
        store: Store,
        events: Events,
        write_out: Callable[[], None],
        *,
        is_read_only: bool = False,
    ) -> None:
        self._is_read_only = is_read_only
        self._store = store
        self._events = events
        self._write_out = write_out
        self.registry = Registry(store)
        self.copies = Copies(store)
        self._states: dict[int, State] = {}
        self._seen = -1, -math.inf
        self._cuts = 0
        self._changed = trio.lowlevel.ParkingLot()
        #: Hears that a remote came, went or changed.
        self.tell_changed: Callable[[], None] = lambda: None
        #: Makes the log durable, beside the loop.
        self.sync: Callable[[], Awaitable[None]]

    def state(self, row: Remote) -> State:
        return self._states.setdefault(row.number, State())

    def changed(self) -> None:
        """A remote came, went, or is to be looked at at once."""
        self._changed.unpark_all()
        self.tell_changed()

    async def wait_for_change(self) -> None:
        """Until `changed` is called, or for longer."""
        await self._changed.park()

    def find(self, name: str, number: int) -> Remote:
        """The row of a remote that the agent speaks of. Raises NoSuchRemote."""
        row = self.registry.get(name)
        if row.number != number:
            raise NoSuchRemote(f"the remote {name} is another one by now")
        return row

    def published_segment(self) -> int:
        """The last segment whose batches every remote has that is sent to."""
        rows = (row for _, row in self.registry.synced() if not row.is_paused)
        return min((row.published_segment for row in rows), default=self._store.newest_segment)

    # -- orders

    async def order(self, name: str, number: int, wait_s: float, rest_s: float) -> Record | None:
        """What the agent is to do for a remote; None after `wait_s`. After a failure it rests for
        `rest_s`, unless a user asks. Raises NoSuchRemote."""
        began = trio.current_time()
        while True:
            row = self.find(name, number)
            state = self.state(row)
            now = trio.current_time()
            if state.is_asked or now >= began + rest_s:
                state.ordered = state.asked
                if order := self._order(row, state, now):
                    return order
                state.settled = state.ordered
            if now >= began + max(wait_s, rest_s):
                return None
            with trio.move_on_after(_LOOK_S):
                await self._changed.park()

    def _order(self, row: Remote, state: State, now: float) -> Record | None:
        is_still = row.is_paused or row.is_trash or self._is_read_only
        if is_still or now < state.held_until:
            return None
        self._look(state, now, self._has_acts(row, state))
        if state.behind_since is not None:
            waited = now - max(self._seen[1], state.behind_since)
            is_old = now - state.behind_since >= AT_LATEST_S
            if state.is_asked or is_old or waited >= IDLE_S:
                return {"do": "publish"}
        if lacking := self.copies.lacking(row.number)[:ORDER_SEGMENTS]:
            return {"do": "send", "segments": [self._described(one, row) for one in lacking]}
        if state.tidied_at == math.inf:  # not at once after a start: there is enough to do
            state.tidied_at = now - MARGINS.every_s + FIRST_TIDY_S
        if row.sequence and now >= state.tidied_at + MARGINS.every_s:
            state.tidied_at = now
            return {"do": "expire", "trash": self._trash_remotes()}
        return None

    def _trash_remotes(self) -> list[str]:
        return [name for name, row in self.registry if row.is_trash]

    def _has_acts(self, row: Remote, state: State) -> bool:
        """Whether there are acts that are not published."""
        store = self._store
        if state.published_acts < 0:
            is_behind = has_acts_behind(store.path, row.published_segment, store.newest_segment)
            state.published_acts = store.acts - is_behind
            return is_behind
        return state.published_acts != store.acts or not row.sequence

    def _look(self, state: State, now: float, is_behind: bool) -> None:
        if self._seen[0] != self._store.acts:
            self._seen = self._store.acts, now
        if not is_behind:
            state.behind_since = None
        elif state.behind_since is None:
            state.behind_since = now

    def _described(self, segment: int, row: Remote) -> Record:
        """A segment, and where it can be had: here, or from these remotes."""
        elsewhere = [
            {"remote": name, "name": copy.name, "size": copy.size, "digest": copy.digest.hex()}
            for name, other in self.registry
            if other.number != row.number
            and (copy := self.copies.get(segment, other.number)) is not None
        ]
        return {
            "segment": segment,
            "size": self._store.segments.get(segment, 0),
            "is_here": segment in self._store.segments,
            "elsewhere": elsewhere,
        }

    # -- cuts

    async def cut(self, row: Remote) -> Record:
        """End the log's newest segment, durably, and say what a checkpoint of all up to there
        needs: the numbers with which its tables begin. Raises DiskFull, StoreError."""
        state, store = self.state(row), self._store
        self._write_out()
        store.seal()
        last = store.sealed_segment
        self._cuts += 1
        cut = Cut(
            self._cuts, (last, store.segments.get(last, 0)), store.acts, self.copies.needed(),
            store.clock.time_ns(),
        )  # fmt: skip
        counters = msgspec.msgpack.encode(store.counters)
        await self.sync()
        state.cut = cut
        tables = sorted({one // layout.TABLE_SEGMENTS for one in cut.needed})
        return {
            "cut": cut.number,
            "end": cut.end,
            "time_ns": cut.time_ns,
            "counters": counters.hex(),
            "tables": [one * layout.TABLE_SEGMENTS for one in tables],
        }

    def table(self, row: Remote, cut_number: int, first: int) -> Record:
        """Of the segments from `first` on that a cut needs, a table's worth: those that are in the
        remote, and those that lack. Raises WrongState where there is a later cut."""
        cut = self._cut(row, cut_number)
        wanted = [one for one in cut.needed if first <= one < first + layout.TABLE_SEGMENTS]
        copies = [(one, self.copies.get(one, row.number)) for one in wanted]
        return {
            "segments": [(n, copy.size, copy.digest.hex()) for n, copy in copies if copy],
            "lacking": [self._described(n, row) for n, copy in copies if not copy],
        }

    def _cut(self, row: Remote, number: int) -> Cut:
        cut = self.state(row).cut
        if cut is None or cut.number != number:
            raise WrongState("there is a later cut for this remote")
        return cut

    # -- what came of it

    def stored(self, name: str, row: Remote, copies: list[tuple[int, Copy]]) -> None:
        """Segments are in the remote. Raises DiskFull, StoreError."""
        self.copies.put(row.number, copies)
        self._goes_on(name, self.state(row))

    def published(self, name: str, row: Remote, sequence: int, cut_number: int) -> None:
        """The checkpoint of a cut is in the remote. Raises DiskFull, StoreError, WrongState."""
        cut, state = self._cut(row, cut_number), self.state(row)
        self.registry.change(
            name, sequence=sequence, published_segment=cut.end[0], published_ns=cut.time_ns
        )
        state.published_acts, state.cut = cut.acts, None
        self._goes_on(name, state)
        state.settled = state.ordered
        state.behind_since = None if cut.acts == self._store.acts else trio.current_time()
        self._events.publish(
            Kind.PUBLISHED, remote=name, sequence=sequence, segment=cut.end[0]
        )  # fmt: skip
        if len(self.copies.held(row.number)) > len(cut.needed):
            for _ in self.copies.forget_dead():
                pass

    def recovered(self, name: str, row: Remote, sequence: int, segment: int, time_ns: int) -> None:
        """A checkpoint that an agent had put before it died is there. Raises as `published`."""
        self.registry.change(
            name, sequence=sequence, published_segment=segment, published_ns=time_ns
        )
        self.state(row).published_acts = -1

    def report(
        self,
        name: str,
        row: Remote,
        doing: str,
        error: Record | None,
        sent: tuple[int, int, int],
    ) -> None:
        """What the agent does, "" when an order is done; `error`: why something did not happen,
        None where all goes well up to now; `sent`: bytes, objects, retries since the last report.
        """
        state = self.state(row)
        state.doing = doing
        state.sent_bytes += sent[0]
        state.sent_objects += sent[1]
        state.retries += sent[2]
        state.rate.add(sent[0], trio.current_time())
        if error is not None and (
            state.error is None or state.error["message"] != error["message"]
        ):
            log.warning("sync waits", remote=name, error=error["message"])
            self._events.publish(Kind.SYNC_ERROR, remote=name, error=error["message"])
            state.error_ns = self._store.clock.time_ns()
        if error is not None:
            # Who asked while it was tried, after having mended something, wants another try, now.
            state.failures += state.asked == state.ordered
            state.settled = state.ordered  # for the others the next try is in its own time
            state.error = error
        elif not doing:
            self._goes_on(name, state)

    def _goes_on(self, name: str, state: State) -> None:
        """Something went right; that it is tried again is not enough."""
        if state.error is not None:
            log.info("sync goes on", remote=name)
            self._events.publish(Kind.SYNC_GOES_ON, remote=name)
        state.error = None

    # -- for users

    def ask(self, names: Collection[str]) -> None:
        """Have everything go to these remotes now. Raises NoSuchRemote, WrongState."""
        rows = [(name, self.registry.get(name)) for name in names]
        for name, row in rows:
            if row.is_paused:
                raise WrongState(f"the remote {name} is paused: fusefs sync resume PATH {name}")
            if row.is_trash:
                raise WrongState(f"the remote {name} is a trash remote, which nothing is synced to")
        for _, row in rows:
            self.state(row).asked += 1
        self.changed()

    def adopted(self, name: str, row: Remote) -> None:
        """The remote is this store's now, behind what another has published."""
        state = self.state(row)
        state.published_acts, state.error, state.cut = -1, None, None
        state.asked += 1
        self.changed()
        log.warning("a remote of another writer is taken over", remote=name, after=row.sequence)

    async def drain(self, tell: Callable[[int], None]) -> None:
        """Have everything go to the remotes now, and return when it is there, or was tried and
        failed. `tell` hears how many bytes lack."""
        goal = self._store.acts
        waiting = {
            name: self.state(row).failures for name, row in self.registry.synced()
            if not row.is_paused
        }  # fmt: skip
        self.ask(waiting)
        while True:
            late = []
            for name, failures in waiting.items():
                row = self.registry.find(name)
                if row is not None and not self._has_come(row, goal):
                    if self.state(row).failures > failures:
                        log.warning("a remote fails, and is not waited for", remote=name)
                    else:
                        late.append(row)
            if not late:
                return
            tell(sum(self.record("", row)["behind_bytes"] for row in late))
            with trio.move_on_after(_LOOK_S):
                await self._changed.park()

    def _has_come(self, row: Remote, goal: int) -> bool:
        """Whether all acts up to `goal` are published."""
        return not self._has_acts(row, self.state(row)) or (
            row.sequence > 0 and self.state(row).published_acts >= goal
        )

    def hold(self, row: Remote, seconds: float) -> None:
        """Send nothing for so long, because a user tidies up there; 0: go on.

        Raises WrongState while a cut is being published.
        """
        state = self.state(row)
        if seconds and state.doing:
            raise WrongState("the remote is being sent to: pause it first, or try again")
        state.held_until = trio.current_time() + seconds
        self.changed()

    def record(self, name: str, row: Remote) -> Record:
        """Where a remote stands."""
        state = self.state(row)
        lacking = [] if row.is_trash else self.copies.lacking(row.number)
        sizes = self._store.segments
        now = trio.current_time() if _is_in_loop() else 0.0
        has_acts = not row.is_trash and self._has_acts(row, state)
        is_behind = bool(lacking) or has_acts
        newest = self._store.newest_segment
        is_open = has_acts and newest > self._store.sealed_segment
        unsealed = sizes.get(newest, 0) if is_open else 0
        age_s = max(0.0, (self._store.clock.time_ns() - row.published_ns) / 1e9)
        return {
            "name": name,
            "url": row.url,
            "secrets": row.secrets,
            "cost": row.cost,
            "limit": row.limit,
            "is_encrypted": row.is_encrypted,
            "is_trash": row.is_trash,
            "is_paused": row.is_paused,
            "is_in_step": not is_behind,
            "behind_segments": len(lacking),
            "behind_bytes": sum(sizes.get(one, 0) for one in lacking) + unsealed,
            "behind_s": round(age_s, 1) if is_behind and row.sequence else None,
            "sequence": row.sequence,
            "published_segment": row.published_segment,
            "published": utc(row.published_ns) if row.sequence else None,
            "segments": len(self.copies.held(row.number)),
            "doing": state.doing,
            "error": state.error and state.error["message"],
            "error_class": state.error and state.error["class"],
            "error_since": utc(state.error_ns) if state.error else None,
            "sent_bytes": state.sent_bytes,
            "sent_objects": state.sent_objects,
            "retries": state.retries,
            "failures": state.failures,
            "acts": self._store.acts,
            "published_acts": state.published_acts,
            "bytes_per_s": round(state.rate.at(now)),
        }

    def records(self) -> list[Record]:
        return [self.record(name, row) for name, row in self.registry]


def _is_in_loop() -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True
