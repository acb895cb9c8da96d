"""What the daemon has its agent do for transfers, as it goes over the control socket.

What a role asks of `api.Carrier` becomes an order with an id, which no other daemon uses either.
The agent asks for orders, says how far they are, and what came of each.
"""

import msgspec


class Place(msgspec.Struct, frozen=True):
    """An endpoint that can be gone to: a directory, or a URL with what `remotes.address` needs.

    `directory` is empty for a URL. `path`: below either. `is_encrypted`: what is there is so, under
    the key of the remote at that URL.
    """

    directory: bytes = b""
    url: str = ""
    secrets: str = ""
    limit: str = ""
    path: bytes = b""
    is_encrypted: bool = False


class Group(msgspec.Struct, frozen=True):
    """Files of one source."""

    source: Place
    files: tuple[bytes, ...]


class SurveyOrder(msgspec.Struct, tag="survey", frozen=True):
    """Look at both ends."""

    id: str
    groups: tuple[Group, ...]
    destination: Place
    most_files: int


class MoveOrder(msgspec.Struct, tag="move", frozen=True):
    """Bring one file to its final name."""

    id: str
    transfer: str
    number: int
    source: Place
    destination: Place
    path: bytes
    size: int


class ManifestOrder(msgspec.Struct, tag="manifest", frozen=True):
    """Put the manifest in place, and remove what temporaries are left."""

    id: str
    transfer: str
    destination: Place
    content: str


class CleanOrder(msgspec.Struct, tag="clean", frozen=True):
    """Remove temporaries and manifest."""

    id: str
    transfer: str
    destination: Place


Order = SurveyOrder | MoveOrder | ManifestOrder | CleanOrder


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a file or a manifest: bytes that are good at the destination, and that were sent this
    time. The same once more is a sign of life."""

    id: str
    good: int
    sent: int


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`kind`: a class of `fusefs.errors`."""

    kind: str
    message: str


class Orders(msgspec.Struct, frozen=True):
    """The answer to ``move_orders``: what is to be done beside what is under way, and which of that
    is to end."""

    orders: tuple[Order, ...]
    withdrawn: tuple[str, ...]
