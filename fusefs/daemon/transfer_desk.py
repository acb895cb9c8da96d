"""What can be asked about transfers: nothing is shown, or told, that a power cut could take back.

Each change of a status is an event of the kind "transfer".
"""

import os
from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any, ClassVar

import msgspec

from fusefs.base.clock import utc
from fusefs.daemon import endpoints
from fusefs.daemon.filesystem import Filesystem
from fusefs.daemon.verbs import Verb
from fusefs.model.transfer import (
    Ended,
    Endpoint,
    File,
    FileState,
    Move,
    Policy,
    Status,
    Transfer,
)
from fusefs.transfers.records import shown
from fusefs.transfers.transfers import parse_id

Record = dict[str, Any]

_TIME_MAX_NS = (1 << 63) - 1
#: Records of the journal in one answer.
_PAGE = 1000
#: Names of skipped files in one answer.
_SKIPPED_MAX = 1000


class End(msgspec.Struct, forbid_unknown_fields=True):
    """Source or destination: `text` as users write it, see `endpoints`; `path`: the same in full,
    if it is a path; `secrets`: where those of a URL are read from."""

    text: str
    path: bytes = b""
    secrets: str = ""


class MoveArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Files below one source; directories among them stand for all below."""

    source: End
    files: list[bytes]


class CreateArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`instructions`: a JSON object as text, or empty. `user`: in whose name, by default that of
    who asks."""

    moves: list[MoveArguments]
    destination: End
    description: str = ""
    instructions: str = ""
    user: str = ""
    policy: Policy = Policy.STOP


class TransferArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`id`: a UUID as text."""

    id: str


class ListArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`statuses`: only these; all if empty."""

    statuses: list[Status] = []


class JournalArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Wall times in ns, both inclusive. `after`: the `next` of the page before."""

    since_ns: Annotated[int, msgspec.Meta(ge=0, le=_TIME_MAX_NS)] = 0
    until_ns: Annotated[int, msgspec.Meta(ge=0, le=_TIME_MAX_NS)] = _TIME_MAX_NS
    after: str = ""


class NoArguments(msgspec.Struct, forbid_unknown_fields=True):
    pass


class TransferDesk:
    """Answers about the transfers of `filesystem`."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._transfers = filesystem.transfers
        self._records = filesystem.transfers.records

    async def create(self, arguments: CreateArguments, uid: int) -> Record:
        """Record a transfer and have it done; returns when that is durable."""
        id = await self._transfers.create(
            moves=[
                Move(self._endpoint(one.source, "source"), tuple(one.files))
                for one in arguments.moves
            ],
            destination=self._endpoint(arguments.destination, "destination"),
            uid=uid,
            user=arguments.user,
            description=arguments.description,
            instructions=arguments.instructions,
            policy=arguments.policy,
        )
        return {"id": shown(id)}

    async def show(self, arguments: TransferArguments, _uid: int) -> Record:
        """One transfer, with all that is known of it."""
        id = parse_id(arguments.id)
        await self._transfers.settled()
        transfer = self._records.get(id)
        asked = self._records.specification(id)
        skipped = self._skipped(id) if transfer.files_skipped else []
        return {
            **self._summary(id, transfer),
            "instructions": asked.instructions,
            "policy": asked.policy.value,
            "bytes_sent": transfer.bytes_sent + self._transfers.progress(id)[1],
            "resumes": transfer.resumes,
            "retries": transfer.retries,
            "skipped": skipped,
            "manifest": transfer.manifest,
            "history": [
                {"status": one.status.value, "time": utc(one.time_ns), "cause": one.cause}
                for one in transfer.history
            ],
        }

    async def all(self, arguments: ListArguments, _uid: int) -> list[Record]:
        """Transfers whose record is kept, the latest last."""
        await self._transfers.settled()
        found = [
            (id, one)
            for id, one in self._records.all()
            if not arguments.statuses or one.status in arguments.statuses
        ]
        found.sort(key=lambda item: item[1].history[0].time_ns)
        return [self._summary(id, one) for id, one in found]

    async def cancel(self, arguments: TransferArguments, uid: int) -> Record:
        """Ask for the end of a transfer; one that has ended stays as it is."""
        id = parse_id(arguments.id)
        after = await self._transfers.cancel(id, uid)
        return {"id": shown(id), "status": after.status.value, "is_canceling": after.is_canceling}

    async def pause(self, arguments: TransferArguments, uid: int) -> None:
        """Let a transfer rest."""
        await self._transfers.pause(parse_id(arguments.id), uid, is_paused=True)

    async def resume(self, arguments: TransferArguments, uid: int) -> None:
        """Let a transfer go on."""
        await self._transfers.pause(parse_id(arguments.id), uid, is_paused=False)

    async def journal(self, arguments: JournalArguments, _uid: int) -> Record:
        """A page of what has ended, the earliest first; `next` is for the one after it."""
        since_ns, last = arguments.since_ns, b""
        if arguments.after:
            time_text, _, id_text = arguments.after.partition(" ")
            since_ns, last = int(time_text), parse_id(id_text)
        await self._transfers.settled()
        found = self._transfers.journal(since_ns, arguments.until_ns)
        behind = (one for one in found if (one.stop_ns, one.id) > (since_ns, last) or not last)
        page = list(islice(behind, _PAGE))
        is_last = len(page) < _PAGE
        following = None if is_last else f"{page[-1].stop_ns} {shown(page[-1].id)}"
        return {"records": [_ended(one) for one in page], "next": following}

    async def start(self, _arguments: NoArguments, _uid: int) -> None:
        """Go on after a stop."""
        self._filesystem.check_writable()
        await self._transfers.start()

    async def stop(self, _arguments: NoArguments, _uid: int) -> None:
        """Rest all transfers until a start, or the next mount."""
        await self._transfers.stop()

    async def running(self, _arguments: NoArguments, _uid: int) -> bool:
        """Whether transfers are done."""
        return self._transfers.is_running

    def _endpoint(self, end: End, what: str) -> Endpoint:
        mountpoint = self._filesystem.move_desk.mountpoint
        store = self._filesystem.store
        return endpoints.parse(end.text, end.path, end.secrets, what, store, mountpoint)

    def _summary(self, id: bytes, transfer: Transfer) -> Record:
        asked = self._records.specification(id)
        is_over = transfer.is_terminal
        return {
            "id": shown(id),
            "status": transfer.status.value,
            "description": asked.description,
            "source": [one.source.shown for one in asked.moves],
            "destination": asked.destination.shown,
            "user": asked.user,
            "created": utc(asked.asked_ns),
            "changed": utc(transfer.history[-1].time_ns),
            "ended": utc(transfer.history[-1].time_ns) if is_over else None,
            "is_canceling": transfer.is_canceling,
            "files_total": transfer.files_total,
            "files_moved": transfer.files_moved,
            "files_skipped": transfer.files_skipped,
            "bytes_total": transfer.bytes_total,
            "bytes_moved": transfer.bytes_moved + self._transfers.progress(id)[0],
            "error_kind": transfer.error_kind,
            "error": transfer.error,
        }

    def _skipped(self, id: bytes) -> list[Record]:
        skipped = (one for one in self._records.files(id) if one.state is FileState.SKIPPED)
        return [_skipped(one) for one in islice(skipped, _SKIPPED_MAX)]

    VERBS: ClassVar[Mapping[str, Verb]] = {
        "transfer_create": Verb(CreateArguments, create),
        "transfer_show": Verb(TransferArguments, show),
        "transfer_list": Verb(ListArguments, all),
        "transfer_cancel": Verb(TransferArguments, cancel),
        "transfer_pause": Verb(TransferArguments, pause),
        "transfer_resume": Verb(TransferArguments, resume),
        "transfer_journal": Verb(JournalArguments, journal),
        "transfer_start": Verb(NoArguments, start),
        "transfer_stop": Verb(NoArguments, stop),
        "transfer_running": Verb(NoArguments, running),
    }


def _skipped(file: File) -> Record:
    return {"path": os.fsdecode(file.path), "error_kind": file.error_kind, "error": file.error}


def _ended(one: Ended) -> Record:
    return {
        "id": shown(one.id),
        "status": one.status.value,
        "source": [source.shown for source in one.sources],
        "destination": one.destination.shown,
        "user": one.user,
        "start": utc(one.start_ns),
        "stop": utc(one.stop_ns),
        "bytes": one.bytes_moved,
        "files": one.files_moved,
        "files_total": one.files_total,
        "files_skipped": one.files_skipped,
        "manifest": one.manifest,
        "description": one.description,
        "error_kind": one.error_kind,
        "error": one.error,
    }
