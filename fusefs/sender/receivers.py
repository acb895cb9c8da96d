"""Where a large file goes: into a staging file, which gets its name when it is complete.

`Asked` is a fusefs whose daemon says what is missing. `Compared` is any other directory: what the
staging file holds already is read and compared.
"""

import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from errno import ESTALE
from typing import NamedTuple, Protocol

from blake3 import blake3

from fusefs.errors import ContentDiffers, FusefsError, WrongUpload
from fusefs.model.extent import BLOCK_SIZE
from fusefs.sender.asking import Daemon, inner_path
from fusefs.sender.attributes import Attributes
from fusefs.sender.source import Buffer
from fusefs.sender.staging import staged_name

#: Blocks of one offer; what a daemon says is the same.
WINDOW_BLOCKS = 32
_THREADS = 2


class Place(NamedTuple):
    """`directory` and `name` of the target; `token` and `size` of the source."""

    directory: bytes
    name: bytes
    token: bytes
    size: int

    @property
    def path(self) -> bytes:
        return os.path.join(self.directory, self.name)

    @property
    def staged(self) -> bytes:
        """The path of the staging file."""
        return os.path.join(self.directory, staged_name(self.name, self.token))


class Offered(NamedTuple):
    """`missing`: positions of blocks. `is_taken`: another sender is at it."""

    missing: list[int]
    is_taken: bool = False


class Receiver(Protocol):
    """The staging file of one upload. All of them raise OSError and the classes of errors."""

    #: Bytes that were there when it was begun.
    present_bytes: int

    def begin(self) -> None:
        """Make or find the staging file."""

    def offer(self, window: int, digests: Sequence[bytes], root: bytes) -> Offered:
        """What is missing of a window; `root` with the last one, else empty."""

    def write(self, offset: int, content: Buffer) -> None:
        """Write a whole block; from any thread."""

    def finish(self, root: bytes) -> None:
        """Give it its name. Raises ContentDiffers, and more can be written then."""

    def withdraw(self) -> None:
        """The source has changed: it is not to get its name."""

    def close(self) -> None:
        """Let go of it as it is."""


class _Staging:
    """A staging file that is open."""

    def __init__(self, place: Place, attributes: Attributes) -> None:
        self.place = place
        self.attributes = attributes
        self.descriptor = -1
        self.present_bytes = 0

    def open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.descriptor = os.open(self.place.staged, flags, 0o600)
        if not stat.S_ISREG(os.fstat(self.descriptor).st_mode):
            raise WrongUpload(f"{os.fsdecode(self.place.staged)} is no ordinary file: remove it")

    def write(self, offset: int, content: Buffer) -> None:
        """See `Receiver.write`."""
        write_all(self.descriptor, content, offset)

    def close(self) -> None:
        """See `Receiver.close`."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


class Asked(_Staging):
    """A staging file in a fusefs."""

    def __init__(self, place: Place, attributes: Attributes, daemon: Daemon) -> None:
        super().__init__(place, attributes)
        self._daemon = daemon
        self._inner = inner_path(place.staged)
        self._id = 0

    def begin(self) -> None:
        """See `Receiver.begin`."""
        self.open()
        place = self.place
        # Before anything is written: a start of the daemon may be what finishes it.
        self.attributes.put_early(self.descriptor)
        answer = self._daemon.ask(
            "upload_begin", path=self._inner, token=place.token, size=place.size, name=place.name,
            pid=os.getpid(), mtime_ns=self.attributes.mtime_ns,
        )  # fmt: skip
        self._id = answer["id"]
        self.present_bytes = answer["present_bytes"]

    def offer(self, window: int, digests: Sequence[bytes], root: bytes) -> Offered:
        """See `Receiver.offer`."""
        answer = self._daemon.ask(
            "upload_offer", id=self._id, token=self.place.token, pid=os.getpid(), window=window,
            digests=b"".join(digests), root=root,
        )  # fmt: skip
        missing = [
            at
            for start, end in answer["missing"]
            for at in range(start // BLOCK_SIZE, -(-end // BLOCK_SIZE))
        ]
        return Offered(missing, answer["is_taken"])

    def write(self, offset: int, content: Buffer) -> None:
        """See `Receiver.write`."""
        try:
            super().write(offset, content)
        except OSError as error:
            # Another sender has finished it: the end says whether with the same content.
            if error.errno != ESTALE:
                raise

    def finish(self, root: bytes) -> None:
        """See `Receiver.finish`."""
        self.attributes.put(self.descriptor)
        self.close()
        try:
            self._daemon.ask(
                "upload_finish", id=self._id, token=self.place.token, root=root, pid=os.getpid()
            )
        except ContentDiffers:
            self.begin()
            raise

    def withdraw(self) -> None:
        """See `Receiver.withdraw`."""
        with suppress(FusefsError):  # then it is not there, or its daemon is gone
            self._daemon.ask("upload_withdraw", id=self._id, token=self.place.token)


class Compared(_Staging):
    """A staging file in any directory."""

    def __init__(self, place: Place, attributes: Attributes) -> None:
        super().__init__(place, attributes)
        self._kept = 0

    def begin(self) -> None:
        """See `Receiver.begin`."""
        self.open()
        self._kept = self.present_bytes = min(os.fstat(self.descriptor).st_size, self.place.size)
        self.attributes.put_early(self.descriptor)

    def offer(self, window: int, digests: Sequence[bytes], root: bytes) -> Offered:
        """See `Receiver.offer`."""
        first = window * WINDOW_BLOCKS
        positions = range(first, first + len(digests))
        if first * BLOCK_SIZE >= self._kept:
            return Offered(list(positions))
        with ThreadPoolExecutor(_THREADS) as threads:
            found = list(threads.map(self._digest, positions))
        pairs = zip(positions, found, digests, strict=True)
        return Offered([at for at, mine, digest in pairs if mine != digest])

    def _digest(self, at: int) -> bytes:
        start = at * BLOCK_SIZE
        wanted = min(BLOCK_SIZE, self.place.size - start)
        return blake3(os.pread(self.descriptor, wanted, start)).digest()

    def finish(self, root: bytes) -> None:
        """See `Receiver.finish`."""
        os.ftruncate(self.descriptor, self.place.size)
        self.attributes.put(self.descriptor)
        os.fsync(self.descriptor)
        self.close()
        os.rename(self.place.staged, self.place.path)
        sync_directory(self.place.directory)

    def withdraw(self) -> None:
        """See `Receiver.withdraw`. Nobody else would give it its name."""


def write_all(descriptor: int, content: Buffer, offset: int) -> None:
    """pwrite, until all of it is taken."""
    view = memoryview(content)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def sync_directory(path: bytes) -> None:
    """Make names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
