"""Reading blocks for no other reason than to see whether they are still what they were.

In the order of their numbers, which is mostly the one in which they lie on the disk. What the
kernel holds of them in memory is let go first, or it would be the memory that is verified, and
afterwards, or a scrub would push out what programs want to read again.
"""

import os
import struct
from collections.abc import Iterator
from errno import EACCES, EMFILE, ENFILE, ENOMEM
from itertools import groupby, islice
from typing import TYPE_CHECKING, NamedTuple

from fusefs.base import failpoints
from fusefs.errors import StoreError
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.model.corruption import Bad
from fusefs.store import format
from fusefs.store.reading import NO_SEGMENT, check_content, unreadable

if TYPE_CHECKING:
    from fusefs.store.store import Store

#: What is read in one go: some 10 ms of a thread ...
SLICE_BYTES = 4 << 20
#: ... and rows that are looked at for it, on the loop: about 1 ms.
SLICE_ROWS = 500
_PAGE = 4096
#: Errors of an open that say nothing of the segment.
_NOT_THE_DISK = frozenset({EMFILE, ENFILE, ENOMEM, EACCES})


class Slice(NamedTuple):
    """Blocks to be read next. `first`, `last`: the numbers that they were chosen from; `is_end`:
    there are none behind."""

    blocks: list[tuple[int, Block]]
    first: int
    last: int
    is_end: bool

    @property
    def size_bytes(self) -> int:
        """What is to be read from the disk."""
        return sum(block.stored for _, block in self.blocks)


class Scrubber:
    """Reads the blocks of an open store that something needs, and that are here."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._directory = store.path / "segments"

    def after(self, number: int) -> Slice:
        """The blocks behind `number`, as many as one slice takes."""
        rows = list(islice(self._store.scan(keys.block(number + 1), keys.BLOCK), SLICE_ROWS))
        blocks: list[tuple[int, Block]] = []
        size, last = 0, number
        elsewhere: dict[int, bool] = {}
        for count, (key, row) in enumerate(rows, 1):
            last = keys.number(key)
            try:
                block = Block.unpack(row)
            except struct.error:
                continue  # fsck tells it
            if block.refs and not self._is_elsewhere(block.segment, elsewhere):
                blocks.append((last, block))
                size += block.stored
            if size >= SLICE_BYTES and count < len(rows):
                return Slice(blocks, number + 1, last, is_end=False)
        return Slice(blocks, number + 1, last, is_end=len(rows) < SLICE_ROWS)

    def _is_elsewhere(self, segment: int, known: dict[int, bool]) -> bool:
        """Whether a segment is in remotes only: whoever fetches a block of it verifies that."""
        if segment in self._store.segments:
            return False
        if segment not in known:
            known[segment] = self._store.is_copied(segment)
        return known[segment]

    def read(self, wanted: Slice) -> dict[int, Bad]:
        """Which blocks of a slice are bad. Waits for the disk, so best in another thread.

        The collector may have moved some meanwhile, see `is_in_place`. Raises StoreError where not
        the disk is to blame, but memory or open files have run out.
        """
        return {
            number: bad
            for segment, blocks in groupby(wanted.blocks, lambda one: one[1].segment)
            for number, bad in self._read(segment, blocks)
        }

    def _read(self, segment: int, blocks: Iterator[tuple[int, Block]]) -> Iterator[tuple[int, Bad]]:
        path = self._directory / format.segment_name(segment)
        try:
            failpoints.hit("scrub.read")
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _NOT_THE_DISK:
                raise StoreError(f"{path} cannot be opened: {error.strerror}") from error
            bad = NO_SEGMENT if isinstance(error, FileNotFoundError) else unreadable(error)
            yield from ((number, bad) for number, _ in blocks)
            return
        try:
            for number, block in blocks:
                _forget(file, block)
                if found := check_content(file, block, self._store.blocks.cipher):
                    yield number, found
                _forget(file, block)
        finally:
            os.close(file)

    def is_in_place(self, number: int, block: Block) -> bool:
        """Whether a block that was looked at is needed still, and lies where it lay."""
        row = self._store.get(keys.block(number))
        if row is None:
            return False
        now = Block.unpack(row)
        return bool(now.refs) and (now.segment, now.offset) == (block.segment, block.offset)


def _forget(file: int, block: Block) -> None:
    """Have the kernel let go of all pages that the block lies on."""
    start = block.offset // _PAGE * _PAGE
    size = -(-(block.offset + block.stored) // _PAGE) * _PAGE - start
    os.posix_fadvise(file, start, size, os.POSIX_FADV_DONTNEED)
