"""A transfer: which files go from where to where, how far that is, and what became of it.

The state machine is here and nowhere else: `Status`, `Operation`, the table `CHANGES` of what an
operation makes of a status, and `Transfer.changed`, which makes the change and writes the history.
`HOLDERS` says which role has a transfer in a status, so a change of status is the hand-off as well.

Rows of one transfer, with its UUID of 16 bytes as `id`::

    y id            Transfer        where it stands: small, because it is written often
    y id "s"        Specification   what was asked for: written once
    y id "f" n      File            one file of it, n in four bytes
    j time id       Ended           the journal: how it ended, kept for good
"""

from enum import StrEnum

import msgspec

from fusefs.errors import WrongState


class Status(StrEnum):
    """Where a transfer stands."""

    UNKNOWN = "unknown"  # recorded, and waits for a place among those under way
    STAGING = "staging"  # what it needs of the source is brought here first
    ACTIVE = "active"  # bytes move
    INACTIVE = "inactive"  # paused
    FINALIZING = "finalizing"  # all files are there; the manifest is written
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class Operation(StrEnum):
    """What can be done with a transfer, or befall it."""

    STAGE = "stage"
    MOVE = "move"
    PAUSE = "pause"
    FINALIZE = "finalize"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"


class Role(StrEnum):
    """Who has a transfer."""

    DISPATCHER = "dispatcher"
    STAGER = "stager"
    MOVER = "mover"
    MANIFESTOR = "manifestor"


#: Nothing changes these any more.
TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED})
#: Who has a transfer in each other status.
HOLDERS: dict[Status, Role] = {
    Status.UNKNOWN: Role.DISPATCHER,
    Status.STAGING: Role.STAGER,
    Status.ACTIVE: Role.MOVER,
    Status.INACTIVE: Role.MOVER,
    Status.FINALIZING: Role.MANIFESTOR,
}
#: What an operation makes of a status. Any other pair is refused and changes nothing.
CHANGES: dict[tuple[Status, Operation], Status] = {
    (Status.UNKNOWN, Operation.STAGE): Status.STAGING,
    (Status.UNKNOWN, Operation.MOVE): Status.ACTIVE,
    (Status.STAGING, Operation.MOVE): Status.ACTIVE,
    (Status.ACTIVE, Operation.PAUSE): Status.INACTIVE,
    (Status.INACTIVE, Operation.MOVE): Status.ACTIVE,
    (Status.ACTIVE, Operation.FINALIZE): Status.FINALIZING,
    (Status.FINALIZING, Operation.SUCCEED): Status.SUCCEEDED,
    **{(status, Operation.FAIL): Status.FAILED for status in HOLDERS},
    **{(status, Operation.CANCEL): Status.CANCELED for status in HOLDERS},
}


class Kind(StrEnum):
    """What an endpoint is."""

    STORE = "store"  # a path in the filesystem of this store
    REMOTE = "remote"  # a remote of this store
    DIRECTORY = "directory"  # of this machine
    URL = "url"  # any bucket or server


class Endpoint(msgspec.Struct, array_like=True, frozen=True):
    """One end of a transfer.

    `name`: of the remote, or the URL, without secrets; else empty. `path`: inside the filesystem,
    of the directory, or below the remote; without a trailing slash. `secrets`: where those of a URL
    are read from, as `remotes.secrets` says.
    """

    kind: Kind
    name: str = ""
    path: bytes = b""
    secrets: str = ""

    @property
    def shown(self) -> str:
        """As users write it."""
        path = self.path.decode(errors="backslashreplace")
        match self.kind:
            case Kind.STORE:
                return f"store:/{path}"
            case Kind.DIRECTORY:
                return path
            case _:
                return f"{self.name}/{path}" if path else self.name


class Policy(StrEnum):
    """What a file that cannot be moved means to the others."""

    STOP = "stop"  # the transfer fails at once
    CONTINUE = "continue"  # it is skipped and listed, the others go on


class Move(msgspec.Struct, array_like=True, frozen=True):
    """The files of one source: paths below it, as they were asked for."""

    source: Endpoint
    files: tuple[bytes, ...]


class Specification(msgspec.Struct, array_like=True, frozen=True):
    """What was asked for.

    `description`: Markdown. `instructions`: a JSON object, as the text that came, or empty. `user`,
    `uid`: whose it is. `asked_ns`: wall time.
    """

    id: bytes
    description: str
    instructions: str
    destination: Endpoint
    moves: tuple[Move, ...]
    user: str
    uid: int
    asked_ns: int
    policy: Policy = Policy.STOP


class FileState(StrEnum):
    """Where one file of a transfer stands."""

    WAITING = "waiting"
    MOVED = "moved"  # verified under its final name
    SKIPPED = "skipped"  # cannot be moved


class File(msgspec.Struct, array_like=True, frozen=True):
    """One file of a transfer.

    `move`: position in `Specification.moves`. `path`: below the source, and below the folder of
    the transfer at the destination. `blake3`, `sha256`: of what was moved and verified.
    `error_kind`, `error`: why it was skipped, a class of `fusefs.errors` and its message.
    """

    number: int
    move: int
    path: bytes
    size: int
    state: FileState = FileState.WAITING
    blake3: bytes = b""
    sha256: bytes = b""
    error_kind: str = ""
    error: str = ""


class Stamp(msgspec.Struct, array_like=True, frozen=True):
    """One change: into `status`, at a wall time in ns, and why."""

    status: Status
    time_ns: int
    cause: str


class Transfer(msgspec.Struct, array_like=True, frozen=True):
    """Where a transfer stands.

    `files_moved`, `files_skipped`, `bytes_moved` (of moved files) are sums over its files.
    `bytes_sent`: handed to the destination, what was sent twice counted twice. `resumes`: moves
    that went on where an earlier one was cut. `retries`: moves that were tried again.
    `cancel_uid`, `cancel_ns`: who asked for its end, and when; 0 ns: nobody did. `is_paused`: is
    to be inactive. `room`: which space of which machine it takes, empty where not known.
    `error_kind`, `error`: why it failed, a class of `fusefs.errors` and its message. `manifest`:
    where that lies.
    """

    status: Status
    history: tuple[Stamp, ...]
    files_total: int = 0
    bytes_total: int = 0
    files_moved: int = 0
    files_skipped: int = 0
    bytes_moved: int = 0
    bytes_sent: int = 0
    resumes: int = 0
    retries: int = 0
    cancel_uid: int = 0
    cancel_ns: int = 0
    is_paused: bool = False
    room: str = ""
    error_kind: str = ""
    error: str = ""
    manifest: str = ""

    def changed(self, operation: Operation, time_ns: int, cause: str = "") -> "Transfer":
        """The transfer after `operation`. Raises WrongState, which names the current status."""
        status = after(self.status, operation)
        return msgspec.structs.replace(
            self, status=status, history=(*self.history, Stamp(status, time_ns, cause))
        )

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def holder(self) -> Role | None:
        """Who has it; None when it has ended."""
        return HOLDERS.get(self.status)

    @property
    def is_canceling(self) -> bool:
        """Whether its end was asked for and has not come yet."""
        return bool(self.cancel_ns) and not self.is_terminal


class Ended(msgspec.Struct, array_like=True, frozen=True):
    """One record of the journal: a transfer that has ended. Times are wall times."""

    id: bytes
    status: Status
    sources: tuple[Endpoint, ...]
    destination: Endpoint
    user: str
    uid: int
    start_ns: int
    stop_ns: int
    files_total: int
    files_moved: int
    files_skipped: int
    bytes_moved: int
    manifest: str
    error_kind: str = ""
    error: str = ""
    description: str = ""


def after(status: Status, operation: Operation) -> Status:
    """What `operation` makes of a transfer in `status`. Raises WrongState."""
    try:
        return CHANGES[status, operation]
    except KeyError:
        possible = dict.fromkeys(s for s, o in CHANGES if o is operation)
        raise WrongState(
            f"the transfer is {status}: {operation} is possible only when it is"
            f" {' or '.join(possible)}"
        ) from None


_encoder = msgspec.msgpack.Encoder()
_transfer_decoder = msgspec.msgpack.Decoder(Transfer)
_specification_decoder = msgspec.msgpack.Decoder(Specification)
_file_decoder = msgspec.msgpack.Decoder(File)
_ended_decoder = msgspec.msgpack.Decoder(Ended)


def pack(row: Transfer | Specification | File | Ended) -> bytes:
    return _encoder.encode(row)


def unpack(row: bytes) -> Transfer:
    """Raises msgspec.MsgspecError on a row that is not one; so do the others."""
    return _transfer_decoder.decode(row)


def unpack_specification(row: bytes) -> Specification:
    return _specification_decoder.decode(row)


def unpack_file(row: bytes) -> File:
    return _file_decoder.decode(row)


def unpack_ended(row: bytes) -> Ended:
    return _ended_decoder.decode(row)
