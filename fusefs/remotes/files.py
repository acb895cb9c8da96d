"""The seam for files under names of their own: what transfers read from and write to.

Beside `remotes.api`, whose objects are small, named by content and written once. A file here has
any size and any path, and comes to its final name by way of a temporary. Paths are bytes below the
place, parts separated by slashes.

All methods block, may be called by several threads at once, and raise the `RemoteError`s of
`fusefs.errors`; after `RemoteUnreachable` the same call may help.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from fusefs.errors import PayloadTooLarge
from fusefs.remotes.api import Buffer

#: What the name of a file begins with that is written only to see whether that is possible.
PROBE = b".fusefs-probe-"
#: What a folder is called that has only what is not ready yet, and is removed then.
PARTIAL = b".partial"


@dataclass(frozen=True)
class Quiet:
    """How long nothing may be seen to move though all is well: within one request, which fails by
    itself when it takes longer.

    `answer_s`: until an answer begins. `request_bytes`: of the largest request for content, which
    goes at `slowest` bytes a second at least. `copied`: bytes a second by which a service copies a
    file from name to name, 0 where no file is copied.
    """

    answer_s: float = 0.0
    request_bytes: int = 0
    slowest: int = 1
    copied: int = 0

    def seconds(self, size: int) -> float:
        """For a file of so many bytes."""
        copying_s = size / self.copied if self.copied else 0.0
        return self.answer_s + max(min(size, self.request_bytes) / self.slowest, copying_s)


@dataclass(frozen=True)
class FileCapabilities:
    """What one place can do and another cannot.

    `can_resume`: a file that was cut off is there as far as it came, and may be gone on with by
    `write`; otherwise it comes whole by `write_whole`, with at most `whole_bytes`, None being any.
    """

    can_resume: bool
    whole_bytes: int | None = None
    quiet: Quiet = Quiet()


class Seen(NamedTuple):
    """A file. `version`: changes when the content does, as far as the place can tell."""

    path: bytes
    size: int
    version: str


class Reader(Protocol):
    """An open file."""

    def read(self, start: int, size: int) -> bytes:
        """Up to `size` bytes from `start`; none only at the end."""

    def close(self) -> None: ...


class Writer(Protocol):
    """A file that is written from some byte on."""

    def write(self, content: Buffer) -> None:
        """Append; survives the end of this process, as far as the place promises."""

    def sync(self) -> None:
        """Make durable what was written, as far as the place promises durability at all."""

    def close(self) -> None: ...


class Files(Protocol):
    """A place for files."""

    @property
    def capabilities(self) -> FileCapabilities: ...

    @property
    def place(self) -> str:
        """Its address for people and messages: no secrets in it."""

    def look(self, path: bytes) -> Seen | None:
        """The file at `path`; None if there is none, or it is something else."""

    def walk(self, path: bytes) -> Iterator[Seen]:
        """All files below the directory or prefix `path`, the empty one being the place itself;
        none where there is none. Symbolic links to directories are not followed."""

    def has_folder(self, path: bytes) -> bool:
        """Whether `path` is a directory, or a prefix that some file has."""

    def check_readable(self) -> None:
        """Raises RemoteMissing, RemoteDenied, RemoteUnreachable."""

    def check_writable(self) -> None:
        """Raises RemoteMissing, RemoteDenied, RemoteReadOnly, RemoteUnreachable."""

    def check_fits(self, path: bytes, size: int) -> None:
        """Raises PayloadTooLarge, BadTransfer for a file that the place can never take."""

    def reader(self, path: bytes) -> Reader:
        """Raises NoSuchObject."""

    def writer(self, path: bytes, start: int) -> Writer:
        """Go on with a file from `start`, what is behind it being cut off; from 0 a new one is
        made, with the directories above it. Needs `can_resume`. Raises NoSuchObject where a file
        that is to be gone on with has vanished, or is shorter."""

    def patch(self, path: bytes, start: int, content: Buffer) -> None:
        """Replace bytes in the midst of a file, durably. Needs `can_resume`."""

    def write_whole(self, path: bytes, parts: Iterable[bytes]) -> None:
        """Store a file whole, replacing another; durable on return. Cut off, anything may be there.

        Raises RemoteFull, RemoteReadOnly.
        """

    def rename(self, path: bytes, new: bytes) -> None:
        """Give a file another name, replacing what has that; durable on return. At every instant
        the new name has the old content, or the new, whole. Where it takes two steps and only one
        was made, the old name is there still. Raises NoSuchObject."""

    def remove(self, path: bytes) -> bool:
        """Remove a file; whether there was one."""

    def remove_folder(self, path: bytes) -> None:
        """Remove a directory and all below it; nothing where there is none."""

    def free_bytes(self) -> int | None:
        """Room for more, or None where the place does not say."""

    def room(self) -> str:
        """A name for the space that `free_bytes` is of, shared by places that share it."""

    def close(self) -> None:
        """Let go of connections. No other call is under way or comes."""


class ReadAhead:
    """A reader that asks `read` for `ahead_bytes` at least, because each question costs a way to
    the other machine and back."""

    def __init__(self, read: Callable[[int, int], bytes], ahead_bytes: int) -> None:
        self._read = read
        self._ahead_bytes = ahead_bytes
        self._start = 0
        self._ahead = b""

    def read(self, start: int, size: int) -> bytes:
        if not self._start <= start < self._start + len(self._ahead):
            self._ahead = self._read(start, max(size, self._ahead_bytes))
            self._start = start
        at = start - self._start
        return self._ahead[at : at + size]

    def close(self) -> None:
        self._ahead = b""


def check_whole(files: Files, path: bytes, size: int) -> None:
    """Raises PayloadTooLarge for a file that is larger than what comes whole."""
    most = files.capabilities.whole_bytes
    if most is not None and size > most:
        raise PayloadTooLarge(
            f"{path.decode(errors='backslashreplace')} has {size} bytes: {files.place} takes files"
            f" of at most {most} bytes"
        )


def read_fully(reader: Reader, start: int, size: int) -> bytes:
    """`size` bytes from `start`, fewer only at the end of the file."""
    content = reader.read(start, size)
    while len(content) < size and (more := reader.read(start + len(content), size - len(content))):
        content += more
    return content
