"""Between the roles of transfers and the agent: what is asked for becomes an order to be fetched.

Orders live here as long as somebody waits for them. The agent has an order while it says so; what
it does not name any more, as after its death, is given out again. An order whose asker went away
is withdrawn, and remembered until the agent says that it has ended.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Protocol
from uuid import uuid4

import msgspec
import trio

from fusefs import errors
from fusefs.daemon.verbs import Verb
from fusefs.errors import FusefsError, TransferFailed, UnknownEndpoint
from fusefs.model import keys
from fusefs.model import remote as remotes
from fusefs.model.transfer import Endpoint, Kind, Move
from fusefs.store.store import Store
from fusefs.transfers.api import Found, Moved, OnProgress, Payload, Surveyed
from fusefs.transfers.orders import (
    CleanOrder,
    Failure,
    Group,
    ManifestOrder,
    MoveOrder,
    Order,
    Orders,
    Place,
    Progress,
    SurveyOrder,
)
from fusefs.transfers.records import shown

Record = dict[str, Any]

_WAIT_MAX_S = 30.0


class OrdersArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`running`: orders that the agent has, but for `ending`, which it knows to be withdrawn.
    `wait_s`: how long to wait for news."""

    running: list[str]
    ending: list[str] = []
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=_WAIT_MAX_S)] = 0.0


class ProgressArguments(msgspec.Struct, forbid_unknown_fields=True):
    moves: list[Progress]


class FoundArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Files of a survey; `at`: how many came before."""

    id: str
    at: int
    files: list[Found]


class DoneArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`result`: by the kind of order; without one, and without an `error`, it was withdrawn."""

    id: str
    result: dict[str, Any] | None = None
    error: Failure | None = None


class Staging(Protocol):
    """Who knows what of the store is here, and can bring the rest."""

    async def is_staged(self, paths: Sequence[bytes]) -> bool:
        """Whether all of the files at these paths, from the root, can be read without a remote."""

    async def stage(self, paths: Sequence[bytes]) -> None:
        """Return when it can. Raises RemoteUnreachable and the like."""


class _Given:
    """An order and who waits for it."""

    def __init__(self, order: Order, on_progress: OnProgress | None) -> None:
        self.order = order
        self.on_progress = on_progress
        self.is_taken = False
        self.done = trio.Event()
        self.result: Record = {}
        self.files: list[Found] = []
        self.error: FusefsError | None = None


class MoveDesk:
    """What roles ask (`transfers.api.Carrier`), and what the agent asks (`VERBS`).

    `wake`: called when there is something for an agent.
    """

    def __init__(self, store: Store, staging: Staging) -> None:
        self._store = store
        #: Where the agent finds the filesystem; set by the face.
        self.mountpoint: bytes | None = None
        self._staging = staging
        self._given: dict[str, _Given] = {}
        self._withdrawn: dict[str, str] = {}  # order -> transfer
        self._news = trio.lowlevel.ParkingLot()
        self._ends = trio.lowlevel.ParkingLot()
        self.wake: Callable[[], object] = lambda: None

    @property
    def is_wanted(self) -> bool:
        """Whether there is something for an agent."""
        return bool(self._given)

    # -- for the roles

    async def survey(self, moves: Sequence[Move], destination: Endpoint) -> Surveyed:
        groups = tuple(Group(self._place(move.source), move.files) for move in moves)
        order = SurveyOrder(_new(), groups, self._place(destination), most_files=100_000)
        given = await self._have_done(order)
        answer = msgspec.convert({**given.result, "files": []}, type=Surveyed)
        return msgspec.structs.replace(answer, files=tuple(given.files))

    async def is_staged(self, source: Endpoint, paths: Sequence[bytes]) -> bool:
        if source.kind is not Kind.STORE:
            return True
        return await self._staging.is_staged(_inside(source, paths))

    async def stage(self, source: Endpoint, paths: Sequence[bytes]) -> None:
        if source.kind is Kind.STORE:
            await self._staging.stage(_inside(source, paths))

    async def move(self, payload: Payload, on_progress: OnProgress) -> Moved:
        order = MoveOrder(
            _new(), shown(payload.transfer), payload.number, self._place(payload.source),
            self._place(payload.destination), payload.path, payload.size,
        )  # fmt: skip
        given = await self._have_done(order, on_progress)
        return msgspec.convert(given.result, type=Moved)

    async def put_manifest(
        self, transfer: bytes, destination: Endpoint, content: bytes, on_progress: OnProgress
    ) -> str:
        place = self._place(destination)
        order = ManifestOrder(_new(), shown(transfer), place, content.decode())
        return str((await self._have_done(order, on_progress)).result["place"])

    async def clean(self, transfer: bytes, destination: Endpoint) -> None:
        await self._have_done(CleanOrder(_new(), shown(transfer), self._place(destination)))

    async def settled(self, transfer: bytes) -> None:
        while shown(transfer) in self._withdrawn.values():
            await self._ends.park()

    async def all_settled(self) -> None:
        while self._withdrawn:
            await self._ends.park()

    async def _have_done(self, order: Order, on_progress: OnProgress | None = None) -> _Given:
        given = self._given[order.id] = _Given(order, on_progress)
        self._news.unpark_all()
        self.wake()
        try:
            await given.done.wait()
        finally:
            del self._given[order.id]
            if given.is_taken and not given.done.is_set():
                self._withdrawn[order.id] = getattr(order, "transfer", "")
                self._news.unpark_all()
        if given.error is not None:
            raise given.error
        return given

    def _place(self, endpoint: Endpoint) -> Place:
        """Where the agent goes for an endpoint. Raises UnknownEndpoint."""
        match endpoint.kind:
            case Kind.STORE:
                if self.mountpoint is None:
                    raise UnknownEndpoint("the store is not mounted: mount it first")
                return Place(directory=self.mountpoint, path=endpoint.path)
            case Kind.DIRECTORY:
                return Place(directory=endpoint.path)
            case Kind.URL:
                return Place(url=endpoint.name, secrets=endpoint.secrets, path=endpoint.path)
            case Kind.REMOTE:
                row = self._store.get(keys.remote(endpoint.name))
                if row is None:
                    raise UnknownEndpoint(f"the store has no remote {endpoint.name}")
                remote = remotes.unpack_remote(row)
                return Place(
                    url=remote.url, secrets=remote.secrets, limit=remote.limit,
                    path=endpoint.path, is_encrypted=remote.is_encrypted,
                )  # fmt: skip

    # -- for the agent

    async def orders(self, arguments: OrdersArguments, _uid: int) -> Record:
        """What is to be done, as soon as there is something."""
        running = set(arguments.running)
        for id in self._withdrawn.keys() - running - set(arguments.ending):
            self._forget(id)
        news = self._news_for(running)
        with trio.move_on_after(arguments.wait_s):
            while not (news.orders or news.withdrawn):
                await self._news.park()
                news = self._news_for(running)
        return dict(msgspec.to_builtins(news, builtin_types=(bytes,)))

    def _news_for(self, running: set[str]) -> Orders:
        new = [one for id, one in self._given.items() if id not in running]
        for one in new:
            one.is_taken = True
            if one.on_progress:
                one.on_progress(0, 0)  # from now on it should move
        return Orders(tuple(one.order for one in new), tuple(running - self._given.keys()))

    async def progress(self, arguments: ProgressArguments, _uid: int) -> None:
        """How far moves are."""
        for one in arguments.moves:
            given = self._given.get(one.id)
            if given is not None and given.on_progress:
                given.on_progress(one.good, one.sent)

    async def found(self, arguments: FoundArguments, _uid: int) -> None:
        """Files of a survey."""
        if given := self._given.get(arguments.id):
            given.files[arguments.at :] = arguments.files

    async def done(self, arguments: DoneArguments, _uid: int) -> None:
        """What came of an order."""
        self._forget(arguments.id)
        given = self._given.get(arguments.id)
        if given is None:
            return
        if arguments.error is not None:
            told = arguments.error
            given.error = errors.named(told.kind, told.message, TransferFailed)
        elif arguments.result is not None:
            given.result = arguments.result
        else:
            return
        given.done.set()

    def _forget(self, id: str) -> None:
        if self._withdrawn.pop(id, None) is not None:
            self._ends.unpark_all()

    VERBS: ClassVar[Mapping[str, Verb]] = {
        "move_orders": Verb(OrdersArguments, orders),
        "move_progress": Verb(ProgressArguments, progress),
        "move_found": Verb(FoundArguments, found),
        "move_done": Verb(DoneArguments, done),
    }


def _new() -> str:
    return uuid4().hex


def _inside(source: Endpoint, paths: Sequence[bytes]) -> list[bytes]:
    """From the root of the filesystem."""
    return [os.path.join(source.path, path) for path in paths]
