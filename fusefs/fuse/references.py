"""How often the kernel refers to each inode: a removed one must live until it forgets it.

Numbers of inodes are dense, so counts stand in arrays of 1024: four bytes for an inode, where a
dict would take a hundred.
"""

from array import array

_SHIFT = 10
_SIZE = 1 << _SHIFT
_EMPTY = bytes(4 * _SIZE)


class References:
    """The kernel's lookup counts."""

    def __init__(self) -> None:
        self._chunks: dict[int, array[int]] = {}

    def add(self, ino: int) -> None:
        """One more: each reply that hands the kernel an entry."""
        chunk = self._chunks.get(ino >> _SHIFT)
        if chunk is None:
            chunk = self._chunks[ino >> _SHIFT] = array("I", _EMPTY)
        chunk[ino & _SIZE - 1] += 1

    def drop(self, ino: int, count: int) -> None:
        """`count` fewer: a FORGET. One too many, after a restart, is ignored."""
        chunk = self._chunks.get(ino >> _SHIFT)
        if chunk is not None:
            slot = ino & _SIZE - 1
            chunk[slot] = max(0, chunk[slot] - count)
            if not chunk[slot] and not any(chunk):
                del self._chunks[ino >> _SHIFT]

    def has(self, ino: int) -> bool:
        chunk = self._chunks.get(ino >> _SHIFT)
        return chunk is not None and chunk[ino & _SIZE - 1] > 0
