"""The file that is read, block by block, with its digests.

It is read once, a few windows ahead of the sender, by threads that hash what they read; what has to
be sent is sent from memory. One that changes meanwhile is noticed, and never completed.
"""

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Protocol, Self

from blake3 import blake3

from fusefs.errors import SourceChanged
from fusefs.model.extent import BLOCK_SIZE
from fusefs.sender.asking import Daemon

_THREADS = 2
#: Windows that are read ahead of the one that is sent: memory for three of them is needed.
_AHEAD = 1

Buffer = bytes | bytearray | memoryview


class Source(Protocol):
    """A file to be sent. `size`: bytes."""

    size: int

    def digests(self, window: int) -> list[bytes]:
        """The digests of the blocks of a window; to be called for one after the other.

        Raises SourceChanged, OSError.
        """

    def take(self, at: int) -> Buffer:
        """The content of a block whose digest was told. Raises SourceChanged, OSError."""

    def done(self, positions: Sequence[int]) -> None:
        """These blocks are not needed any more, for now."""

    def check(self) -> None:
        """Raises SourceChanged if it is not as it was when it was opened."""


class OpenSource:
    """A file that is open for reading, and how it was then."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.status = os.fstat(self.descriptor)
        self.size = self.status.st_size

    def check(self) -> None:
        """See `Source.check`."""
        now = os.fstat(self.descriptor)
        if (now.st_size, now.st_mtime_ns) != (self.size, self.status.st_mtime_ns):
            raise self.changed()

    def changed(self) -> SourceChanged:
        return SourceChanged(
            f"{os.fsdecode(self.path)} changed while it was read: copy it again when nobody"
            " writes to it"
        )

    def read(self, at: int, buffer: bytearray) -> memoryview:
        """The block at a position, in `buffer`. Raises SourceChanged where it ends too early."""
        start = at * BLOCK_SIZE
        wanted = min(BLOCK_SIZE, self.size - start)
        view = memoryview(buffer)[:wanted]
        found = 0
        while found < wanted:
            count = os.preadv(self.descriptor, [view[found:]], start + found)
            if not count:
                raise self.changed()
            found += count
        return view

    def read_again(self, at: int, digest: bytes) -> memoryview:
        """A block that has been read before. Raises SourceChanged if it is another now."""
        view = self.read(at, bytearray(BLOCK_SIZE))
        if blake3(view).digest() != digest:
            raise self.changed()
        return view

    def close(self) -> None:
        os.close(self.descriptor)


class ReadSource:
    """A source whose digests are found by reading all of it."""

    def __init__(self, file: OpenSource, window_blocks: int) -> None:
        self._file = file
        self.size = file.size
        self.check = file.check
        self._blocks = -(-file.size // BLOCK_SIZE)
        self._window_blocks = window_blocks
        self._threads = ThreadPoolExecutor(_THREADS)
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._made = 0
        self._next = 0  # window to be read
        self._reading: deque[list[Future[bytes]]] = deque()
        self._kept: dict[int, tuple[bytearray, memoryview]] = {}
        self._digests: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.shutdown(cancel_futures=True)

    def digests(self, window: int) -> list[bytes]:
        """See `Source.digests`."""
        first = window * self._window_blocks
        if first in self._digests:
            last = min(first + self._window_blocks, self._blocks)
            return [self._digests[at] for at in range(first, last)]
        while self._next <= window + _AHEAD and self._next * self._window_blocks < self._blocks:
            self._begin(self._next)
            self._next += 1
        found = [future.result() for future in self._reading.popleft()]
        self._digests.update(enumerate(found, first))
        return found

    def _begin(self, window: int) -> None:
        first = window * self._window_blocks
        last = min(first + self._window_blocks, self._blocks)
        # Buffers are taken here and not by the threads, which so never wait for each other.
        buffers = [self._buffer() for _ in range(first, last)]
        self._reading.append(
            [
                self._threads.submit(self._read, at, buffer)
                for at, buffer in zip(range(first, last), buffers, strict=True)
            ]
        )

    def _buffer(self) -> bytearray:
        if self._made < (_AHEAD + 2) * self._window_blocks:
            self._made += 1
            return bytearray(BLOCK_SIZE)
        return self._free.get()

    def _read(self, at: int, buffer: bytearray) -> bytes:
        view = self._file.read(at, buffer)
        self._kept[at] = buffer, view
        return blake3(view).digest()

    def take(self, at: int) -> Buffer:
        """See `Source.take`."""
        kept = self._kept.get(at)
        return kept[1] if kept else self._file.read_again(at, self._digests[at])

    def done(self, positions: Sequence[int]) -> None:
        """See `Source.done`."""
        for at in positions:
            if (kept := self._kept.pop(at, None)) is not None:
                self._free.put(kept[0])


class KnownSource:
    """A source in a fusefs, whose daemon knows the digests: only what has to be sent is read."""

    def __init__(self, file: OpenSource, window_blocks: int, daemon: Daemon, inner: bytes) -> None:
        self._file = file
        self.size = file.size
        self.check = file.check
        self._window_blocks = window_blocks
        self._daemon = daemon
        self._inner = inner
        self._digests: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is kept."""

    def digests(self, window: int) -> list[bytes]:
        """See `Source.digests`."""
        first = window * self._window_blocks
        count = min(self._window_blocks, -(-self.size // BLOCK_SIZE) - first)
        if first not in self._digests:
            answer = self._daemon.ask("upload_digests", path=self._inner, first=first, count=count)[
                "digests"
            ]
            if len(answer) != count:
                raise self._file.changed()
            for at, digest in enumerate(answer, first):
                # What is lost is read all the same, so that the read says why it cannot be.
                self._digests[at] = bytes.fromhex(digest) if digest else self._hash(at)
        return [self._digests[at] for at in range(first, first + count)]

    def _hash(self, at: int) -> bytes:
        return blake3(self._file.read(at, bytearray(BLOCK_SIZE))).digest()

    def take(self, at: int) -> Buffer:
        """See `Source.take`."""
        return self._file.read_again(at, self._digests[at])

    def done(self, positions: Sequence[int]) -> None:
        """Nothing is kept."""
