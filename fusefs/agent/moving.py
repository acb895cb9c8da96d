"""What transfers need of the world outside: asked for by the daemon, done in threads, reported.

The daemon says what is to be done as long as it is not reported, so an order may come twice, from
two daemons even: each is done so that this costs little. One that was withdrawn ends at its next
sign of life, and is reported as well, so that the daemon knows that nothing goes on.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from typing import Any, Protocol

import msgspec
import structlog
import trio

from fusefs.agent.carrying import Carrying
from fusefs.agent.link import Link
from fusefs.agent.places import Places
from fusefs.agent.surveying import survey
from fusefs.errors import ContentDiffers, FusefsError, RemoteError
from fusefs.remotes import file_places
from fusefs.remotes.files import Files, read_fully
from fusefs.remotes.throttle import Limits
from fusefs.remotes.throttled_files import ThrottledFiles
from fusefs.transfers import manifest
from fusefs.transfers.api import Moved
from fusefs.transfers.orders import (
    CleanOrder,
    ManifestOrder,
    MoveOrder,
    Order,
    Orders,
    Place,
    SurveyOrder,
)

#: How long the daemon may keep a question for orders.
POLL_S = 20.0
#: Between two reports of progress.
REPORT_EVERY_S = 0.1
#: Between two signs of life of a request in which nothing is seen to move.
SIGN_EVERY_S = 0.3
#: Between two questions that failed.
REST_S = 0.5
#: Calls that may block at one time.
MAX_THREADS = 64
#: Files of a survey in one request.
FILES_AT_ONCE = 1000
#: Of a manifest, at a time.
_PIECE = 256 << 10
#: Transfers that were cleaned up, as long as a move of one may hang.
_CLEANED_MOST = 1000

log = structlog.get_logger(__name__)


async def run(link: Link, places: Places) -> None:
    """Work for the daemon that `link` leads to, until cancelled."""
    await Moving(link, places.limits).run()


class Asks(Protocol):
    """Who can ask the daemon."""

    async def ask(self, verb: str, *, wait_s: float = 0.0, **arguments: Any) -> Any: ...


class Withdrawn(Exception):
    """Nobody wants it any more."""


class _Work:
    """One order under way."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.is_withdrawn = False
        self.good = self.sent = 0
        self.quiet_s = 0.0
        self.moved_at = self.told_at = time.monotonic()
        self.is_news = True

    def tick(self, good: int, sent: int) -> None:
        """Raises Withdrawn. Called in a thread."""
        self.good, self.sent = good, sent
        self.moved_at = time.monotonic()
        self.is_news = True
        if self.is_withdrawn:
            raise Withdrawn

    def expect(self, quiet_s: float) -> None:
        """From now on all may be well though nothing is seen to move for so long."""
        self.quiet_s = quiet_s
        self.wait()

    def told(self) -> dict[str, Any]:
        """How far it is, for the daemon."""
        self.is_news, self.told_at = False, time.monotonic()
        return {"id": self.order.id, "good": self.good, "sent": self.sent}

    @property
    def is_to_be_told(self) -> bool:
        """Whether it moved, or it is time for a sign of life."""
        now = time.monotonic()
        is_alive = now - self.moved_at < self.quiet_s
        return self.is_news or (is_alive and now - self.told_at >= SIGN_EVERY_S)

    def wait(self) -> None:
        """It lives, though nothing moves: it is not its turn. Raises Withdrawn."""
        self.tick(self.good, self.sent)


class Moving:
    """Does orders of the daemon that `link` leads to. What moves is within `limits`, but for
    manifests, which are small."""

    def __init__(
        self,
        link: Asks,
        limits: Limits,
        connect: Callable[[Place], Files] = file_places.connect,
    ) -> None:
        self._link = link
        self._limits = limits
        self._connect = connect
        self._works: dict[str, _Work] = {}
        self._places: dict[Place, Files] = {}
        self._cleaned: dict[str, None] = {}
        self._threads = trio.CapacityLimiter(MAX_THREADS)

    async def run(self) -> None:
        """Until cancelled; what is under way is left then as it is."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report)
            while True:
                try:
                    await self._poll(nursery)
                except FusefsError as error:
                    log.debug("the daemon cannot be asked for moves", error=str(error))
                    await trio.sleep(REST_S)

    async def _poll(self, nursery: trio.Nursery) -> None:
        answer = await self._link.ask(
            "move_orders", wait_s=POLL_S,
            running=[id for id, work in self._works.items() if not work.is_withdrawn],
            ending=[id for id, work in self._works.items() if work.is_withdrawn],
        )  # fmt: skip
        orders = msgspec.convert(answer, type=Orders)
        for id in orders.withdrawn:
            if work := self._works.get(id):
                work.is_withdrawn = True
        for order in orders.orders:
            if order.id not in self._works:
                work = self._works[order.id] = _Work(order)
                nursery.start_soon(self._do, work)

    async def _report(self) -> None:
        while True:
            await trio.sleep(REPORT_EVERY_S)
            news = [work.told() for work in self._works.values() if work.is_to_be_told]
            if news:
                with suppress(FusefsError):
                    await self._link.ask("move_progress", moves=news)

    async def _do(self, work: _Work) -> None:
        """One order, until the daemon knows what came of it. A task boundary."""
        report: dict[str, Any] = {"id": work.order.id}
        try:
            result = await trio.to_thread.run_sync(
                self._perform, work, limiter=self._threads, abandon_on_cancel=True
            )
            await self._send_found(work.order.id, result)
            report["result"] = result
        except Withdrawn:
            await self._clean_again(work.order)
        except FusefsError as error:
            report["error"] = {"kind": type(error).__name__, "message": str(error)}
            if isinstance(error, RemoteError):
                self._forget_places(work.order)
            with suppress(FusefsError):  # what was sent in vain counts
                await self._link.ask("move_progress", moves=[work.told()])
        except Exception as error:
            log.exception("an order failed", order=work.order.id)
            report["error"] = {
                "kind": "TransferFailed",
                "message": f"{type(error).__name__}: {error} (see the agent's log)",
            }
        while True:
            try:
                await self._link.ask("move_done", **report)
                break
            except FusefsError as error:
                log.debug("an end is not reported yet", error=str(error))
            await trio.sleep(REST_S)
        del self._works[work.order.id]

    async def _clean_again(self, order: Order) -> None:
        """Remove what a move has left that hung while its transfer was cleaned up."""
        if isinstance(order, MoveOrder) and order.transfer in self._cleaned:
            with suppress(FusefsError):
                await trio.to_thread.run_sync(
                    self._clean, order.destination, order.transfer, limiter=self._threads
                )

    async def _send_found(self, id: str, result: dict[str, Any]) -> None:
        """The files of a survey, by and by: a request has a limit."""
        files = result.pop("files", [])
        for at in range(0, len(files), FILES_AT_ONCE):
            await self._link.ask("move_found", id=id, at=at, files=files[at : at + FILES_AT_ONCE])

    def _perform(self, work: _Work) -> dict[str, Any]:
        """What `move_done` is told; in a thread."""
        match work.order:
            case SurveyOrder() as order:
                groups = [(self._at(one.source), one.files) for one in order.groups]
                surveyed = survey(groups, self._at(order.destination), order.most_files)
                return dict(msgspec.to_builtins(surveyed, builtin_types=(bytes,)))
            case MoveOrder() as order:
                moved = self._move(work, order)
                return dict(msgspec.to_builtins(moved, builtin_types=(bytes,)))
            case ManifestOrder() as order:
                return {"place": self._put_manifest(work, order)}
            case CleanOrder() as order:
                self._cleaned[order.transfer] = None
                if len(self._cleaned) > _CLEANED_MOST:
                    del self._cleaned[next(iter(self._cleaned))]
                self._clean(order.destination, order.transfer)
                return {}

    def _clean(self, destination: Place, transfer: str) -> None:
        target, folder = self._at(destination), transfer.encode()
        target.remove_folder(folder + b"/" + manifest.PARTIAL)
        target.remove(folder + b"/" + manifest.NAME)

    def _move(self, work: _Work, order: MoveOrder) -> Moved:
        source = self._limited(order.source, work)
        target = self._limited(order.destination, work)
        folder = order.transfer.encode()
        work.expect(max(one.capabilities.quiet.seconds(order.size) for one in (source, target)))
        return Carrying(source, target, order.path, folder, order.number).run(work.tick)

    def _put_manifest(self, work: _Work, order: ManifestOrder) -> str:
        target, folder = self._at(order.destination), order.transfer.encode()
        content = order.content.encode()
        temporary = folder + b"/" + manifest.PARTIAL + b"/manifest"
        final = folder + b"/" + manifest.NAME
        work.expect(target.capabilities.quiet.seconds(len(content)))
        pieces = [content[at : at + _PIECE] for at in range(0, len(content), _PIECE)]
        target.write_whole(temporary, _noticed(pieces, work))
        with closing(target.reader(temporary)) as reader:
            for number, piece in enumerate(_noticed([*pieces, b""], work)):
                if read_fully(reader, number * _PIECE, _PIECE) != piece:
                    raise ContentDiffers(
                        f"{target.place}: the manifest did not arrive as it was sent"
                    )
        target.rename(temporary, final)
        target.remove_folder(folder + b"/" + manifest.PARTIAL)
        return _below(target.place, os.fsdecode(final))

    def _at(self, place: Place) -> Files:
        """Connected once, for all threads; raises what connecting raises."""
        found = self._places.get(place)
        if found is None:
            found = self._places.setdefault(place, self._connect(place))
        return found

    def _limited(self, place: Place, work: _Work) -> Files:
        """A place for one order, within its bandwidth."""
        files = self._at(place)
        if not place.limit:
            return files
        return ThrottledFiles(files, *self._limits.buckets(place.url, place.limit), work.wait)

    def _forget_places(self, order: Order) -> None:
        """Connect anew the next time: what there is may be the cause of the failure."""
        places = [order.destination]
        if isinstance(order, MoveOrder):
            places.append(order.source)
        for place in places:
            self._places.pop(place, None)


def _below(place: str, path: str) -> str:
    """Where `path` lies in a place: what a URL says behind its question mark stays behind it."""
    if "://" not in place:
        return f"{place.rstrip('/')}/{path}"
    url, mark, options = place.partition("?")
    return f"{url.rstrip('/')}/{path}{mark}{options}"


def _noticed(pieces: Iterable[bytes], work: _Work) -> Iterator[bytes]:
    """Each piece that is taken is a sign of life."""
    for piece in pieces:
        work.wait()
        yield piece
