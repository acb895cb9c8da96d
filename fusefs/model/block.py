"""A block's row in the index: where its record lies, what it must hash to, who needs it."""

from struct import Struct
from typing import NamedTuple

from xxhash import xxh3_64_digest

#: Codec numbers, the same in the index and in the log.
RAW, ZSTD, RAW_ENCRYPTED, ZSTD_ENCRYPTED = range(4)
#: Of a plain codec, its encrypted one (store.cipher).
ENCRYPTED = {RAW: RAW_ENCRYPTED, ZSTD: ZSTD_ENCRYPTED}
#: Bytes of `Block.leaves` of an encrypted block.
VEILED_SIZE = 32

#: A raw block that is longer than two leaves can be read and verified leaf by leaf. Measured cold,
#: in us a read at random on one disk: 4 KiB 65 to 80, 16 KiB 85 to 110, 64 KiB 170 to 190. Smaller
#: leaves would make rows of some KiB.
LEAF_SIZE = 16 << 10
LEAF_HASH_SIZE = 8
#: In stores that were of format 1; of no use any more, but no damage either.
FORMER_LEAF_SIZE = 64 << 10

_ROW = Struct("<QIIIB32sI")
#: Of a row: segment, stored, length, refs.
_SUMMED = Struct("<Q4xII33xI")
_REFS = Struct("<I")
_REFS_AT = _ROW.size - _REFS.size


class Block(NamedTuple):
    """`offset`: of the payload in its segment. `stored`: payload bytes; `length`: plain bytes.

    `digest`: BLAKE3 of the plain content; of an encrypted block, its name (store.cipher). `refs`:
    extents that name the block; at 0 it is garbage that a later write of the same content may take
    up again. `leaves`: the XXH3-64, big-endian, of each 16 KiB of a long raw block, one after the
    other, or empty: a reader who wants 4 KiB of it need not read and hash 1 MiB. They tell what
    rots on the disk, and stand in the index, which is trusted; what is to be proven against anybody
    is so by `digest`. (BLAKE3 of parts this small costs 220 us of CPU for 1 MiB, XXH3 28.) Of an
    encrypted block, which is read whole, `leaves` is instead the BLAKE3 of its content, veiled.
    """

    segment: int
    offset: int
    stored: int
    length: int
    codec: int
    digest: bytes
    refs: int
    leaves: bytes = b""

    @property
    def has_leaves(self) -> bool:
        """Whether parts of it can be verified: not where `leaves` are those of format 1."""
        size = len(self.leaves)
        return self.codec == RAW and size != 0 and size == leaves_bytes(self.length)

    def pack(self) -> bytes:
        return _ROW.pack(*self[:7]) + self.leaves

    @classmethod
    def unpack(cls, row: bytes) -> "Block":
        return cls._make((*_ROW.unpack_from(row), row[_ROW.size :]))


class Summed(NamedTuple):
    """What the totals of a store count of a block; names as in `Block`."""

    segment: int
    stored: int
    length: int
    refs: int


def summed(row: bytes) -> Summed:
    """Raises struct.error on a row that is not one."""
    return Summed._make(_SUMMED.unpack_from(row))


def refs_of(row: bytes) -> int:
    """Raises struct.error on a row that is not one."""
    refs: int = _REFS.unpack_from(row, _REFS_AT)[0]
    return refs


def with_refs(row: bytes, refs: int) -> bytes:
    """The row of the same block with that many references."""
    return row[:_REFS_AT] + _REFS.pack(refs) + row[_ROW.size :]


def leaves_bytes(length: int, leaf_size: int = LEAF_SIZE) -> int:
    """How long the hashes of all leaves of that much content are."""
    return -(-length // leaf_size) * LEAF_HASH_SIZE


def leaf_hashes(content: bytes | bytearray | memoryview) -> bytes:
    """The hashes of all leaves of `content`, which begins at a leaf."""
    view = memoryview(content)
    return b"".join(
        [xxh3_64_digest(view[at : at + LEAF_SIZE]) for at in range(0, len(view), LEAF_SIZE)]
    )
