"""A remote that is not filled to its last byte.

Where it says how much room it has, that is looked at before something is sent: a disk that is full
to the last byte is trouble for everybody else who uses it, and so is one that refuses an object
when most of it has gone over the line. What it says is believed for some seconds, less what is sent
meanwhile. Where it says nothing, it tells by itself that it is full.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fusefs.base.clock import Clock
from fusefs.errors import RemoteFull
from fusefs.remotes.api import Buffer, Remote
from fusefs.remotes.around import Around

#: Kept free for others: a file system is slow near its end, and one segment fits.
MARGIN_BYTES = 16 << 20
#: How long an answer is believed: others write there as well.
_BELIEVED_S = 5.0


class Spared(Around):
    """Sends to `remote` only what leaves `margin` bytes there. Raises RemoteFull."""

    def __init__(self, remote: Remote, clock: Clock, margin: int = MARGIN_BYTES) -> None:
        super().__init__(remote)
        self._clock = clock
        self._margin = margin
        self._lock = threading.Lock()
        self._free: int | None = None
        self._looked_s = -_BELIEVED_S
        self._is_silent = False
        self._under_way = 0

    def put(self, name: str, content: Buffer) -> bool:
        size = memoryview(content).nbytes
        with self._reserved(name, size):
            return self.remote.put(name, content)

    @contextmanager
    def _reserved(self, name: str, size: int) -> Iterator[None]:
        with self._lock:
            if not self._is_silent:
                self._require(name, size)
            self._under_way += size
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= size
                if self._free is not None:
                    self._free -= size

    def _require(self, name: str, size: int) -> None:
        """Raises RemoteFull unless so much fits beside what is on its way."""
        is_old = self._clock.monotonic() - self._looked_s >= _BELIEVED_S
        if is_old or not self._fits(size):
            self._free = self.remote.free_bytes()
            self._looked_s = self._clock.monotonic()
            self._is_silent = self._free is None
        if not self._fits(size):
            assert self._free is not None
            raise RemoteFull(
                f"{self.place}: {name}: no room is left there: {_mib(self._free)} MiB are free, of"
                f" which {_mib(self._margin)} stay free: it goes on when there is more"
            )

    def _fits(self, size: int) -> bool:
        if self._free is None:
            return True
        return self._free - self._under_way - size >= self._margin


def _mib(size: int) -> int:
    return max(size, 0) >> 20
