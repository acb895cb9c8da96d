"""What may still be written: the disk's free space less a reserve.

Users get ENOSPC while the log and the index still have room to work. The reserve is
max(1 %, 64 MiB) of the disk, but at most an eighth of it, so that small disks are usable. New data
stops at the reserve; changes that make names stop at half of it; deletions and the index's own
checkpoints may use the rest.

Who says beforehand how much is to come is promised the room for it, beside the reserve: other new
data stops there as well.
"""

import os
from collections.abc import Callable
from pathlib import Path

from fusefs.base.clock import Clock
from fusefs.base.units import readable_size
from fusefs.errors import DiskFull

_RECHECK_S = 1.0


class Space:
    """Free space of the disk under `directory`, asked for again when it may have changed enough."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._left = 0
        self._checked_at = float("-inf")
        self.reserve_bytes = 0
        #: Bytes that are promised, by who is going to write them: an inode number.
        self.promises: dict[int, int] = {}
        self._promised_bytes = 0
        #: Frees something of the disk that is not needed; False where there is no more of that.
        self.give_way: Callable[[], bool] = lambda: False
        self.refresh()

    def refresh(self) -> int:
        """Ask the disk; returns its free bytes."""
        disk = os.statvfs(self._directory)
        total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        self.reserve_bytes = min(max(total // 100, 64 << 20), total // 8)
        self._left = free
        self._checked_at = self._clock.monotonic()
        return free

    def admit_data(self, size: int, waiting: int = 0) -> None:
        """Take `size` bytes of new data, beside `waiting` bytes that are in memory only.

        Raises DiskFull.
        """
        self._admit(size, self.reserve_bytes + self._promised_bytes + waiting)

    def admit_name(self) -> None:
        """Take one change that makes something new. Raises DiskFull."""
        self._admit(4096, self.reserve_bytes // 2)

    def admit_removal(self) -> None:
        """Take one change that removes something. Raises DiskFull."""
        self._admit(0, self.reserve_bytes // 8)

    def promise(self, holder: int, size: int, waiting: int = 0) -> None:
        """Keep room for `size` bytes of `holder`, instead of what was promised to it before.

        Raises DiskFull if that is not there, and nothing has changed then.
        """
        others = self._promised_bytes - self.promises.get(holder, 0)
        room = self.refresh() - self.reserve_bytes - waiting - others
        if size > room:
            raise DiskFull(
                f"{self._directory}: {readable_size(size)} are to come and there is room for"
                f" {readable_size(max(0, room))}, with {readable_size(others)} promised to others:"
                " make room on the disk"
            )
        self.promises[holder] = size
        self._promised_bytes = others + size

    def use_promise(self, holder: int, size: int) -> None:
        """`holder` is about to write so much of what was promised to it, if anything was."""
        kept = self.promises.get(holder, 0)
        used = min(size, kept)
        self._promised_bytes -= used
        if used:
            self.promises[holder] = kept - used

    def release_promise(self, holder: int) -> None:
        """Keep no room for `holder` any more."""
        self._promised_bytes -= self.promises.pop(holder, 0)

    def _admit(self, size: int, kept: int) -> None:
        left = self._left - size
        if left - kept < 64 << 20 or self._clock.monotonic() - self._checked_at > _RECHECK_S:
            left = self.refresh() - size
            while left < kept and self.give_way():
                left = self.refresh() - size
            if left < kept:
                raise DiskFull(f"{self._directory}: the disk is full up to fusefs' reserve")
        self._left = left
