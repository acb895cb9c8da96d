"""All transfers of a store: what can be asked of them, and the roles that do them.

::

    create --> recorder --> dispatcher --> stager --> mover --> manifestor --> journal
                  ^______________|____________|_________|___________|
                       each change of status is recorded, then handed on
"""

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import structlog
import trio
from msgspec.structs import replace

from fusefs.base.clock import Clock
from fusefs.base.events import Events, Kind
from fusefs.config.transfers import TransferOptions
from fusefs.errors import (
    AlreadyRunning,
    BadTransfer,
    FusefsError,
    NotPermitted,
    NotRunning,
    RemoteUnreachable,
    StoreError,
    TooManyTransfers,
    WrongState,
)
from fusefs.model.transfer import (
    Ended,
    Endpoint,
    Move,
    Policy,
    Specification,
    Stamp,
    Status,
    Transfer,
)
from fusefs.store.store import Store
from fusefs.transfers import request
from fusefs.transfers.api import Carrier, Surveyed
from fusefs.transfers.dispatcher import Dispatcher
from fusefs.transfers.manifestor import Manifestor
from fusefs.transfers.mover import Mover
from fusefs.transfers.queue import Queue
from fusefs.transfers.recorder import LAST_WORD_S, Recorder
from fusefs.transfers.records import Records, shown
from fusefs.transfers.role import Office, Role
from fusefs.transfers.stager import Stager

#: Between two comparisons of rows and roles.
TEND_EVERY_S = 2.0
#: Between two looks for old records, at most.
PRUNE_EVERY_S = 60.0
#: For both ends to be looked at before a transfer is recorded.
SURVEY_BOUND_S = 60.0
#: For the roles to stop.
STOP_BOUND_S = 10.0
#: For temporaries to be removed when a transfer has failed; and before each try of that, as the
#: destination may be out of reach, which may be why it failed.
CLEAN_BOUND_S = 60.0
CLEAN_RESTS_S = (0.0, 15.0, 60.0, 300.0, 1500.0)
_PRUNED_AT_ONCE = 50
_AFTER_FAILURE_S = 5.0

log = structlog.get_logger(__name__)


class Transfers:
    """Made with an open store; does nothing until `serve`. `new_id` makes UUIDs of 16 bytes."""

    def __init__(
        self,
        store: Store,
        carrier: Carrier,
        options: TransferOptions,
        events: Events,
        new_id: Callable[[], bytes],
    ) -> None:
        self._store = store
        self._clock: Clock = store.clock
        self._carrier = carrier
        self._options = options
        self._events = events
        self._new_id = new_id
        self.records = Records(store)
        #: Those that have not ended, and what they have still to bring to which room.
        self.open: dict[bytes, Transfer] = {}
        self._scope: trio.CancelScope | None = None
        self._begun, self._ended, self._wanted = trio.Event(), trio.Event(), trio.Event()
        self._wanted.set()

    # -- running

    @property
    def is_running(self) -> bool:
        return self._begun.is_set()

    async def serve(self) -> None:
        """Do what is recorded, and what comes, but for when it is stopped; until cancelled."""
        while True:
            await self._wanted.wait()
            try:
                with trio.CancelScope() as self._scope:
                    await self._run_roles()
            except Exception:
                log.exception("transfers failed, and are begun again")
                await trio.sleep(_AFTER_FAILURE_S)
            finally:
                self._scope = None
                self._begun = trio.Event()
                self._ended.set()

    async def start(self) -> None:
        """Have `serve` go on after a stop. Raises AlreadyRunning."""
        if self._wanted.is_set():
            raise AlreadyRunning("transfers are running already")
        self._wanted.set()
        with trio.move_on_after(STOP_BOUND_S):
            await self._begun.wait()

    async def stop(self) -> None:
        """End what is under way, which the next start goes on with; no file of a mount is open for
        it any more, unless somebody hangs. Raises NotRunning."""
        scope = self._running()
        self._wanted = trio.Event()
        scope.cancel()
        with trio.move_on_after(STOP_BOUND_S):
            await self._ended.wait()
            await self._carrier.all_settled()

    def _running(self) -> trio.CancelScope:
        if self._scope is None or not self.is_running:
            raise NotRunning("transfers are stopped: mount the store, or start them")
        return self._scope

    async def _run_roles(self) -> None:
        recorder = Recorder(self._store, self.records)
        office = Office(self.records, recorder, self._carrier, self._options, self._clock)
        self._recorder = recorder
        self._queue = Queue(self._options.at_once)
        self._mover = Mover(office)
        roles: list[Role] = [
            Dispatcher(office, self._queue), Stager(office), self._mover, Manifestor(office),
        ]  # fmt: skip
        self._roles = {role.name: role for role in roles}
        recorder.tell = self._tell
        recorder.hand_on = self._hand_on
        self.open = {id: one for id, one in self.records.all() if not one.is_terminal}
        async with trio.open_nursery() as outer:
            self._nursery = outer
            outer.start_soon(recorder.run)
            try:
                async with trio.open_nursery() as nursery:
                    for role in roles:
                        nursery.start_soon(role.run)
                    nursery.start_soon(self._tend)
                    nursery.start_soon(self._prune)
                    self._ended = trio.Event()
                    self._begun.set()
            finally:
                recorder.end()

    async def _tend(self) -> None:
        """Give every open transfer to the role that its row names; at first that is all of them."""
        for id, transfer in self.open.items():
            if transfer.status is not Status.UNKNOWN:
                self._queue.keep(id)
        while True:
            by_time = sorted(self.open.items(), key=lambda item: item[1].history[0].time_ns)
            for id, transfer in by_time:
                self._hand_on(id, transfer)
            await trio.sleep(TEND_EVERY_S)

    def _tell(self, id: bytes, transfer: Transfer) -> None:
        if transfer.is_terminal:
            self.open.pop(id, None)
            self._queue.give_back(id)
            self._mover.forget(id)
            if transfer.status is not Status.SUCCEEDED:
                self._nursery.start_soon(self._clean, id)
        else:
            self.open[id] = transfer
        asked = self.records.specification(id)
        self._events.publish(
            Kind.TRANSFER, id=shown(id), status=transfer.status.value, description=asked.description
        )

    def _hand_on(self, id: bytes, transfer: Transfer) -> None:
        if (holder := transfer.holder) is not None:
            self._roles[holder].give(id)

    async def _clean(self, id: bytes) -> None:
        destination = self.records.specification(id).destination
        said = f"{destination.shown} does not answer"
        for rest_s in CLEAN_RESTS_S:
            await trio.sleep(rest_s)
            with trio.move_on_after(CLEAN_BOUND_S):
                try:
                    await self._carrier.clean(id, destination)
                    return
                except RemoteUnreachable as error:
                    said = str(error)
                except FusefsError as error:
                    said = str(error)
                    break
        log.info("temporaries stay", transfer=shown(id), error=said)

    async def _prune(self) -> None:
        """Delete the records of what ended long ago; the journal stays."""
        every_s = min(PRUNE_EVERY_S, self._options.delete_after_s / 2)
        while True:
            before = self._clock.time_ns() - int(self._options.delete_after_s * 1e9)
            old = [
                id
                for id, one in self.records.all()
                if one.is_terminal and one.history[-1].time_ns < before
            ]
            try:
                for at in range(0, len(old), _PRUNED_AT_ONCE):
                    self._store.commit(self.records.forgotten(old[at : at + _PRUNED_AT_ONCE]))
                    await trio.lowlevel.checkpoint()
            except StoreError as error:
                log.warning("old records of transfers stay", error=str(error))
            await trio.sleep(every_s)

    # -- asking

    async def create(
        self,
        *,
        moves: Sequence[Move],
        destination: Endpoint,
        uid: int,
        user: str = "",
        description: str = "",
        instructions: str = "",
        policy: Policy = Policy.STOP,
    ) -> bytes:
        """Record a transfer, durably, and have it done; returns its UUID.

        Raises NotRunning, TooManyTransfers, BadTransfer, UnknownEndpoint, PayloadTooLarge,
        NotPermitted, RemoteFull and other errors of the ends; nothing is recorded then.
        """
        self._running()
        self._check_waiting()
        request.check_texts(description, instructions)
        name = request.user_name(user, uid)
        request.check_ends(moves, destination, self._options)
        surveyed = await self._survey(moves, destination)
        files = request.files_of(surveyed, moves, self._options, policy)
        size = sum(file.size for file in files)
        self._check_waiting()
        request.check_room(surveyed, size, self._reserved(surveyed.room), destination)
        now = self._clock.time_ns()
        asked = Specification(
            self._new_id(), description, instructions, destination, tuple(moves), name, uid, now,
            policy,
        )  # fmt: skip
        transfer = Transfer(
            Status.UNKNOWN,
            (Stamp(Status.UNKNOWN, now, ""),),
            files_total=len(files),
            bytes_total=size,
            room=surveyed.room,
        )
        self.open[asked.id] = transfer
        try:
            with trio.move_on_after(LAST_WORD_S, shield=True):
                await self._recorder.create(asked, transfer, files)
        except BaseException:
            if self.records.find(asked.id) is None:
                del self.open[asked.id]
            raise
        return asked.id

    def _check_waiting(self) -> None:
        if len(self.open) >= self._options.at_once + self._options.waiting:
            raise TooManyTransfers(
                f"{len(self.open)} transfers are under way or wait (transfer_waiting): try again"
                " when some have ended"
            )

    async def _survey(self, moves: Sequence[Move], destination: Endpoint) -> Surveyed:
        with trio.move_on_after(SURVEY_BOUND_S):
            return await self._carrier.survey(moves, destination)
        raise RemoteUnreachable(
            f"the source or {destination.shown} did not answer within {SURVEY_BOUND_S:g} s:"
            " see the agent's log in the store"
        )

    def _reserved(self, room: str) -> int:
        """Bytes that open transfers have still to bring into a room."""
        same = [id for id, one in self.open.items() if room and one.room == room]
        found = ((id, self.records.find(id)) for id in same)
        return sum(
            max(one.bytes_total - one.bytes_moved - self.progress(id)[0], 0)
            for id, one in found
            if one is not None and not one.is_terminal
        )

    async def cancel(self, id: bytes, uid: int) -> Transfer:
        """Ask for the end of a transfer; returns at once. One that has ended stays as it is.

        Raises NotRunning, NoSuchTransfer, NotPermitted.
        """
        self._running()
        self._check_owner(id, uid)

        def mark(one: Transfer) -> Transfer:
            if one.is_terminal or one.cancel_ns:
                return one
            return replace(one, cancel_uid=uid, cancel_ns=self._clock.time_ns())

        return await self._mark(id, mark)

    async def pause(self, id: bytes, uid: int, *, is_paused: bool) -> Transfer:
        """Let a transfer that moves rest, or go on. Raises WrongState where it does not move."""
        self._running()
        self._check_owner(id, uid)

        def mark(one: Transfer) -> Transfer:
            if one.status not in (Status.ACTIVE, Status.INACTIVE) or one.is_canceling:
                raise WrongState(f"the transfer is {one.status}: only one that moves can be paused")
            return replace(one, is_paused=is_paused)

        return await self._mark(id, mark)

    async def _mark(self, id: bytes, mark: Callable[[Transfer], Transfer]) -> Transfer:
        before = self.records.get(id)
        after = await self._recorder.change(id, mark)
        if after != before and (holder := after.holder) is not None:
            self.open[id] = after
            self._roles[holder].interrupt(id)
        return after

    def _check_owner(self, id: bytes, uid: int) -> None:
        self.records.get(id)
        if uid not in (0, self.records.specification(id).uid):
            raise NotPermitted(f"transfer {shown(id)} is another user's")

    async def settled(self) -> None:
        """Returns when what the records say is durable."""
        if self.is_running:
            await self._recorder.settled()

    def progress(self, id: bytes) -> tuple[int, int]:
        """Bytes that files under way have brought, good and sent, beside those of the record."""
        return self._mover.progress(id) if self.is_running else (0, 0)

    def journal(self, since_ns: int = 0, until_ns: int = (1 << 63) - 1) -> Iterator[Ended]:
        """What has ended, the earliest first; both times are inclusive."""
        return self.records.journal(since_ns, until_ns)


def parse_id(text: str) -> bytes:
    """A UUID as people write it. Raises BadTransfer."""
    try:
        return UUID(text).bytes
    except ValueError:
        raise BadTransfer(
            f"{text!r} is no id of a transfer: copy one from fusefs transfer list"
        ) from None
