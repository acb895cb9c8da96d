"""The mover: brings the files of a transfer to their final names, some at a time.

A file is tried again while bytes move, a few times more, with a longer rest each time, and then
given up. No sign of life for the stall time is a failure like that of a network. What is given up
is skipped and named; under `Policy.STOP` it ends the transfer and its other moves.
"""

from collections.abc import Callable, Sequence
from copy import copy
from math import inf
from weakref import WeakValueDictionary

import structlog
import trio
from msgspec.structs import replace

from fusefs import errors
from fusefs.errors import (
    BadTransfer,
    ContentDiffers,
    FusefsError,
    NoSuchObject,
    ObjectDamaged,
    PayloadTooLarge,
    RemoteUnreachable,
    SourceChanged,
    StoreError,
    TransferFailed,
)
from fusefs.model import transfer as model
from fusefs.model.transfer import (
    Endpoint,
    File,
    FileState,
    Operation,
    Policy,
    Specification,
    Status,
    Transfer,
)
from fusefs.transfers.api import Moved, Payload
from fusefs.transfers.recorder import LAST_WORD_S
from fusefs.transfers.records import shown
from fusefs.transfers.role import Office, Role, rest_s

#: After these the same move may succeed.
_PASSING = (RemoteUnreachable, SourceChanged, ContentDiffers)
#: These are of one file; all others are of the endpoint, and so of all files of the move.
_OF_FILE = (
    BadTransfer, ContentDiffers, NoSuchObject, ObjectDamaged, PayloadTooLarge, SourceChanged,
)  # fmt: skip
_OF_FILE_NAMES = frozenset(kind.__name__ for kind in _OF_FILE)
#: Tries of a file while bytes move, beside the others.
_TRIES_IN_MOTION = 5

log = structlog.get_logger(__name__)


class _Progress:
    """Of one file: what is good at the destination. What was sent, and how often it was tried
    again, by all tries that are not in the record yet."""

    def __init__(self) -> None:
        self.good = 0
        self.sent = 0
        self.retries = 0


class Mover(Role):
    """Has those whose files move."""

    name = model.Role.MOVER

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self._live: dict[bytes, dict[int, _Progress]] = {}
        #: Of the ends of moves that there are just now.
        self._slots: WeakValueDictionary[tuple[str, Endpoint], trio.CapacityLimiter] = (
            WeakValueDictionary()
        )

    def progress(self, id: bytes) -> tuple[int, int]:
        """Bytes that are good, and that were sent, of files that are under way, or rest."""
        live = self._live.get(id, {}).values()
        return sum(one.good for one in live), sum(one.sent for one in live)

    def forget(self, id: bytes) -> None:
        """A transfer has ended."""
        self._live.pop(id, None)

    async def work(self, id: bytes, transfer: Transfer) -> None:
        if transfer.is_paused != (transfer.status is Status.INACTIVE):
            operation = Operation.PAUSE if transfer.is_paused else Operation.MOVE
            await self.change(id, operation, "it was asked for")
        if transfer.is_paused:
            await trio.sleep_forever()  # until it is interrupted
        asked = self._records.specification(id)
        self._raise_outcome(id, asked.policy)  # it may have been cut off just before its end
        self._live.setdefault(id, {})
        try:
            await self._move_all(asked)
        finally:
            await self._note_unfinished(id)
        self._raise_outcome(id, asked.policy)
        await self.change(id, Operation.FINALIZE)

    async def _move_all(self, asked: Specification) -> None:
        """Every file that waits; raises the first error that ends the transfer."""
        failed: list[FusefsError] = []
        async with trio.open_nursery() as nursery:
            for number, files in self._records.waiting(asked.id).items():
                nursery.start_soon(
                    self._move_group, asked, number, files, failed, nursery.cancel_scope
                )
        if failed:
            raise failed[0]

    async def _move_group(
        self,
        asked: Specification,
        number: int,
        files: list[File],
        failed: list[FusefsError],
        everything: trio.CancelScope,
    ) -> None:
        """The files of one source. Whatever fails is in `failed`, and ends `everything`."""
        source = asked.moves[number].source
        broken: list[FusefsError] = []

        async def one(file: File, slot: _Slot) -> None:
            try:
                async with slot:
                    if broken:
                        await self._skip(asked.id, file, broken[0])
                        return
                    await self._move_file(asked, source, file)
            except FusefsError as error:
                if isinstance(error, StoreError):
                    failed.append(error)
                    everything.cancel()
                    return
                await self._skip(asked.id, file, error)
                if asked.policy is Policy.STOP:
                    everything.cancel()
                elif not isinstance(error, _OF_FILE):
                    broken.append(error)

        async with trio.open_nursery() as nursery:
            for file in files:
                slot = await self._enter(source, asked.destination)
                nursery.start_soon(one, file, slot)

    async def _move_file(self, asked: Specification, source: Endpoint, file: File) -> None:
        payload = Payload(asked.id, file.number, source, asked.destination, file.path, file.size)
        progress = self._live[asked.id].setdefault(file.number, _Progress())
        begun_with = progress.retries
        tries = in_motion = 0
        while True:
            sent = progress.sent
            try:
                moved = await self._attempt(payload, progress, sent)
                break
            except _PASSING as error:
                if progress.sent > sent and in_motion < _TRIES_IN_MOTION:
                    in_motion += 1
                else:
                    tries += 1
                if tries > self._office.options.retries:
                    raise
                progress.retries = begun_with + tries + in_motion
                log.info(
                    "a file is tried again", transfer=shown(asked.id), file=_text(file.path),
                    error=str(error),
                )  # fmt: skip
            await trio.sleep(rest_s(tries))
        progress.sent = sent + moved.sent_bytes
        await self._note(asked.id, file, moved)

    async def _attempt(self, payload: Payload, progress: _Progress, sent_before: int) -> Moved:
        """Raises RemoteUnreachable where nothing is heard of it for the stall time."""
        stall_s = self._office.options.stall_s
        with trio.CancelScope(deadline=inf) as scope:

            def on_progress(good: int, sent: int) -> None:
                scope.deadline = trio.current_time() + stall_s
                progress.good = max(progress.good, min(good, payload.size))
                progress.sent = sent_before + sent

            return await self._office.carrier.move(payload, on_progress)
        raise RemoteUnreachable(
            f"nothing moved for {stall_s:g} s: look at {payload.source.shown} and"
            f" {payload.destination.shown}"
        )

    async def _note(self, id: bytes, file: File, moved: Moved) -> None:
        done = replace(
            file,
            state=FileState.MOVED,
            size=moved.size,
            blake3=moved.blake3,
            sha256=moved.sha256,
        )

        count = self._counting(id, file)

        def add(transfer: Transfer) -> Transfer:
            transfer = count(transfer)
            return replace(transfer, resumes=transfer.resumes + (moved.resumed_bytes > 0))

        # Shielded, so that what has its final name is known to: a moment, as the disk allows.
        with trio.move_on_after(LAST_WORD_S, shield=True):
            await self._recorder.change(id, add, [done])

    async def _skip(self, id: bytes, file: File, error: FusefsError) -> None:
        skipped = replace(
            file, state=FileState.SKIPPED, error_kind=type(error).__name__, error=str(error)
        )
        with trio.move_on_after(LAST_WORD_S, shield=True):
            await self._recorder.change(id, self._counting(id, file), [skipped])

    def _counting(self, id: bytes, file: File) -> Callable[[Transfer], Transfer]:
        """Takes the tries of a file over into the record's sums, where they are from now on."""
        progress = self._live[id].get(file.number, _Progress())

        def count(transfer: Transfer) -> Transfer:
            self._live[id].pop(file.number, None)
            return _with_tries(transfer, [progress])

        return count

    async def _note_unfinished(self, id: bytes) -> None:
        """What was sent of files that were interrupted counts as well."""
        live = [one for one in self._live[id].values() if one.sent or one.retries]
        if not live:
            return
        before = [copy(one) for one in live]

        def count(transfer: Transfer) -> Transfer:
            for one in live:
                one.sent = one.retries = 0
            return _with_tries(transfer, before)

        with trio.move_on_after(LAST_WORD_S, shield=True):
            await self._recorder.change(id, count)

    def _raise_outcome(self, id: bytes, policy: Policy) -> None:
        """Raises what fails the transfer as a whole, given what was skipped so far."""
        transfer = self._records.get(id)
        if not transfer.files_skipped:
            return
        skipped = [one for one in self._records.files(id) if one.state is FileState.SKIPPED]
        broken = next((one for one in skipped if one.error_kind not in _OF_FILE_NAMES), None)
        is_over = transfer.files_moved + transfer.files_skipped == transfer.files_total
        if policy is Policy.STOP or broken or (is_over and not transfer.files_moved):
            raise _error_of(broken or skipped[0])

    async def _enter(self, source: Endpoint, destination: Endpoint) -> "_Slot":
        """A slot at both ends: the limits of the two sides are apart, so nobody waits in a ring."""
        slot = _Slot((self._limiter("to", destination), self._limiter("from", source)))
        await slot.take()
        return slot

    def _limiter(self, side: str, endpoint: Endpoint) -> trio.CapacityLimiter:
        new = trio.CapacityLimiter(self._office.options.moves_per_endpoint)
        return self._slots.setdefault((side, endpoint), new)


class _Slot:
    """A place at both ends of a move."""

    def __init__(self, limiters: tuple[trio.CapacityLimiter, ...]) -> None:
        self._limiters = limiters
        self._taken: list[trio.CapacityLimiter] = []

    async def take(self) -> None:
        try:
            for limiter in self._limiters:
                await limiter.acquire_on_behalf_of(self)
                self._taken.append(limiter)
        except trio.Cancelled:
            self._give_back()
            raise

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *raised: object) -> None:
        self._give_back()

    def _give_back(self) -> None:
        while self._taken:
            self._taken.pop().release_on_behalf_of(self)


def _with_tries(transfer: Transfer, tried: Sequence[_Progress]) -> Transfer:
    return replace(
        transfer,
        bytes_sent=transfer.bytes_sent + sum(one.sent for one in tried),
        retries=transfer.retries + sum(one.retries for one in tried),
    )


def _error_of(file: File) -> FusefsError:
    return errors.named(file.error_kind, f"{_text(file.path)}: {file.error}", TransferFailed)


def _text(path: bytes) -> str:
    return path.decode(errors="backslashreplace")
