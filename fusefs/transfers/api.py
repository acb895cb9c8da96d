"""The seam: who touches sources and destinations for the roles.

All that waits for a disk of others, a network or a bucket is behind `Carrier`, the same for every
kind of endpoint; the roles never do it themselves. Every call may be repeated: what was done stays
done, and what was begun is gone on with. A call that is cancelled withdraws what it asked for;
`settled` says when nothing of it goes on any more.

All methods raise classes of `fusefs.errors`: `RemoteUnreachable` is the one after which the same
call may succeed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from fusefs.model.transfer import Endpoint, Move


class Found(msgspec.Struct, array_like=True, frozen=True):
    """A file of a source: `move` is its position among those asked for. `error`: why it cannot be
    moved, such as that it does not exist; empty if nothing speaks against it. `unfit`: why the
    destination can never take it, and `unfit_kind` which error that is."""

    move: int
    path: bytes
    size: int
    error: str = ""
    unfit: str = ""
    unfit_kind: str = ""


class Surveyed(msgspec.Struct, frozen=True):
    """What lies at both ends before anything is recorded.

    `free_bytes`: room at the destination, None where it does not say; `room`: a name for the space
    that this is of, the same for all destinations that share it.
    """

    files: tuple[Found, ...]
    free_bytes: int | None = None
    room: str = ""


@dataclass(frozen=True)
class Payload:
    """One file to move to its final name at the destination.

    `number`: of the file, for the name of its temporary. `size`: as it was seen before.
    """

    transfer: bytes
    number: int
    source: Endpoint
    destination: Endpoint
    path: bytes
    size: int


class Moved(msgspec.Struct, frozen=True):
    """One file under its final name: what was read back there is what the source has.

    `sent_bytes`: handed to the destination for it this time; `resumed_bytes`: that were there from
    before.
    """

    size: int
    blake3: bytes
    sha256: bytes
    sent_bytes: int
    resumed_bytes: int = 0


#: Told how many bytes of a file are good at the destination, and how many were sent this time.
OnProgress = Callable[[int, int], None]


class Carrier(Protocol):
    """Brings files from endpoints to endpoints."""

    async def survey(self, moves: Sequence[Move], destination: Endpoint) -> Surveyed:
        """Look at both ends: directories among the files are replaced by the files below them.

        Raises UnknownEndpoint for an end that does not exist, BadTransfer for one that cannot be
        what it is to be, RemoteDenied, RemoteUnreachable.
        """

    async def is_staged(self, source: Endpoint, paths: Sequence[bytes]) -> bool:
        """Whether the files can be read at once."""

    async def stage(self, source: Endpoint, paths: Sequence[bytes]) -> None:
        """Return when the files can be read at once."""

    async def move(self, payload: Payload, on_progress: OnProgress) -> Moved:
        """Bring one file to its final name: as a temporary, verified, made durable, renamed.

        What an earlier call brought is kept where it verifies. Raises NoSuchObject if the source
        has gone, SourceChanged, ContentDiffers (nothing is kept of it), RemoteFull and the like.
        """

    async def put_manifest(
        self, transfer: bytes, destination: Endpoint, content: bytes, on_progress: OnProgress
    ) -> str:
        """Put the manifest in place, as a temporary first, and remove what temporaries are left;
        returns where it lies."""

    async def clean(self, transfer: bytes, destination: Endpoint) -> None:
        """Remove the temporaries and the manifest of a transfer that has failed or was canceled."""

    async def settled(self, transfer: bytes) -> None:
        """Return when nothing goes on for the transfer that was withdrawn."""

    async def all_settled(self) -> None:
        """Return when nothing goes on that was withdrawn: no file is open for it."""
