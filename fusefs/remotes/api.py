"""The seam: what a remote is to everybody above it.

An object is a name and its bytes, written once and whole. Names are relative paths of letters,
digits, ``. _ -`` and single slashes, at most 200 bytes; no part of one begins with a dot.

All methods block, may be called by several threads at once, and raise the `RemoteError`s of
`fusefs.errors`; `RemoteUnreachable` is the only one after which the same call may help, and says
so for every method here: each may be repeated safely.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

#: Of an object: larger ones are the business of who cuts them up.
MAX_OBJECT_BYTES = 64 << 20
MAX_NAME_BYTES = 200

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Capabilities:
    """What one remote can do and another cannot.

    `is_conditional`: of two `put`s of one name at the same time only one succeeds, whatever
    machines they come from; otherwise `put` looks first, and a race is possible.
    `knows_free_space`: `free_bytes` answers.
    """

    is_conditional: bool
    knows_free_space: bool = False


class Found(NamedTuple):
    """One object of a listing. `modified_ns`: wall time of the remote, 0 where it does not say."""

    name: str
    size: int
    modified_ns: int = 0


class Remote(Protocol):
    """A place for objects."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def place(self) -> str:
        """Its address for people and messages: no secrets in it."""

    def put(self, name: str, content: Buffer) -> bool:
        """Store an object whole, if there is none of that name; whether there was none.

        On return it is durable as far as the remote promises durability at all, and visible to
        everybody. Cut off anywhere, there is nothing under the name. Repeating a call whose answer
        was lost returns False. Raises RemoteFull, RemoteReadOnly, RemoteDenied, RemoteUnreachable.
        """

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """`size` bytes of an object from `start`, or all from there; fewer where it ends before.

        Raises NoSuchObject, RemoteUnreachable, RemoteDenied.
        """

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        """Of these objects, those that are there, with their bytes."""

    def list(self, prefix: str) -> Iterator[Found]:
        """All objects whose names begin with `prefix`, which is empty or ends with a slash.

        In any order; one that comes or goes meanwhile is in it or not.
        """

    def delete(self, name: str) -> bool:
        """Remove an object; whether there was one. Durable on return, as with `put`."""

    def free_bytes(self) -> int | None:
        """Room for more, or None where the remote does not say."""

    def close(self) -> None:
        """Let go of connections. No other call is under way or comes."""
