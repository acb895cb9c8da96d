"""The rows of the index as values. What does not decode is told once, and is no value here.

So that damage to one row does not hide the rest: whoever asks for a row that does not decode gets
None, and can see by `has` that it is not missing.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from fusefs.fsck.census import Census
from fusefs.fsck.view import Rows
from fusefs.model import dirent, entry, extent, keys
from fusefs.model.block import LEAF_HASH_SIZE, LEAF_SIZE, RAW, Block
from fusefs.model.dirent import Dirent
from fusefs.model.entry import Entry
from fusefs.model.extent import BLOCK_SIZE, HOLE, Extent
from fusefs.model.inode import Inode
from fusefs.store import format
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

    def blocks(self) -> Iterator[tuple[int, Block | None]]:
        """(number, block); None for one that does not decode."""
        for key, row in self._rows.scan(keys.BLOCK):
            yield keys.number(key), _decoded(key, row)

    def entries(self) -> Iterator[tuple[int, Entry]]:
        return ((keys.number(key), one) for key, one in self._values(keys.ENTRY))

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
    parts = [key[:1].decode(), str(keys.number(key))]
    if key[:1] in (keys.ORDER, keys.EXTENT):
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
    if one.block == HOLE and one.skip:
        raise ValueError("it is a hole, and skips a part of one")
    return one


def _block(key: bytes, row: bytes) -> Block:
    _one_number(key)
    block = Block.unpack(row)
    if not 0 < block.length <= BLOCK_SIZE:
        raise ValueError(f"it has {block.length} bytes")
    if not _FIRST_PAYLOAD <= block.offset <= format.SEGMENT_SIZE - block.stored:
        raise ValueError(f"no segment has {block.stored} bytes at byte {block.offset}")
    if block.leaves:
        size = -(-block.length // LEAF_SIZE) * LEAF_HASH_SIZE
        if block.codec != RAW or len(block.leaves) != size:
            raise ValueError("it does not have a hash for each of its parts")
    return block


def _entry(key: bytes, row: bytes) -> Entry:
    _one_number(key)
    one = entry.unpack(row)
    if one.number != keys.number(key):
        raise ValueError(f"it says to be entry {one.number}")
    if not (0 < one.ino < _NUMBER_MAX and 0 < one.parent < _NUMBER_MAX):
        raise ValueError("it names no inode")
    return one


def _orphan(key: bytes, row: bytes) -> bytes:
    _one_number(key)
    if row:
        raise ValueError("it is not empty")
    return row


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
    keys.ENTRY: _entry,
    keys.ORPHAN: _orphan,
    keys.META: _book,
}
