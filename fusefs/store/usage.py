"""How much of each segment something still needs.

A derived book: not in the log, kept with each checkpoint, and brought up to date by the replay like
the totals. It tells the collector where to look; nothing is deleted on its word alone.

What a block needs is more than its content: its record has a head, the seal a line for it, and a
batch the row that says where it lies. A collection writes these again too. They are counted, or a
segment of many small blocks would look as if there were something to gain, whatever was collected.
"""

import struct
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress

from fusefs.model import keys
from fusefs.model.block import Block, Summed, summed
from fusefs.store import format

_BOOK = "live/%016x"
#: Where the books of all segments stand in the index.
BOOKS = keys.META + b"live/"
#: Says what the books count. Where it is missing they are those of an earlier fusefs: of content
#: alone; they are made anew then.
_MEANING, _NEEDED = "live", b"needed"
_BESIDE = format.BLOCK_OVERHEAD + format.SEALED_SIZE + format.ITEM_SIZE + len(keys.block(0))


def needed_bytes(row: bytes, block: Block | Summed) -> int:
    """What a block, whose row is `row`, takes of the log."""
    return block.stored + len(row) + _BESIDE


class Usage:
    """Needed bytes of the blocks with references, by segment; `total_bytes`, of all;
    `absent_bytes`, of those in segments that are only in remotes.

    `changes` grows with every block that is taken into use or out of it, `version` with every
    segment that is.
    """

    def __init__(self) -> None:
        self._live: dict[int, int] = {}
        self._changed: set[int] = set()  # since the last checkpoint
        self._absent: set[int] = set()
        self.total_bytes = self.absent_bytes = 0
        self.changes = self.version = 0

    def load(self, books: Iterable[tuple[bytes, bytes]]) -> None:
        """Take the books as of the last checkpoint, rows of the index at `BOOKS`.

        Raises ValueError where they are none.
        """
        for key, book in books:
            live = int.from_bytes(book, "big", signed=True)
            self._live[int(key[len(BOOKS) :], 16)] = live
            self.total_bytes += live

    def renewed(self, blocks: Iterable[tuple[bytes, bytes]]) -> "Usage":
        """Counted again from all rows of blocks; the next checkpoint puts it in place of this."""
        new = Usage()
        new._live = dict.fromkeys(self._live, 0)
        for _, row in blocks:
            with suppress(struct.error):
                new.account(None, row)
        new._changed.update(new._live)
        new.changes, new.version = self.changes + 1, self.version + 1
        return new

    def is_same_as(self, other: "Usage") -> bool:
        """Whether both say the same of every segment."""
        segments = self._live.keys() | other._live.keys()
        return all(self.live_bytes(one) == other.live_bytes(one) for one in segments)

    def account(self, old: bytes | None, new: bytes | None) -> None:
        """The row of a block changes from `old` to `new`. Raises struct.error."""
        for row, sign in ((old, -1), (new, 1)):
            if row is not None:
                block = summed(row)
                if block.refs:
                    needed = sign * needed_bytes(row, block)
                    before = self._live.get(block.segment, 0)
                    self._live[block.segment] = before + needed
                    if not before or not before + needed:
                        self.version += 1
                    self._changed.add(block.segment)
                    self.total_bytes += needed
                    if block.segment in self._absent:
                        self.absent_bytes += needed
                    self.changes += 1

    def live_bytes(self, segment: int) -> int:
        """What of a segment is needed."""
        return self._live.get(segment, 0)

    def segments(self) -> Iterator[int]:
        """Those of which something is needed."""
        return (segment for segment, live in self._live.items() if live > 0)

    def forget(self, segment: int) -> None:
        """The segment was deleted."""
        self.note_present(segment)
        self.total_bytes -= self._live.pop(segment, 0)
        self._changed.add(segment)

    def forget_empty(self, existing: Container[int]) -> None:
        """Forget deleted segments that a process did not live to forget."""
        for segment in [n for n, live in self._live.items() if not live and n not in existing]:
            self.forget(segment)

    @property
    def local_bytes(self) -> int:
        """Of the segments that are here."""
        return self.total_bytes - self.absent_bytes

    def note_absent(self, segment: int) -> None:
        """The segment is not here any more; what is needed of it is in remotes."""
        if segment not in self._absent:
            self._absent.add(segment)
            self.absent_bytes += self.live_bytes(segment)

    def note_present(self, segment: int) -> None:
        """The segment is here."""
        if segment in self._absent:
            self._absent.remove(segment)
            self.absent_bytes -= self.live_bytes(segment)

    def note_existing(self, existing: Container[int]) -> None:
        """Only these segments are here."""
        for segment in self._live:
            if segment not in existing:
                self.note_absent(segment)

    def books(self) -> dict[str, bytes | None]:
        """What the next checkpoint is to write; None: to delete."""
        books: dict[str, bytes | None] = {_MEANING: _NEEDED}
        for segment in self._changed:
            live = self._live.get(segment)
            books[_BOOK % segment] = None if live is None else live.to_bytes(8, "big", signed=True)
        return books

    def kept(self) -> None:
        """The checkpoint has happened."""
        self._changed.clear()

    @staticmethod
    def has_books(meaning: bytes | None) -> bool:
        """Whether the books count what is meant here; `meaning` is the one of that name."""
        return meaning == _NEEDED
