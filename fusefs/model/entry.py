"""An entry of the trash: what was removed, from where, when, by whom, and what became of it.

The state machine is here and nowhere else: `State`, `Operation`, the table `CHANGES` of what an
operation makes of a state, and `Entry.changed`, which makes the change and writes the history.
"""

from enum import StrEnum

import msgspec

from fusefs.errors import WrongState


class State(StrEnum):
    """Where an entry stands. What is `READY` is outside the trash."""

    READY = "ready"
    PENDING = "delete-pending"
    ONGOING = "delete-ongoing"
    ERROR = "delete-error"
    COMPLETE = "delete-complete"


class Operation(StrEnum):
    """What can be done with an entry, or befall it."""

    REMOVE = "remove"  # unlink, rmdir, rename over it
    RESTORE = "restore"  # by a verb, or mv out of .trash
    PURGE = "purge"  # by a verb, rm inside .trash, its deadline, a cap; again after an error
    FINISH = "finish"  # its space is given up
    FAIL = "fail"  # that cannot be
    CLEAN = "clean-history"  # its record is old enough


#: What an operation makes of a state. Any other pair is refused and changes nothing. An entry that
#: is purged again stays what it is: the second request joins the first, or is done already.
CHANGES: dict[tuple[State, Operation], State] = {
    (State.READY, Operation.REMOVE): State.PENDING,
    (State.PENDING, Operation.RESTORE): State.READY,
    (State.PENDING, Operation.PURGE): State.ONGOING,
    (State.ONGOING, Operation.FINISH): State.COMPLETE,
    (State.ONGOING, Operation.FAIL): State.ERROR,
    (State.ONGOING, Operation.PURGE): State.ONGOING,
    (State.ERROR, Operation.PURGE): State.ONGOING,
    (State.COMPLETE, Operation.PURGE): State.COMPLETE,
    (State.COMPLETE, Operation.CLEAN): State.COMPLETE,
}
#: States in which an entry has left the trash; its record goes to the history.
FINAL = frozenset({State.READY, State.COMPLETE})


class Cause(StrEnum):
    """The system call that removed the name."""

    UNLINK = "unlink"
    RMDIR = "rmdir"
    RENAME = "rename-over"


class Stamp(msgspec.Struct, array_like=True, frozen=True):
    """One transition: into `state`, at a wall time in ns, and why."""

    state: State
    time_ns: int
    cause: str


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """One removed name.

    `number`: its id, never used twice. `ino`: the object; for a directory, its mirror in the trash.
    `parent`, `name`: where it stands in ``.trash``. `origin`: the path that it had, from the root
    of the filesystem, without a leading slash. `uid`, `process`: who removed it. `history`: oldest
    first.

    `deleted_ns` is wall time, for people. `since_ns` and `deadline_ns` are times of
    `trash.steady`, which counts only time that has passed: removed, and to be purged. A `since_ns`
    of 0 is not known yet, a `deadline_ns` of 0 is never.

    `batch`: what was removed with it in one go. `job`: the purge that has it. `errno`, `message`:
    why its purge failed. `size_bytes`: as stat showed it at its removal.
    """

    number: int
    ino: int
    kind: int
    parent: int
    name: bytes
    origin: bytes
    uid: int
    process: bytes
    deleted_ns: int
    cause: Cause
    state: State
    history: tuple[Stamp, ...]
    since_ns: int = 0
    deadline_ns: int = 0
    batch: int = 0
    size_bytes: int = 0
    job: int = 0
    errno: int = 0
    message: str = ""

    def changed(self, operation: Operation, time_ns: int, cause: str) -> "Entry":
        """The entry after `operation`. Raises WrongState, which names the current state."""
        state = after(self.state, operation, self.number, self.origin)
        stamp = Stamp(state, time_ns, cause)
        return msgspec.structs.replace(
            self, state=state, history=(*self.history, stamp), errno=0, message=""
        )


def after(state: State, operation: Operation, number: int, origin: bytes) -> State:
    """What `operation` makes of an entry in `state`. Raises WrongState."""
    try:
        return CHANGES[state, operation]
    except KeyError:
        path = origin.decode(errors="backslashreplace")
        raise WrongState(
            f"entry {number} (/{path}) is {state}: {operation} is possible only when it is"
            f" {' or '.join(s for s, o in CHANGES if o is operation)}"
        ) from None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def pack(entry: Entry) -> bytes:
    return _encoder.encode(entry)


def unpack(row: bytes) -> Entry:
    """Raises msgspec.MsgspecError on a row that is not one."""
    return _decoder.decode(row)
