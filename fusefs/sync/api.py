"""The seam: what bringing a store into a remote needs of who writes to the store.

`daemon.syncing` answers, and `agent.syncing` asks it over the control socket.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from fusefs.sync.layout import Checkpoint, Place, Segment


class Elsewhere(NamedTuple):
    """Another remote that has a segment, under `name`."""

    remote: str
    name: str
    size: int
    digest: bytes


class Wanted(NamedTuple):
    """A segment to be sent, and where it can be had."""

    segment: int
    is_here: bool
    elsewhere: tuple[Elsewhere, ...] = ()

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Wanted":
        """As `daemon.syncing` describes it over the control socket."""
        copies = (
            Elsewhere(one["remote"], one["name"], one["size"], bytes.fromhex(one["digest"]))
            for one in record["elsewhere"]
        )
        return cls(record["segment"], record["is_here"], tuple(copies))


class Cut(NamedTuple):
    """See `daemon.syncing.Cut`; `tables`: the numbers with which they begin."""

    number: int
    end: Place
    time_ns: int
    counters: bytes
    tables: Sequence[int]


class Table(NamedTuple):
    """Of the segments of one table of a cut: those that are in the remote, those that lack."""

    segments: list[Segment]
    lacking: list[Wanted]


class Source(Protocol):
    """The store's writer, as a remote is brought up to date. Each call may raise DaemonFailed."""

    def cut(self) -> Cut:
        """End the log durably."""

    def table(self, cut: Cut, first: int) -> Table:
        """What a cut needs of the segments from `first` on. Raises WrongState: it is an old cut."""

    def stored(self, segments: list[Segment]) -> None:
        """These are in the remote; remembered on return."""

    def published(self, sequence: int, cut: Cut) -> None:
        """The checkpoint of a cut is in the remote; remembered on return."""

    def recovered(self, checkpoint: Checkpoint) -> None:
        """So is one of which that was never said."""

    def fetch(self, copy: Elsewhere) -> bytes:
        """A segment out of another remote. Raises RemoteError."""

    def tell(self, doing: str, sent_bytes: int = 0, sent_objects: int = 0) -> None:
        """What is being done, and what went out since the last call."""
