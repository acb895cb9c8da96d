"""A remote around a remote: what wrappers have in common. Alone it changes nothing."""

from collections.abc import Collection, Iterator

from fusefs.remotes.api import Buffer, Capabilities, Found, Remote


class Around:
    """Passes everything on; a wrapper overrides what it is about."""

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
