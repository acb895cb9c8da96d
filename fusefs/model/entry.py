"""An entry of the trash: what was removed, from where, when, by whom."""

from enum import StrEnum

import msgspec


class State(StrEnum):
    """Where an entry stands. `ready` is outside the trash and never stored here."""

    PENDING = "delete-pending"
    ONGOING = "delete-ongoing"
    ERROR = "delete-error"
    COMPLETE = "delete-complete"


class Cause(StrEnum):
    """The system call that removed the name."""

    UNLINK = "unlink"
    RMDIR = "rmdir"
    RENAME = "rename-over"


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """One removed name.

    `number`: its id, never used twice. `ino`: the object. `parent`, `name`: where it stands in
    ``.trash``. `origin`: the path that it had, from the root of the filesystem, without a leading
    slash. `uid`, `process`: who removed it. `history`: (state, wall time in ns, cause), oldest
    first.
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
    history: tuple[tuple[State, int, str], ...]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def pack(entry: Entry) -> bytes:
    return _encoder.encode(entry)


def unpack(row: bytes) -> Entry:
    """Raises msgspec.DecodeError on a row that is not one."""
    return _decoder.decode(row)
