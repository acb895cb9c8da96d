"""The rows of the index as values. What does not decode is told once, and is no value here.

So that damage to one row does not hide the rest: whoever asks for a row that does not decode gets
None, and can see by `has` that it is not missing.
"""

import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from fusefs.fsck.census import Census
from fusefs.fsck.view import Rows
from fusefs.model import (
    batch,
    corruption,
    dirent,
    entry,
    eviction,
    extent,
    job,
    keys,
    partial,
    remote,
    scrub,
    transfer,
)
from fusefs.model.batch import RemovalBatch
from fusefs.model.block import (
    ENCRYPTED,
    FORMER_LEAF_SIZE,
    LEAF_SIZE,
    RAW,
    VEILED_SIZE,
    Block,
    leaves_bytes,
)
from fusefs.model.corruption import Corruption
from fusefs.model.dirent import Dirent
from fusefs.model.entry import FINAL, Entry
from fusefs.model.extent import BLOCK_SIZE, Extent
from fusefs.model.inode import Inode
from fusefs.model.job import Job
from fusefs.model.partial import Partial
from fusefs.model.remote import Copy, Remote
from fusefs.model.transfer import Ended
from fusefs.store import format
from fusefs.trash.policy import Policy
from fusefs.trash.steady import Mark
from fusefs.tree.tree import NAME_MAX

#: What decoding a row may raise.
UNDECODABLE = (struct.error, ValueError, msgspec.MsgspecError)

_NUMBER_MAX = 1 << 63
_FIRST_PAYLOAD = format.HEADER_SIZE + format.BLOCK_OVERHEAD


class Tables:
    """The tables of `rows`. Iterators are in key order."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def get(self, key: bytes) -> bytes | None:
        """The bytes of the row at `key`."""
        return self._rows.get(key)

    def has(self, key: bytes) -> bool:
        return self.get(key) is not None

    def has_any(self, prefix: bytes) -> bool:
        """Whether any key begins with `prefix`."""
        return next(self._rows.scan(prefix), None) is not None

    def scan(self, start: bytes, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """The bytes of rows, as `Rows`."""
        return self._rows.scan(start, prefix)

    # -- single rows

    def inode(self, ino: int) -> Inode | None:
        inode: Inode | None = self._value(keys.inode(ino))
        return inode

    def dirent(self, parent: int, name: bytes) -> Dirent | None:
        found: Dirent | None = self._value(keys.name(parent, name))
        return found

    def listed(self, parent: int, cookie: int) -> tuple[int, int, bytes] | None:
        """(ino, kind, name)."""
        found: tuple[int, int, bytes] | None = self._value(keys.order(parent, cookie))
        return found

    def listed_name(self, parent: int, cookie: int) -> bytes | None:
        found = self.listed(parent, cookie)
        return found[2] if found else None

    def block(self, number: int) -> Block | None:
        block: Block | None = self._value(keys.block(number))
        return block

    def extent(self, key: bytes) -> Extent | None:
        one: Extent | None = self._value(key)
        return one

    def entry(self, number: int) -> Entry | None:
        one: Entry | None = self._value(keys.entry(number))
        return one

    def batch(self, number: int) -> RemovalBatch | None:
        found: RemovalBatch | None = self._value(keys.batch(number))
        return found

    def orphaned_entry(self, ino: int) -> int:
        """The entry of the trash that an inode to be freed was; 0 if none."""
        number: int | None = self._value(keys.orphan(ino))
        return number or 0

    def remote(self, key: bytes) -> Remote | None:
        one: Remote | None = self._value(key)
        return one

    def _value(self, key: bytes) -> Any:
        row = self.get(key)
        return None if row is None else _decoded(key, row)

    # -- whole tables

    def inodes(self) -> Iterator[Inode]:
        return (inode for _, inode in self._values(keys.INODE))

    def names(self) -> Iterator[tuple[int, bytes, Dirent]]:
        """(parent, name, what it leads to)."""
        return ((keys.number(key), key[9:], found) for key, found in self._values(keys.NAME))

    def listing(self) -> Iterator[tuple[int, int, int, int, bytes]]:
        """(parent, cookie, ino, kind, name)."""
        return (
            (keys.number(key), keys.second(key), *found) for key, found in self._values(keys.ORDER)
        )

    def extents(self) -> Iterator[tuple[int, Extent | None]]:
        """(ino, extent); None for one that does not decode."""
        for key, row in self._rows.scan(keys.EXTENT):
            yield keys.number(key), _decoded(key, row)

    def extents_of(self, ino: int) -> Iterator[Extent | None]:
        """Those of one file; None for one that does not decode."""
        for key, row in self._rows.scan(keys.EXTENT + ino.to_bytes(8, "big")):
            yield _decoded(key, row)

    def blocks(self) -> Iterator[tuple[int, Block | None]]:
        """(number, block); None for one that does not decode."""
        for key, row in self._rows.scan(keys.BLOCK):
            yield keys.number(key), _decoded(key, row)

    def corruption(self, key: bytes) -> Corruption | None:
        one: Corruption | None = self._value(key)
        return one

    def corruptions(self) -> Iterator[tuple[int, Corruption | None]]:
        """(block, what is known of it); None for a record that does not decode."""
        for key, row in self._rows.scan(keys.CORRUPTION):
            if len(key) == 9:
                yield keys.number(key), _decoded(key, row)

    def entries(self) -> Iterator[tuple[int, Entry | None]]:
        """(number, entry); None for one that does not decode."""
        for key, row in self._rows.scan(keys.ENTRY):
            if len(key) == 9:
                yield keys.number(key), _decoded(key, row)

    def queue(self) -> Iterator[tuple[int, int]]:
        """(deadline_ns, entry)."""
        return ((keys.number(key), keys.second(key)) for key, _ in self._values(keys.QUEUE))

    def batches(self) -> Iterator[RemovalBatch]:
        return (one for _, one in self._values(keys.BATCH))

    def jobs(self) -> Iterator[Job]:
        return (one for _, one in self._values(keys.JOB))

    def past(self) -> Iterator[Entry]:
        """Entries that have left the trash."""
        return (one for _, one in self._values(keys.HISTORY))

    def finished(self) -> Iterator[int]:
        """The numbers of the same, in the order in which they left."""
        return (keys.second(key) for key, _ in self._rows.scan(keys.FINISHED) if len(key) == 17)

    def revivals(self) -> Iterator[int]:
        """Inodes of directories that are being taken back."""
        return (keys.number(key) for key, _ in self._values(keys.REVIVAL))

    def partials(self) -> Iterator[tuple[int, Partial]]:
        """(ino, what is known of it) of half-written files."""
        return ((keys.number(key), one) for key, one in self._values(keys.PARTIAL))

    def transfer_rows(self) -> Iterator[tuple[bytes, Any]]:
        """(id of the transfer, row) of each row that a transfer has."""
        return ((key[1:17], row) for key, row in self._values(keys.TRANSFER))

    def remote_numbers(self) -> set[int]:
        """The numbers of the remotes that the store has."""
        return {row.number for _, row in self._values(keys.REMOTE)}

    def copies(self) -> Iterator[tuple[int, int]]:
        """(segment, number of the remote that it is in)."""
        return ((keys.number(key), keys.second(key)) for key, _ in self._values(keys.COPY))

    def remotes_of(self, segment: int) -> set[int]:
        """The numbers of the remotes that a segment is in."""
        rows = self._rows.scan(keys.COPY + segment.to_bytes(8, "big"))
        return {keys.second(key) for key, row in rows if _decoded(key, row) is not None}

    def orphans(self) -> Iterator[tuple[int, int]]:
        """(ino, the entry of the trash that it was; 0 if none)."""
        return ((keys.number(key), one) for key, one in self._values(keys.ORPHAN))

    def of_inodes(self, table: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        """(ino, rest of the key, row) of a table of plain bytes."""
        return ((keys.number(key), key[9:], row) for key, row in self._values(table))

    def _values(self, table: bytes) -> Iterator[tuple[bytes, Any]]:
        for key, row in self._rows.scan(table):
            value = _decoded(key, row)
            if value is not None:
                yield key, value

    def malformed(self, census: Census) -> Iterator[tuple[bytes, str]]:
        """(key, why) of each row that does not decode; counts all rows into `census`."""
        for key, row in self._rows.scan(b""):
            census.add(key, row)
            decode = _DECODERS.get(key[:1])
            if decode is None:
                yield key, f"key {key!r} belongs to no table"
                continue
            try:
                decode(key, row)
            except UNDECODABLE as error:
                yield key, f"row {_shown(key)} does not decode: {error}"


def _decoded(key: bytes, row: bytes) -> Any:
    try:
        return _DECODERS[key[:1]](key, row)
    except UNDECODABLE:
        return None


def _shown(key: bytes) -> str:
    """A key as model.keys writes it: ``e 12 1048576``."""
    if key[:1] in (keys.SETTING, keys.REMOTE):
        return f"{key[:1].decode()} {os.fsdecode(key[1:])}"
    if key[:1] == keys.TRANSFER:
        return f"y {key[1:17].hex()} {key[17:]!r}"
    parts = [key[:1].decode(), str(keys.number(key))]
    if key[:1] in (keys.ORDER, keys.EXTENT, keys.QUEUE, keys.FINISHED, keys.COPY):
        parts.append(str(keys.second(key)))
    elif len(key) > 9:
        parts.append(repr(key[9:])[1:])
    return " ".join(parts)


# -- a row from its key and bytes; raises one of UNDECODABLE


def _one_number(key: bytes) -> None:
    if len(key) != 9:
        raise ValueError(f"its key has {len(key)} bytes")


def _two_numbers(key: bytes) -> None:
    if len(key) != 17:
        raise ValueError(f"its key has {len(key)} bytes")


def _number_and_text(key: bytes) -> None:
    if len(key) < 9:
        raise ValueError(f"its key has {len(key)} bytes")


def _inode(key: bytes, row: bytes) -> Inode:
    _one_number(key)
    return Inode.unpack(keys.number(key), row)


def _name(key: bytes, row: bytes) -> Dirent:
    _number_and_text(key)
    return dirent.unpack(row)


def _order(key: bytes, row: bytes) -> tuple[int, int, bytes]:
    _two_numbers(key)
    ino, kind, name = dirent.unpack_listed(row)
    if not 0 < len(name) <= NAME_MAX:
        raise ValueError(f"its name has {len(name)} bytes")
    return ino, kind, name


def _bytes_of_inode(key: bytes, row: bytes) -> bytes:
    _one_number(key)
    return row


def _xattr(key: bytes, row: bytes) -> bytes:
    _number_and_text(key)
    return row


def _extent(key: bytes, row: bytes) -> Extent:
    _two_numbers(key)
    one = extent.unpack(keys.second(key), row)
    if not 0 < one.length <= _NUMBER_MAX - one.offset:
        raise ValueError(f"it has {one.length} bytes")
    if one.skip and not one.has_block:
        raise ValueError("it has no block, and skips a part of one")
    return one


def _block(key: bytes, row: bytes) -> Block:
    _one_number(key)
    block = Block.unpack(row)
    if not 0 < block.length <= BLOCK_SIZE:
        raise ValueError(f"it has {block.length} bytes")
    if not _FIRST_PAYLOAD <= block.offset <= format.SEGMENT_SIZE - block.stored:
        raise ValueError(f"no segment has {block.stored} bytes at byte {block.offset}")
    if block.codec in ENCRYPTED.values():
        if len(block.leaves) != VEILED_SIZE:
            raise ValueError("it does not have the digest of its content")
    elif block.leaves:
        sizes = [leaves_bytes(block.length, size) for size in (LEAF_SIZE, FORMER_LEAF_SIZE)]
        if block.codec != RAW or len(block.leaves) not in sizes:
            raise ValueError("it does not have a hash for each of its parts")
    return block


def _corruption(key: bytes, row: bytes) -> Corruption:
    _one_number(key)
    one = corruption.unpack(row)
    if one.block != keys.number(key):
        raise ValueError(f"it says to be of block {one.block}")
    return one


def _entry(key: bytes, row: bytes) -> Entry:
    _one_number(key)
    one = entry.unpack(row)
    if one.number != keys.number(key):
        raise ValueError(f"it says to be entry {one.number}")
    if not (0 < one.ino < _NUMBER_MAX and 0 < one.parent < _NUMBER_MAX):
        raise ValueError("it names no inode")
    if min(one.deadline_ns, one.batch, one.job) < 0:
        raise ValueError("it has a negative number")
    return one


def _past(key: bytes, row: bytes) -> Entry:
    one = _entry(key, row)
    if one.state not in FINAL:
        raise ValueError(f"it is {one.state}")
    return one


def _batch(key: bytes, row: bytes) -> RemovalBatch:
    _one_number(key)
    one = batch.unpack(row)
    if one.number != keys.number(key):
        raise ValueError(f"it says to be batch {one.number}")
    return one


def _job(key: bytes, row: bytes) -> Job:
    _one_number(key)
    one = job.unpack(row)
    if one.number != keys.number(key):
        raise ValueError(f"it says to be job {one.number}")
    return one


def _time_of_entry(key: bytes, row: bytes) -> bytes:
    _two_numbers(key)
    if row:
        raise ValueError("it is not empty")
    return row


def _partial(key: bytes, row: bytes) -> Partial:
    _one_number(key)
    return partial.unpack(row)


def _revival(key: bytes, row: bytes) -> str:
    _one_number(key)
    return row.decode()


def _setting(key: bytes, row: bytes) -> object:
    match key[1:]:
        case b"policy":
            return msgspec.msgpack.decode(row, type=Policy)
        case b"steady":
            return msgspec.msgpack.decode(row, type=Mark)
        case b"replan":
            return row  # that it is there says all
        case b"scrub":
            return scrub.unpack(row)
        case b"copies":
            return eviction.unpack(row)
    raise ValueError("there is no such setting")


def _transfer(key: bytes, row: bytes) -> object:
    match len(key), key[17:18]:
        case 17, b"":
            return transfer.unpack(row)
        case 18, b"s":
            asked = transfer.unpack_specification(row)
            if asked.id != key[1:17]:
                raise ValueError(f"it says to be of transfer {asked.id.hex()}")
            return asked
        case 22, b"f":
            file = transfer.unpack_file(row)
            if file.number != int.from_bytes(key[18:], "big"):
                raise ValueError(f"it says to be file {file.number}")
            return file
    raise ValueError(f"its key has {len(key)} bytes")


def _ended(key: bytes, row: bytes) -> Ended:
    if len(key) != 25:
        raise ValueError(f"its key has {len(key)} bytes")
    ended = transfer.unpack_ended(row)
    if (ended.stop_ns, ended.id) != (keys.number(key), key[9:]):
        raise ValueError(f"it says to be of transfer {ended.id.hex()}")
    return ended


def _orphan(key: bytes, row: bytes) -> int:
    _one_number(key)
    if len(row) not in (0, 8):
        raise ValueError(f"it has {len(row)} bytes")
    return int.from_bytes(row, "big")


def _remote(key: bytes, row: bytes) -> Remote:
    key[1:].decode()
    return remote.unpack_remote(row)


def _copy(key: bytes, row: bytes) -> Copy:
    if len(key) != 17:
        raise ValueError(f"its key has {len(key)} bytes")
    copy = remote.unpack_copy(row)
    if len(copy.digest) != 32:
        raise ValueError(f"its digest has {len(copy.digest)} bytes")
    return copy


def _book(key: bytes, row: bytes) -> bytes:
    return row


_DECODERS: dict[bytes, Callable[[bytes, bytes], Any]] = {
    keys.INODE: _inode,
    keys.NAME: _name,
    keys.ORDER: _order,
    keys.DIRECTORY: _bytes_of_inode,
    keys.LINK: _bytes_of_inode,
    keys.XATTR: _xattr,
    keys.EXTENT: _extent,
    keys.BLOCK: _block,
    keys.CORRUPTION: _corruption,
    keys.ENTRY: _entry,
    keys.QUEUE: _time_of_entry,
    keys.BATCH: _batch,
    keys.HISTORY: _past,
    keys.FINISHED: _time_of_entry,
    keys.JOB: _job,
    keys.REVIVAL: _revival,
    keys.SETTING: _setting,
    keys.PARTIAL: _partial,
    keys.TRANSFER: _transfer,
    keys.JOURNAL: _ended,
    keys.ORPHAN: _orphan,
    keys.REMOTE: _remote,
    keys.COPY: _copy,
    keys.META: _book,
}
