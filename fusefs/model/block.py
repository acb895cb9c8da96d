"""A block's row in the index: where its record lies, what it must hash to, who needs it."""

from struct import Struct
from typing import NamedTuple

from blake3 import blake3

#: Codec numbers, the same in the index and in the log. 2 and 3 are kept for the encrypted ones.
RAW, ZSTD, RAW_ENCRYPTED, ZSTD_ENCRYPTED = range(4)

#: A raw block that is longer than two leaves can be read and verified leaf by leaf.
LEAF_SIZE = 64 << 10
LEAF_HASH_SIZE = 8

_ROW = Struct("<QIIIB32sI")
#: Of a row: segment, stored, length, refs.
_SUMMED = Struct("<Q4xII33xI")


class Block(NamedTuple):
    """`offset`: of the payload in its segment. `stored`: payload bytes; `length`: plain bytes.

    `digest`: BLAKE3 of the plain content. `refs`: extents that name the block; at 0 it is garbage
    that a later write of the same content may take up again. `leaves`: the first 8 bytes of the
    BLAKE3 of each 64 KiB of a long raw block, one after the other, or empty: a reader who wants
    4 KiB of it need not read and hash 1 MiB.
    """

    segment: int
    offset: int
    stored: int
    length: int
    codec: int
    digest: bytes
    refs: int
    leaves: bytes = b""

    def pack(self) -> bytes:
        return _ROW.pack(*self[:7]) + self.leaves

    @classmethod
    def unpack(cls, row: bytes) -> "Block":
        return cls._make((*_ROW.unpack_from(row), row[_ROW.size :]))

    def with_refs(self, refs: int) -> "Block":
        return self._replace(refs=refs)


class Summed(NamedTuple):
    """What the totals of a store count of a block; names as in `Block`."""

    segment: int
    stored: int
    length: int
    refs: int


def summed(row: bytes) -> Summed:
    """Raises struct.error on a row that is not one."""
    return Summed._make(_SUMMED.unpack_from(row))


def leaf_hashes(content: bytes | bytearray | memoryview) -> bytes:
    """The hashes of all leaves of `content`, which begins at a leaf."""
    view = memoryview(content)
    return b"".join(
        blake3(view[at : at + LEAF_SIZE]).digest()[:LEAF_HASH_SIZE]
        for at in range(0, len(view), LEAF_SIZE)
    )
