"""The sync: for each remote a task, which asks for orders and has `sync.publish` carry them out.

A remote that does not answer is asked again later, up to a minute later; meanwhile its task waits
and no other does.
"""

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import structlog
import trio

from fusefs.agent.link import Link
from fusefs.agent.pace import Pace
from fusefs.agent.persist import FIRST_REST_S, LAST_REST_S, persist
from fusefs.agent.places import Place, Places
from fusefs.daemon.wire import describe_error
from fusefs.errors import DaemonFailed, FusefsError, NoSuchRemote
from fusefs.model.remote import Remote as Row
from fusefs.sync import expire
from fusefs.sync.api import Cut, Elsewhere, Table, Wanted
from fusefs.sync.layout import Checkpoint, Segment
from fusefs.sync.publish import Publisher

#: Remotes that are sent to at one time: each takes some threads, and memory for two segments.
REMOTES_AT_ONCE = 8
#: How long the daemon may let us wait for an order, or for news of the remotes.
POLL_S = 30.0

_Result = TypeVar("_Result")

log = structlog.get_logger(__name__)


async def run(link: Link, places: Places) -> None:
    """Serve all remotes, as they come and go."""
    tasks: dict[tuple[str, int], trio.CancelScope] = {}
    known = -1
    slots = trio.CapacityLimiter(REMOTES_AT_ONCE)
    async with trio.open_nursery() as nursery:

        async def look() -> None:
            nonlocal known
            answer = await link.ask("remote_changes", known=known, wait_s=POLL_S)
            known = answer["version"]
            wanted = {(name, number) for name, number in answer["remotes"]}
            for gone in tasks.keys() - wanted:
                tasks.pop(gone).cancel()
            for new in wanted - tasks.keys():
                tasks[new] = trio.CancelScope()
                nursery.start_soon(_serve, _Task(link, places, slots, *new), tasks[new])

        await persist(look, "remotes")


async def _serve(task: "_Task", scope: trio.CancelScope) -> None:
    with scope:
        await persist(task.step, f"sync of {task.name}")


class _Task:
    """The sync of one remote."""

    def __init__(
        self, link: Link, places: Places, slots: trio.CapacityLimiter, name: str, number: int
    ) -> None:
        self._link = link
        self._places = places
        self._slots = slots
        self.name = name
        self._number = number
        self._place: Place | None = None
        self._publisher: Publisher | None = None
        self._rest_s = 0.0
        self._ask = partial(link.ask, name=name, number=number)

    async def step(self) -> None:
        """One order."""
        try:
            order = await self._ask("sync_order", wait_s=POLL_S, rest_s=self._rest_s)
        except NoSuchRemote:
            await trio.sleep(FIRST_REST_S)  # until `run` has heard of it
            return
        if order is None:
            return
        try:
            await self._obey(order)
        except DaemonFailed:
            raise
        except FusefsError as error:
            await self._report_failure(error)
        else:
            self._rest_s = 0.0
            await self._ask("sync_report")

    async def _obey(self, order: dict[str, Any]) -> None:
        place = await self._places.get(self.name)
        if place is not self._place or not self._is_current(place.row):
            source = _Source(self._link, self._places, place, self._number)
            publisher = Publisher(
                place.remote, self._link.store, place.row.number, place.row.writer, source
            )
            await self._call(publisher.begin, place.row.sequence)
            self._place, self._publisher = place, publisher
        assert self._publisher is not None
        if order["do"] == "send":
            await self._call(self._publisher.send, [Wanted.of(one) for one in order["segments"]])
        elif order["do"] == "publish":
            await self._call(self._publisher.publish)
        else:
            await self._expire(place, order["trash"])

    def _is_current(self, row: Row) -> bool:
        """Whether the publisher goes on where the row says; a user may have taken a remote over."""
        known = self._publisher
        return known is not None and (known.writer, known.sequence) == (row.writer, row.sequence)

    async def _expire(self, place: Place, trash: list[str]) -> None:
        """Delete what the remote does not need any more; nobody else sends to it meanwhile."""
        known: set[str] = set()
        after = 0
        while page := await self._link.ask("sync_copies", name=self.name, after=after):
            known.update(name for _, name, _, _ in page)
            after = page[-1][0]
        shelves = [(f"dropped/{self.name}", (await self._places.get(t)).remote) for t in trash]
        plan = await self._call(expire.plan, place.remote, known, time.time_ns())
        gone = await self._call(expire.apply, plan, place.remote, shelves)
        log.info("expired", remote=self.name, objects=gone, size_bytes=plan.size_bytes)

    async def _call(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        return await trio.to_thread.run_sync(
            function, *arguments, abandon_on_cancel=True, limiter=self._slots
        )

    async def _report_failure(self, error: FusefsError) -> None:
        self._publisher = None
        self._places.forget(self.name)
        self._rest_s = min(max(self._rest_s * 2, FIRST_REST_S), LAST_REST_S)
        with contextlib.suppress(NoSuchRemote):
            await self._ask("sync_report", error=describe_error(error))


class _Source:
    """The daemon, to be asked from a thread."""

    def __init__(self, link: Link, places: Places, place: Place, number: int) -> None:
        self._ask = partial(link.ask, name=place.name, number=number)
        self._places = places
        self._place = place
        self._retries = place.retries
        self._pace = Pace()

    def cut(self) -> Cut:
        answer = self._wait("sync_cut")
        return Cut(
            answer["cut"], tuple(answer["end"]), answer["time_ns"],
            bytes.fromhex(answer["counters"]), answer["tables"],
        )  # fmt: skip

    def table(self, cut: Cut, first: int) -> Table:
        answer = self._wait("sync_table", cut=cut.number, first=first)
        segments = [Segment(n, size, bytes.fromhex(x)) for n, size, x in answer["segments"]]
        return Table(segments, [Wanted.of(one) for one in answer["lacking"]])

    def stored(self, segments: list[Segment]) -> None:
        copies = [(one.number, one.name, one.size, one.digest.hex()) for one in segments]
        self._wait("sync_stored", copies=copies)

    def published(self, sequence: int, cut: Cut) -> None:
        self._wait("sync_published", sequence=sequence, cut=cut.number)

    def recovered(self, checkpoint: Checkpoint) -> None:
        self._wait(
            "sync_recovered", sequence=checkpoint.sequence, segment=checkpoint.end[0],
            time_ns=checkpoint.created_ns,
        )  # fmt: skip

    def fetch(self, copy: Elsewhere) -> bytes:
        place = trio.from_thread.run(self._places.get, copy.remote)
        return place.remote.get(copy.name)

    def tell(self, doing: str, sent_bytes: int = 0, sent_objects: int = 0) -> None:
        retries, self._retries = self._place.retries - self._retries, self._place.retries
        answer = self._wait(
            "sync_report", doing=doing, sent_bytes=sent_bytes, sent_objects=sent_objects,
            retries=retries,
        )  # fmt: skip
        time.sleep(self._pace.rest_s(answer["requests"]))

    def _wait(self, verb: str, **arguments: Any) -> Any:
        return trio.from_thread.run(partial(self._ask, verb, **arguments))
