"""What is known of a block whose content is not what was written: one record for each."""

from enum import StrEnum
from typing import NamedTuple

import msgspec

#: Records that are kept at one time. A disk that is worse than that is to be replaced, and `fsck`
#: names everything.
MAX_RECORDS = 1000
#: Of the files that need a block, so many are named.
MAX_OBJECTS = 16


class State(StrEnum):
    """How a block is bad."""

    DAMAGED = "damaged"  # it can be read, and is not what it was
    UNREADABLE = "unreadable"  # the disk gives an error, or its segment is gone


class Bad(NamedTuple):
    """What a look at a block has shown; `reason` is for people."""

    state: State
    reason: str


class Object(msgspec.Struct, array_like=True, frozen=True):
    """A file that needs the block; `path` is the one that it had when the block was last seen."""

    ino: int
    path: bytes


class Corruption(msgspec.Struct, array_like=True, frozen=True):
    """One record. It goes when the block is found good, is written again, or is needed no more.

    `block`: its number. `segment`, `offset`: where its payload lay. `first_ns`, `last_ns`: wall
    times at which it was seen to be bad. `objects`: which files need it; `others`: how many more.
    """

    block: int
    segment: int
    offset: int
    state: State
    reason: str
    first_ns: int
    last_ns: int
    objects: tuple[Object, ...] = ()
    others: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Corruption)


def pack(corruption: Corruption) -> bytes:
    return _encoder.encode(corruption)


def unpack(row: bytes) -> Corruption:
    """Raises msgspec.MsgspecError on a row that is not one."""
    return _decoder.decode(row)
