"""One large file: read, offer, send what is missing, end."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from blake3 import blake3

from fusefs.errors import ContentDiffers, SourceChanged
from fusefs.model.extent import BLOCK_SIZE
from fusefs.sender.receivers import WINDOW_BLOCKS, Receiver
from fusefs.sender.source import Source

#: Blocks that are on their way through the kernel at a time.
_WRITERS = 2
#: Between two looks at windows that another sender is at.
_LOOK_EVERY_S = 0.1

#: Told of bytes that are done, and whether they had to be sent.
Progress = Callable[[int, bool], None]


class Transfer:
    """Sends one source to one receiver, which is begun."""

    def __init__(self, source: Source, receiver: Receiver, progress: Progress) -> None:
        self._source = source
        self._receiver = receiver
        self._progress = progress
        self._blocks = -(-source.size // BLOCK_SIZE)
        self._windows = -(-self._blocks // WINDOW_BLOCKS)
        self._sending: list[Future[None]] = []

    def run(self) -> None:
        """Returns when the file has its name.

        Raises SourceChanged, ContentDiffers, DiskFull, DaemonFailed and the like, OSError.
        """
        with ThreadPoolExecutor(_WRITERS) as writers:
            try:
                root = self._send_all(writers)
            except SourceChanged:
                self._receiver.withdraw()
                raise
            finally:
                for one in self._sending:
                    one.cancel()
        try:
            self._receiver.finish(root)
        except ContentDiffers:
            # Somebody else wrote to it, or to its source: only once more.
            with ThreadPoolExecutor(_WRITERS) as writers:
                self._send_windows(writers, list(range(self._windows)), root)
            self._receiver.finish(root)

    def _send_all(self, writers: ThreadPoolExecutor) -> bytes:
        """Returns the root hash."""
        hasher = blake3()
        taken = []
        root = b""
        for window in range(self._windows):
            digests = self._source.digests(window)
            for digest in digests:
                hasher.update(digest)
            if window == self._windows - 1:
                self._source.check()  # from here on the daemon alone may end it
                root = hasher.digest()
            if not self._send_window(writers, window, digests, root):
                taken.append(window)
        self._send_windows(writers, taken, root)
        self._source.check()
        return hasher.digest()

    def _send_windows(self, writers: ThreadPoolExecutor, windows: list[int], root: bytes) -> None:
        """Send windows whose digests are known, as soon as no other sender is at them; waits until
        all is sent."""
        while windows:
            left = [
                window
                for window in windows
                if not self._send_window(writers, window, self._source.digests(window), root)
            ]
            if len(left) == len(windows):
                time.sleep(_LOOK_EVERY_S)
            windows = left
        self._wait()

    def _send_window(
        self, writers: ThreadPoolExecutor, window: int, digests: list[bytes], root: bytes
    ) -> bool:
        """Whether no other sender is at it: what is missing of it is on its way then."""
        is_last = window == self._windows - 1
        offered = self._receiver.offer(window, digests, root if is_last else b"")
        first = window * WINDOW_BLOCKS
        missing = set(offered.missing)
        there = [at for at in range(first, first + len(digests)) if at not in missing]
        self._source.done(there)
        if offered.is_taken:
            return False
        for at in there:
            self._progress(self._length(at), False)
        self._wait(of_one_window=True)
        self._sending += [writers.submit(self._send, at) for at in offered.missing]
        return True

    def _length(self, at: int) -> int:
        return min(BLOCK_SIZE, self._source.size - at * BLOCK_SIZE)

    def _send(self, at: int) -> None:
        try:
            self._receiver.write(at * BLOCK_SIZE, self._source.take(at))
        finally:
            self._source.done([at])
        self._progress(self._length(at), True)

    def _wait(self, *, of_one_window: bool = False) -> None:
        """Until all is sent, or all but the last window; raises what sending has raised."""
        keep = WINDOW_BLOCKS if of_one_window else 0
        while len(self._sending) > keep:
            self._sending.pop(0).result()
