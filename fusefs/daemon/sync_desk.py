"""What can be asked about remotes and the sync: by users, and by the agent that does it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import trio

from fusefs.daemon.filesystem import Filesystem
from fusefs.daemon.verbs import Verb
from fusefs.errors import BadRemote, NotEnoughCopies, WrongState
from fusefs.model.remote import Copy, Remote
from fusefs.sync.evict import only_copies
from fusefs.sync.intents import Intents

Record = dict[str, Any]

#: A poll waits no longer than this, so that who asks sees that the daemon lives.
_LONGEST_S = 60.0


class NameArguments(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class NamesArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`names`: of remotes; all if there are none."""

    names: list[str] = []


class ChangesArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`known`: the version that was answered last, -1 at first."""

    known: int = -1
    wait_s: float = 30.0


class AddArguments(msgspec.Struct, forbid_unknown_fields=True):
    """See `model.remote.Remote`. `sequence`: of the checkpoint that the next one follows."""

    name: str
    url: str
    writer: str
    secrets: str = ""
    cost: int = 200
    limit: str = ""
    is_encrypted: bool = False
    is_trash: bool = False
    sequence: int = 0


class ChangeArguments(msgspec.Struct, forbid_unknown_fields=True):
    """What is None stays as it is."""

    name: str
    is_paused: bool | None = None
    cost: int | None = None
    limit: str | None = None
    secrets: str | None = None


class AdoptArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`sequence`: of the checkpoint of somebody else that the next one of this store follows."""

    name: str
    sequence: int
    writer: str


class HoldArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`seconds`: for which nothing is sent; 0: it may go on."""

    name: str
    seconds: float


class ForgetArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`segments`: whose copies in the remote are none."""

    name: str
    segments: list[int]


class PageArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`after`: the last segment of the page before."""

    name: str
    after: int = 0


class OrderArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`rest_s`: the agent does nothing for so long, unless it is asked to."""

    name: str
    number: int
    wait_s: float = 30.0
    rest_s: float = 0.0


class OfRemote(msgspec.Struct, forbid_unknown_fields=True):
    """A remote as the agent speaks of it."""

    name: str
    number: int


class TableArguments(OfRemote):
    cut: int
    first: int


class StoredArguments(OfRemote):
    """`copies`: (segment, name, size, BLAKE3 in hex)."""

    copies: list[tuple[int, str, int, str]]


class PublishedArguments(OfRemote):
    sequence: int
    cut: int


class RecoveredArguments(OfRemote):
    sequence: int
    segment: int
    time_ns: int


class ReportArguments(OfRemote):
    """`error`: as `wire.describe_error`, or None where all is well; bytes and counts since the last
    report."""

    doing: str = ""
    error: Record | None = None
    sent_bytes: int = 0
    sent_objects: int = 0
    retries: int = 0


class SyncDesk:
    """Answers about the remotes of `filesystem`."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._syncing = filesystem.syncing
        self._registry = filesystem.syncing.registry

    # -- remotes

    async def remotes(self, arguments: NamesArguments, _uid: int) -> list[Record]:
        """Where each remote stands."""
        named = [(name, self._registry.get(name)) for name in arguments.names]
        return [self._syncing.record(*one) for one in named or self._registry]

    async def row(self, arguments: NameArguments, _uid: int) -> Record:
        """The row of a remote. Raises NoSuchRemote."""
        return dict(msgspec.structs.asdict(self._registry.get(arguments.name)))

    async def changes(self, arguments: ChangesArguments, _uid: int) -> Record:
        """The remotes and their numbers, as soon as they are others than those of `known`."""
        with trio.move_on_after(min(arguments.wait_s, _LONGEST_S)):
            while self._registry.version == arguments.known:
                await self._syncing.wait_for_change()
        return {
            "version": self._registry.version,
            "remotes": [(name, row.number) for name, row in self._registry.synced()],
        }

    async def add(self, arguments: AddArguments, _uid: int) -> Record:
        """Record a remote. Raises BadRemote, WrongState, StoreReadOnly."""
        self._filesystem.check_writable()
        if self._filesystem.store.identity.is_encrypted and not arguments.is_encrypted:
            raise BadRemote("the store is encrypted, so its remotes must be: say --encrypt")
        fields = msgspec.structs.asdict(arguments)
        row = self._registry.add(fields.pop("name"), Remote(number=0, **fields))
        self._syncing.changed()
        return self._syncing.record(arguments.name, row)

    async def change(self, arguments: ChangeArguments, _uid: int) -> Record:
        """Change how a remote is used. Raises NoSuchRemote, StoreReadOnly."""
        self._filesystem.check_writable()
        fields = {k: v for k, v in msgspec.structs.asdict(arguments).items() if v is not None}
        row = self._registry.change(fields.pop("name"), **fields)
        self._syncing.changed()
        return self._syncing.record(arguments.name, row)

    async def remove(self, arguments: NameArguments, _uid: int) -> Record:
        """Forget a remote and what is known to be in it.

        Raises NoSuchRemote, StoreReadOnly; NotEnoughCopies where it holds all that there is of
        something.
        """
        self._filesystem.check_writable()
        async with self._filesystem.collecting.lock:  # nothing goes from here meanwhile
            return await self._remove(arguments.name)

    async def _remove(self, name: str) -> Record:
        number = self._registry.get(name).number
        others = {row.number for _, row in self._registry} - {number}
        alone = only_copies(self._filesystem.store, number, others)
        if alone:
            raise NotEnoughCopies(
                f"the remote {name} has the only copies of {len(alone)} segments: bring them back"
                " by 'fusefs fetch' of the mountpoint, or have them in another remote first"
            )
        row = self._registry.change(name, is_paused=True)
        self._syncing.changed()
        count = 0
        for done in self._syncing.copies.forget_all(row.number):
            count += done
            await trio.lowlevel.checkpoint()
        self._registry.remove(name)
        Intents(self._filesystem.store.path, row.number).forget()
        self._syncing.changed()
        return {"forgotten_copies": count}

    async def adopt(self, arguments: AdoptArguments, _uid: int) -> Record:
        """Go on in a remote behind what another has published. Raises NoSuchRemote."""
        self._filesystem.check_writable()
        row = self._registry.change(
            arguments.name, sequence=arguments.sequence, writer=arguments.writer,
            published_segment=0,
        )  # fmt: skip
        self._syncing.adopted(arguments.name, row)
        return self._syncing.record(arguments.name, row)

    async def copies(self, arguments: PageArguments, _uid: int) -> list[tuple[int, str, int, str]]:
        """A page of what is known to be in a remote: (segment, name, size, BLAKE3)."""
        row = self._registry.get(arguments.name)
        return self._syncing.copies.page(row.number, arguments.after)

    async def forget(self, arguments: ForgetArguments, _uid: int) -> Record:
        """Copies are not in a remote after all; what is of use is sent again."""
        row = self._registry.get(arguments.name)
        count = sum(self._syncing.copies.forget(row.number, arguments.segments))
        self._syncing.changed()
        return {"forgotten_copies": count}

    # -- the sync

    async def now(self, arguments: NamesArguments, _uid: int) -> list[Record]:
        """Have all go to the remotes at once; returns at once, too. Without names: to those that
        are not paused. Raises NoSuchRemote; WrongState for one that is paused, or if all are."""
        synced = list(self._registry.synced())
        awake = [name for name, row in synced if not row.is_paused]
        self._syncing.ask(arguments.names or awake or [name for name, _ in synced])
        return await self.remotes(arguments, _uid)

    async def hold(self, arguments: HoldArguments, _uid: int) -> None:
        """Let a user tidy up in a remote. Raises NoSuchRemote, WrongState."""
        self._syncing.hold(self._registry.get(arguments.name), arguments.seconds)

    # -- for the agent

    async def order(self, arguments: OrderArguments, _uid: int) -> Record | None:
        """What is to be done for a remote. Raises NoSuchRemote."""
        return await self._syncing.order(
            arguments.name, arguments.number, min(arguments.wait_s, _LONGEST_S), arguments.rest_s
        )

    async def cut(self, arguments: OfRemote, _uid: int) -> Record:
        """See `Syncing.cut`."""
        row = self._syncing.find(arguments.name, arguments.number)
        return await self._syncing.cut(row)

    async def table(self, arguments: TableArguments, _uid: int) -> Record:
        """See `Syncing.table`."""
        row = self._syncing.find(arguments.name, arguments.number)
        return self._syncing.table(row, arguments.cut, arguments.first)

    async def stored(self, arguments: StoredArguments, _uid: int) -> None:
        """Segments are in a remote."""
        row = self._syncing.find(arguments.name, arguments.number)
        now = self._filesystem.store.clock.time_ns()
        copies = [
            (segment, Copy(name, size, bytes.fromhex(digest), now))
            for segment, name, size, digest in arguments.copies
        ]
        self._syncing.stored(arguments.name, row, copies)

    async def published(self, arguments: PublishedArguments, _uid: int) -> None:
        """The checkpoint of a cut is in a remote."""
        row = self._syncing.find(arguments.name, arguments.number)
        self._syncing.published(arguments.name, row, arguments.sequence, arguments.cut)

    async def recovered(self, arguments: RecoveredArguments, _uid: int) -> None:
        """A checkpoint was put by an agent that did not live to say so."""
        row = self._syncing.find(arguments.name, arguments.number)
        if arguments.sequence <= row.sequence:
            raise WrongState("a later checkpoint is known")
        self._syncing.recovered(
            arguments.name, row, arguments.sequence, arguments.segment, arguments.time_ns
        )

    async def report(self, arguments: ReportArguments, _uid: int) -> Record:
        """What the agent does, and how it goes; the answer tells it how busy users are."""
        row = self._syncing.find(arguments.name, arguments.number)
        self._syncing.report(
            arguments.name, row, arguments.doing, arguments.error,
            (arguments.sent_bytes, arguments.sent_objects, arguments.retries),
        )  # fmt: skip
        return {"requests": self._filesystem.tally.requests}

    VERBS: ClassVar[Mapping[str, Verb]] = {
        "remotes": Verb(NamesArguments, remotes),
        "remote_row": Verb(NameArguments, row),
        "remote_changes": Verb(ChangesArguments, changes),
        "remote_add": Verb(AddArguments, add),
        "remote_change": Verb(ChangeArguments, change),
        "remote_remove": Verb(NameArguments, remove),
        "remote_adopt": Verb(AdoptArguments, adopt),
        "sync_copies": Verb(PageArguments, copies),
        "sync_forget": Verb(ForgetArguments, forget),
        "sync_now": Verb(NamesArguments, now),
        "sync_hold": Verb(HoldArguments, hold),
        "sync_order": Verb(OrderArguments, order),
        "sync_cut": Verb(OfRemote, cut),
        "sync_table": Verb(TableArguments, table),
        "sync_stored": Verb(StoredArguments, stored),
        "sync_published": Verb(PublishedArguments, published),
        "sync_recovered": Verb(RecoveredArguments, recovered),
        "sync_report": Verb(ReportArguments, report),
    }
