"""Counts for numbers that are dense, at four bytes each where a dict would take a hundred.

Numbers out of a damaged row may be anything: each costs one small chunk.
"""

from array import array
from collections import Counter
from dataclasses import dataclass, field

from fusefs.model import keys
from fusefs.model.totals import COUNTED, Totals

_SHIFT = 8
_SIZE = 1 << _SHIFT
_EMPTY = bytes(4 * _SIZE)


class Tally:
    """How often each number was seen."""

    def __init__(self) -> None:
        self._chunks: dict[int, array[int]] = {}

    def add(self, number: int) -> None:
        chunk = self._chunks.get(number >> _SHIFT)
        if chunk is None:
            chunk = self._chunks[number >> _SHIFT] = array("I", _EMPTY)
        chunk[number & _SIZE - 1] += 1

    def of(self, number: int) -> int:
        chunk = self._chunks.get(number >> _SHIFT)
        return chunk[number & _SIZE - 1] if chunk is not None else 0


@dataclass
class Census:
    """How many rows each table has, the highest numbers in use, and the sums over rows."""

    rows: Counter[bytes] = field(default_factory=Counter)
    ino: int = 0
    block: int = 0
    cookie: int = 0
    totals: Totals = field(default_factory=Totals)

    def add(self, key: bytes, row: bytes) -> None:
        """Count one row."""
        table = key[:1]
        self.rows[table] += 1
        if table in COUNTED:
            self.totals.account(key, None, row)
        if table == keys.INODE:
            self.ino = max(self.ino, keys.number(key))
        elif table == keys.BLOCK:
            self.block = max(self.block, keys.number(key))
        elif table == keys.ORDER:
            self.cookie = max(self.cookie, keys.second(key))
