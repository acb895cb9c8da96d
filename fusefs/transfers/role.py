"""What the roles that work on transfers have in common: an inbox, and a road to an end from
wherever one of them is cut off.

A role has a transfer while its row says so. It works on each in a task of its own. What fails for
no reason that is known is tried again, and in the end fails the transfer; what the disk does not
take is tried until it does; an end that was asked for comes within a bound.
"""

from contextlib import suppress
from dataclasses import dataclass

import structlog
import trio
from msgspec.structs import replace

from fusefs.base.clock import Clock
from fusefs.config.transfers import TransferOptions
from fusefs.errors import FusefsError, NoSuchTransfer, StoreError, TransferFailed, WrongState
from fusefs.model import transfer as model
from fusefs.model.transfer import Operation, Transfer
from fusefs.transfers.api import Carrier
from fusefs.transfers.recorder import Recorder
from fusefs.transfers.records import Records, shown
from fusefs.transfers.request import shown_user

#: Between tries of what failed: doubled each time.
FIRST_REST_S, LAST_REST_S = 0.5, 60.0
#: For what is under way elsewhere to stop when a transfer is to end.
CANCEL_BOUND_S = 10.0
#: Tries of work that fails unexpectedly.
_TRIES = 5

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Office:
    """What all roles work with."""

    records: Records
    recorder: Recorder
    carrier: Carrier
    options: TransferOptions
    clock: Clock


def rest_s(tries: int) -> float:
    """How long to wait after so many tries that failed."""
    return float(min(FIRST_REST_S * 2 ** max(tries - 1, 0), LAST_REST_S))


class Role:
    """A task with an inbox. Give it a transfer as often as you like: it has each once."""

    name: model.Role

    def __init__(self, office: Office) -> None:
        self._office = office
        self._records = office.records
        self._recorder = office.recorder
        self._inbox_in, self._inbox = trio.open_memory_channel[bytes](2**31)
        self._held: dict[bytes, trio.CancelScope | None] = {}

    def give(self, id: bytes) -> None:
        """Put a transfer into the inbox, unless it is in hand."""
        if id not in self._held:
            self._held[id] = None
            self._inbox_in.send_nowait(id)

    def interrupt(self, id: bytes) -> None:
        """Have the row of a transfer looked at again: its end was asked for, or a pause."""
        if scope := self._held.get(id):
            scope.cancel()

    async def run(self) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            async for id in self._inbox:
                nursery.start_soon(self._have, id)

    async def work(self, id: bytes, transfer: Transfer) -> None:
        """Bring a transfer to where another role has it, or to its end.

        May be cancelled anywhere, and is begun again then. What it raises fails the transfer.
        """
        raise NotImplementedError

    async def _have(self, id: bytes) -> None:
        """From the inbox to the next role. A task boundary: nothing is lost here."""
        tries, failure = 0, None
        try:
            while (transfer := self._records.find(id)) and transfer.holder is self.name:
                tries += 1
                with trio.CancelScope() as scope:
                    self._held[id] = scope
                    try:
                        if failure is not None:
                            await self._fail(id, failure)
                        else:
                            await self._go_on(id, transfer)
                        tries, failure = 0, None
                    except StoreError as error:
                        log.warning("a transfer waits", transfer=shown(id), error=str(error))
                    except (NoSuchTransfer, WrongState):
                        pass  # somebody else was faster: the row says what is next
                    except Exception as error:
                        log.exception("a step of a transfer failed", transfer=shown(id))
                        if tries >= _TRIES:
                            failure = TransferFailed(f"{type(error).__name__}: {error}")
                    if tries:
                        await trio.sleep(rest_s(tries))
        finally:
            self._held.pop(id, None)

    async def _go_on(self, id: bytes, transfer: Transfer) -> None:
        if transfer.is_canceling:
            await self._cancel(id)
            return
        try:
            await self.work(id, transfer)
        except (StoreError, NoSuchTransfer, WrongState):
            raise
        except FusefsError as error:
            await self._fail(id, error)

    async def _cancel(self, id: bytes) -> None:
        await self._settle(id)
        await self._recorder.change(id, self._canceled)

    async def _fail(self, id: bytes, error: FusefsError) -> None:
        """Put the cause into the record and end the transfer."""
        await self._settle(id)

        def fail(transfer: Transfer) -> Transfer:
            if transfer.is_canceling:
                return self._canceled(transfer)
            failed = self._changed(transfer, Operation.FAIL, str(error))
            return replace(failed, error_kind=type(error).__name__, error=str(error))

        await self._recorder.change(id, fail)

    async def _settle(self, id: bytes) -> None:
        """Have nothing of a transfer go on any more, and no manifest be there, within a bound."""
        with trio.move_on_after(CANCEL_BOUND_S):
            await self._office.carrier.settled(id)
            if self.name is model.Role.MANIFESTOR:
                destination = self._records.specification(id).destination
                with suppress(FusefsError):
                    await self._office.carrier.clean(id, destination)

    async def change(self, id: bytes, operation: Operation, cause: str = "") -> None:
        """Change the status, and with it who has the transfer."""
        await self._recorder.change(id, lambda one: self._changed(one, operation, cause))

    def _canceled(self, transfer: Transfer) -> Transfer:
        cause = f"asked for by {shown_user(transfer.cancel_uid)}"
        return self._changed(transfer, Operation.CANCEL, cause)

    def _changed(self, transfer: Transfer, operation: Operation, cause: str) -> Transfer:
        return transfer.changed(operation, self._office.clock.time_ns(), cause)
