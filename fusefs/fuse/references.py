"""How often the kernel refers to each inode: a removed one must live until it forgets it."""

from fusefs.base.counts import SHIFT, SIZE, Counts


class References(Counts):
    """The kernel's lookup counts: one more for each reply that hands it an entry."""

    def drop(self, ino: int, count: int) -> None:
        """`count` fewer: a FORGET. One too many, after a restart, is ignored."""
        chunk = self._chunks.get(ino >> SHIFT)
        if chunk is not None:
            slot = ino & SIZE - 1
            chunk[slot] = max(0, chunk[slot] - count)
            if not chunk[slot] and not any(chunk):
                del self._chunks[ino >> SHIFT]

    def has(self, ino: int) -> bool:
        return self.of(ino) > 0
