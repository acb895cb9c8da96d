"""How much of each segment something still needs.

A derived book: not in the log, kept with each checkpoint, and brought up to date by the replay like
the totals. It tells the collector where to look; nothing is deleted on its word alone.
"""

from collections import Counter
from collections.abc import Callable

from fusefs.model.block import Block

_BOOK = "live/%016x"


class Usage:
    """Stored bytes of the blocks with references, by segment. `book` reads a book of the index."""

    def __init__(self, book: Callable[[str], bytes | None]) -> None:
        self._book = book
        self._changed: Counter[int] = Counter()  # since the last checkpoint
        self._forgotten: set[int] = set()

    def account(self, old: bytes | None, new: bytes | None) -> None:
        """The row of a block changes from `old` to `new`. Raises struct.error."""
        for row, sign in ((old, -1), (new, 1)):
            if row is not None:
                block = Block.unpack(row)
                if block.refs:
                    self._changed[block.segment] += sign * block.stored

    def live_bytes(self, segment: int) -> int:
        """What of a segment is needed."""
        book = self._book(_BOOK % segment)
        return (int.from_bytes(book, "big", signed=True) if book else 0) + self._changed[segment]

    def forget(self, segment: int) -> None:
        """The segment was deleted."""
        self._changed.pop(segment, None)
        self._forgotten.add(segment)

    def books(self) -> dict[str, bytes | None]:
        """What the next checkpoint is to write; None: to delete."""
        books: dict[str, bytes | None] = {_BOOK % segment: None for segment in self._forgotten}
        for segment in self._changed:
            books[_BOOK % segment] = self.live_bytes(segment).to_bytes(8, "big", signed=True)
        return books

    def kept(self) -> None:
        """The checkpoint has happened."""
        self._changed.clear()
        self._forgotten.clear()
