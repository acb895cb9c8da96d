"""The rows of a store as a mount would find them: the last checkpoint, the log replayed over it.

The replay is in memory and the log stays as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from fusefs.store import identity
from fusefs.store.index import Index
from fusefs.store.log import Position
from fusefs.store.recovery import Replay, replay


class Rows(Protocol):
    """Rows that can be looked up and listed in order."""

    def get(self, key: bytes) -> bytes | None:
        """The row at `key`."""

    def scan(self, start: bytes, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows from `start` on while keys begin with `prefix` (default: `start`)."""


class View:
    """An index with newer rows laid over it. `replayed` tells what the log added."""

    def __init__(self, index: Index, segments: Path, uuid: bytes) -> None:
        self._index = index
        self._newer: dict[bytes, bytes | None] = {}
        book = index.book("position")
        self.checkpoint = Position(*msgspec.msgpack.decode(book)) if book else Position(0, 0)
        self.replayed: Replay = replay(
            segments, uuid, self.checkpoint, self._newer.update, cut=False
        )
        self._newer_keys = sorted(self._newer)

    def get(self, key: bytes) -> bytes | None:
        return self._newer[key] if key in self._newer else self._index.get(key)

    def scan(self, start: bytes, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        if prefix is None:
            prefix = start
        newer = iter([k for k in self._newer_keys if k >= start and k.startswith(prefix)])
        pending = next(newer, None)
        for key, row in self._index.scan(start, prefix):
            while pending is not None and pending <= key:
                value = self._newer[pending]
                if value is not None:
                    yield pending, value
                pending = next(newer, None)
            if key not in self._newer:
                yield key, row
        while pending is not None:
            value = self._newer[pending]
            if value is not None:
                yield pending, value
            pending = next(newer, None)


@contextmanager
def view(store: Path) -> Iterator[View]:
    """The rows of the store at `store`. Raises NotAStore, FormatTooNew, StoreDamaged."""
    known = identity.read(store)
    index = Index(store / "index", read_only=True)
    try:
        yield View(index, store / "segments", known.uuid_bytes)
    finally:
        index.close()
