"""A remote around a remote, and files around files: what wrappers have in common.

Each passes everything on; a wrapper overrides what it is about.
"""

from collections.abc import Collection, Iterable, Iterator

from fusefs.remotes.api import Buffer, Capabilities, Found, Remote
from fusefs.remotes.files import FileCapabilities, Files, Reader, Seen, Writer


class Around:
    """A remote that is all of another."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    @property
    def capabilities(self) -> Capabilities:
        return self.remote.capabilities

    @property
    def place(self) -> str:
        return self.remote.place

    def put(self, name: str, content: Buffer) -> bool:
        return self.remote.put(name, content)

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        return self.remote.get(name, start, size)

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        return self.remote.sizes(names)

    def list(self, prefix: str) -> Iterator[Found]:
        return self.remote.list(prefix)

    def delete(self, name: str) -> bool:
        return self.remote.delete(name)

    def free_bytes(self) -> int | None:
        return self.remote.free_bytes()

    def close(self) -> None:
        self.remote.close()


class AroundFiles:
    """Files that are all of others."""

    def __init__(self, files: Files) -> None:
        self.files = files

    @property
    def capabilities(self) -> FileCapabilities:
        return self.files.capabilities

    @property
    def place(self) -> str:
        return self.files.place

    def look(self, path: bytes) -> Seen | None:
        return self.files.look(path)

    def walk(self, path: bytes) -> Iterator[Seen]:
        return self.files.walk(path)

    def has_folder(self, path: bytes) -> bool:
        return self.files.has_folder(path)

    def check_readable(self) -> None:
        self.files.check_readable()

    def check_writable(self) -> None:
        self.files.check_writable()

    def check_fits(self, path: bytes, size: int) -> None:
        self.files.check_fits(path, size)

    def reader(self, path: bytes) -> Reader:
        return self.files.reader(path)

    def writer(self, path: bytes, start: int) -> Writer:
        return self.files.writer(path, start)

    def patch(self, path: bytes, start: int, content: Buffer) -> None:
        self.files.patch(path, start, content)

    def write_whole(self, path: bytes, parts: Iterable[bytes]) -> None:
        self.files.write_whole(path, parts)

    def rename(self, path: bytes, new: bytes) -> None:
        self.files.rename(path, new)

    def remove(self, path: bytes) -> bool:
        return self.files.remove(path)

    def remove_folder(self, path: bytes) -> None:
        self.files.remove_folder(path)

    def free_bytes(self) -> int | None:
        return self.files.free_bytes()

    def room(self) -> str:
        return self.files.room()

    def close(self) -> None:
        self.files.close()
