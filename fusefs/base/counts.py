"""Counts for numbers that are dense, at four bytes each where a dict would take a hundred.

A number far from all others costs one small chunk.
"""

from array import array

SHIFT = 8
SIZE = 1 << SHIFT
_EMPTY = bytes(4 * SIZE)


class Counts:
    """How often each number was added."""

    def __init__(self) -> None:
        self._chunks: dict[int, array[int]] = {}

    def add(self, number: int) -> None:
        chunk = self._chunks.get(number >> SHIFT)
        if chunk is None:
            chunk = self._chunks[number >> SHIFT] = array("I", _EMPTY)
        chunk[number & SIZE - 1] += 1

    def of(self, number: int) -> int:
        chunk = self._chunks.get(number >> SHIFT)
        return chunk[number & SIZE - 1] if chunk is not None else 0
