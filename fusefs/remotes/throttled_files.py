"""Files whose bytes are within the bandwidth of a place: what transfers read and write.

Only payload is counted: listings, renames and what a service copies by itself are not. A wait may
be long, as a limit may be low and others share it; `waiting` hears of it, as a sign of life.
"""

from collections.abc import Callable, Iterable, Iterator

from fusefs.errors import RemoteUnreachable
from fusefs.remotes.api import Buffer
from fusefs.remotes.around import AroundFiles
from fusefs.remotes.files import Files, Reader, Writer
from fusefs.remotes.throttle import Bucket


class ThrottledFiles(AroundFiles):
    """Those of `files`, paid for from two buckets, which others may share.

    `waiting`: called again and again while one is empty, in the thread that waits; may raise to end
    the wait.
    """

    def __init__(self, files: Files, up: Bucket, down: Bucket, waiting: Callable[[], None]) -> None:
        super().__init__(files)
        self._up, self._down = up, down
        self._waiting = waiting

    def reader(self, path: bytes) -> Reader:
        return _Reader(self.files.reader(path), self.pay_down)

    def writer(self, path: bytes, start: int) -> Writer:
        return _Writer(self.files.writer(path, start), self.pay_up)

    def patch(self, path: bytes, start: int, content: Buffer) -> None:
        self.pay_up(memoryview(content).nbytes)
        self.files.patch(path, start, content)

    def write_whole(self, path: bytes, parts: Iterable[bytes]) -> None:
        def paid() -> Iterator[bytes]:
            for part in parts:
                self.pay_up(len(part))
                yield part

        self.files.write_whole(path, paid())

    def pay_up(self, size: int) -> None:
        self._pay(self._up, size)

    def pay_down(self, size: int) -> None:
        self._pay(self._down, size)

    def _pay(self, bucket: Bucket, size: int) -> None:
        if not bucket.take(size, self._waiting):
            raise RemoteUnreachable(f"{self.place}: stopped while waiting for the bandwidth limit")


class _Reader:
    """Pays for what it gives."""

    def __init__(self, reader: Reader, pay: Callable[[int], None]) -> None:
        self._reader = reader
        self._pay = pay

    def read(self, start: int, size: int) -> bytes:
        content = self._reader.read(start, size)
        self._pay(len(content))
        return content

    def close(self) -> None:
        self._reader.close()


class _Writer:
    """Pays for what it writes."""

    def __init__(self, writer: Writer, pay: Callable[[int], None]) -> None:
        self._writer = writer
        self._pay = pay

    def write(self, content: Buffer) -> None:
        self._pay(memoryview(content).nbytes)
        self._writer.write(content)

    def sync(self) -> None:
        self._writer.sync()

    def close(self) -> None:
        self._writer.close()
