"""A remote of a store, and the copies of segments that are in it: rows of the index.

What a remote is and what is known to be in it is the store's to remember, and so in the log and in
every snapshot: a clone knows where its blocks are.
"""

from collections.abc import Iterable

import msgspec


class Remote(msgspec.Struct, array_like=True, frozen=True):
    """One remote, under its name.

    `number`: its id in keys, never used twice. `url`: without secrets. `secrets`: where they are
    read from, ``file:/path`` or ``env:PREFIX``, or empty: `remotes.address` says how. `cost`: the
    cheapest is asked first, lower is cheaper. `limit`: bandwidth as `remotes.throttle` reads it, or
    empty. `is_encrypted`: objects are; the key is found as `secrets` say. `is_trash`: not for sync:
    what is dropped for good elsewhere is stored there first.

    `is_paused`: nothing is sent. `sequence`: of the checkpoint published last, 0 for none;
    `published_segment`: all of the log up to the end of this segment is restorable from it;
    `published_ns`: wall time. `writer`: what this store's own checkpoints are marked with.
    """

    number: int
    url: str
    secrets: str = ""
    cost: int = 200
    limit: str = ""
    is_encrypted: bool = False
    is_trash: bool = False
    is_paused: bool = False
    writer: str = ""
    sequence: int = 0
    published_segment: int = 0
    published_ns: int = 0


class Copy(msgspec.Struct, array_like=True, frozen=True):
    """That a sealed segment is in a remote.

    `name`: of the object. `size`: bytes of the plain segment. `digest`: BLAKE3 of these.
    `verified_ns`: wall time when it was last seen there whole.
    """

    name: str
    size: int
    digest: bytes
    verified_ns: int


def next_number(taken: Iterable[Remote], now_ns: int) -> int:
    """A number that no remote of a store has or had, given those that there are: the time in ms,
    as the highest number is forgotten with the remote that had it."""
    return max(max((one.number for one in taken), default=0) + 1, now_ns // 10**6)


_encoder = msgspec.msgpack.Encoder()
_remote_decoder = msgspec.msgpack.Decoder(Remote)
_copy_decoder = msgspec.msgpack.Decoder(Copy)


def pack(row: Remote | Copy) -> bytes:
    return _encoder.encode(row)


def unpack_remote(row: bytes) -> Remote:
    """Raises msgspec.MsgspecError on a row that is not one."""
    return _remote_decoder.decode(row)


def unpack_copy(row: bytes) -> Copy:
    """Raises msgspec.MsgspecError on a row that is not one."""
    return _copy_decoder.decode(row)
