"""The numbers that a store gives out."""

import msgspec

from fusefs.model import keys


class Counters(msgspec.Struct):
    """The highest numbers given out so far."""

    ino: int = 2
    block: int = 0
    cookie: int = 3  # of names, batches, jobs; up to 3: those of ., .. and .trash

    def take(self, key: bytes) -> None:
        """The number in `key`, if it has one of these, is given out."""
        table = key[:1]
        if table == keys.INODE:
            self.ino = max(self.ino, keys.number(key))
        elif table == keys.BLOCK:
            self.block = max(self.block, keys.number(key))
        elif table == keys.ORDER:
            self.cookie = max(self.cookie, keys.second(key))
        elif table in (keys.BATCH, keys.JOB):
            self.cookie = max(self.cookie, keys.number(key))
