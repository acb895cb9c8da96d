"""The rows of a store as a mount would find them: the last checkpoint, the log replayed over it.

The replay is in memory and the log stays as it is. A daemon may go on writing: the checkpoint is
pinned by a read transaction, and the log behind it only grows. What it appends after the replay is
not seen; what it appends just then may look torn, which `is_torn` settles later.
"""

import os
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from fusefs.errors import StoreDamaged
from fusefs.model.totals import COUNTED, Totals
from fusefs.store import format, identity
from fusefs.store.cipher import Cipher
from fusefs.store.counters import Counters
from fusefs.store.index import WAY_OUT, Index
from fusefs.store.log import Position
from fusefs.store.presence import copied_size
from fusefs.store.probe import probe
from fusefs.store.recovery import Replay, list_segments, replay


class Rows(Protocol):
    """Rows that can be looked up and listed in order."""

    def get(self, key: bytes) -> bytes | None:
        """The row at `key`."""

    def scan(self, start: bytes, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows from `start` on while keys begin with `prefix` (default: `start`)."""


class View:
    """An index with newer rows laid over it.

    `replayed` tells what the log added; `unreplayed`: why it could not be replayed to its end,
    or "".
    """

    def __init__(
        self, index: Index, segments: Path, uuid: bytes, cipher: Cipher | None = None
    ) -> None:
        self._index = index
        self._segments = segments
        self._uuid = uuid
        self._cipher = cipher
        self._newer: dict[bytes, bytes | None] = {}
        self.unreplayed = ""
        self.checkpoint = self._read_position()
        self.replayed = self._replay()
        self._newer_keys = sorted(self._newer)

    def _read_position(self) -> Position | None:
        """None if the book does not decode."""
        book = self._index.book("position")
        if book is None:
            return Position(0, 0)
        try:
            segment, offset = msgspec.msgpack.decode(book, type=tuple[int, int])
        except msgspec.MsgspecError:
            return None
        return Position(segment, offset) if 0 <= segment < 1 << 64 and offset >= 0 else None

    def _replay(self) -> Replay:
        if self.checkpoint is None:
            self.unreplayed = "the index does not say from where"
            return Replay(self._newest())
        try:
            return replay(
                self._segments, self._uuid, self.checkpoint, self._newer.update, cut=False,
                size_elsewhere=lambda segment: copied_size(self._index, segment),
                cipher=self._cipher,
            )  # fmt: skip
        except (StoreDamaged, OSError) as error:
            self.unreplayed = str(error)
            return Replay(self._newest())

    def _newest(self) -> Position:
        """Where the newest segment ends."""
        try:
            number = list_segments(self._segments)[-1]
            return Position(number, (self._segments / format.segment_name(number)).stat().st_size)
        except (OSError, IndexError):
            return Position(0, 0)

    def is_torn(self) -> bool:
        """Whether the log still ends in bytes that do not verify, and not in a record by now.

        A moment after the replay, an append that was under way then has come to its end.
        """
        if not self.replayed.cut_why:
            return False
        end = self.replayed.end
        this, following = (self._tail(n) for n in (end.segment, end.segment + 1))
        if len(this) > end.offset:
            found = next(format.scan(this, end.offset, verify_blocks=True, cipher=self._cipher))
            return isinstance(found, format.Torn)
        return bool(following) and bool(format.check_header(following, self._uuid, end.segment + 1))

    def _tail(self, number: int) -> memoryview:
        try:
            return memoryview((self._segments / format.segment_name(number)).read_bytes())
        except OSError:
            return memoryview(b"")

    def counters(self) -> Counters:
        """The counters as a mount would find them. Raises msgspec.MsgspecError."""
        book = self._index.book("counters")
        counters = msgspec.msgpack.decode(book, type=Counters) if book else Counters()
        for key in self._newer:
            counters.take(key)
        return counters

    def totals(self) -> Totals:
        """The totals as a mount would find them. Raises msgspec.MsgspecError."""
        book = self._index.book("totals")
        totals = msgspec.msgpack.decode(book, type=Totals) if book else Totals()
        for key, value in self._newer.items():
            if key[:1] in COUNTED:
                totals.account(key, self._index.get(key), value)
        return totals

    def get(self, key: bytes) -> bytes | None:
        return self._newer[key] if key in self._newer else self._index.get(key)

    def scan(self, start: bytes, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        if prefix is None:
            prefix = start
        newer = self._newer_from(start, prefix)
        pending = next(newer, None)
        for key, row in self._index.scan(start, prefix):
            while pending is not None and pending[0] <= key:
                if pending[1] is not None:
                    yield pending[0], pending[1]
                pending = next(newer, None)
            if key not in self._newer:
                yield key, row
        while pending is not None:
            if pending[1] is not None:
                yield pending[0], pending[1]
            pending = next(newer, None)

    def _newer_from(self, start: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        for at in range(bisect_left(self._newer_keys, start), len(self._newer_keys)):
            key = self._newer_keys[at]
            if not key.startswith(prefix):
                return
            yield key, self._newer[key]


@contextmanager
def view(store: Path, cipher: Cipher | None = None) -> Iterator[View]:
    """The rows of the store at `store`. Raises NotAStore, FormatTooNew, WrongKey, StoreDamaged."""
    known = identity.read(store)
    known.require_key(store, cipher)
    data = store / "index" / "data.mdb"
    if not data.is_file() or not os.path.getsize(data):
        raise StoreDamaged(f"{data} is missing or empty: {WAY_OUT}")
    index = Index(store / "index", read_only=True)
    try:
        probe(store / "index")
        yield View(index, store / "segments", known.uuid_bytes, cipher)
    finally:
        index.close()
