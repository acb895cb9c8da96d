"""A block's row in the index: where its record lies, what it must hash to, who needs it."""

from struct import Struct
from typing import NamedTuple

#: Codec numbers, the same in the index and in the log. 2 and 3 are kept for the encrypted ones.
RAW, ZSTD, RAW_ENCRYPTED, ZSTD_ENCRYPTED = range(4)

_ROW = Struct("<QIIIB32sI")


class Block(NamedTuple):
    """`offset`: of the payload in its segment. `stored`: payload bytes; `length`: plain bytes.

    `digest`: BLAKE3 of the plain content. `refs`: extents that name the block; at 0 it is garbage
    that a later write of the same content may take up again.
    """

    segment: int
    offset: int
    stored: int
    length: int
    codec: int
    digest: bytes
    refs: int

    def pack(self) -> bytes:
        return _ROW.pack(*self)

    @classmethod
    def unpack(cls, row: bytes) -> "Block":
        return cls._make(_ROW.unpack(row))

    def with_refs(self, refs: int) -> "Block":
        return self._replace(refs=refs)
