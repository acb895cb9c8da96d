"""A store that is brought into a remote without daemon or agent, and a look at what is there."""

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio
from blake3 import blake3

from fusefs.base.events import Events
from fusefs.daemon.syncing import Syncing
from fusefs.errors import NoSuchObject, RemoteUnreachable
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.model.remote import Copy
from fusefs.model.remote import Remote as Row
from fusefs.remotes.api import Buffer, Found, Remote
from fusefs.remotes.memory import MemoryRemote
from fusefs.store import format
from fusefs.store.cipher import Cipher
from fusefs.store.store import Store
from fusefs.sync import layout
from fusefs.sync.api import Cut, Elsewhere, Table, Wanted
from fusefs.sync.layout import Checkpoint, Segment
from fusefs.sync.publish import Publisher

Rows = dict[bytes, bytes]


class Desk:
    """The store's side of a publication: what a daemon and its socket do, in one thread."""

    def __init__(
        self,
        store: Store,
        name: str = "there",
        row: Row | None = None,
        syncing: Syncing | None = None,
    ) -> None:
        self.store = store
        if syncing is None:
            syncing = Syncing(store, Events(store.clock), lambda: None)
            syncing.sync = self._sync
        self.syncing = syncing
        self.name = name
        if self.syncing.registry.find(name) is None:
            self.syncing.registry.add(name, row or Row(number=0, url="memory://x", writer="me"))
        self.cuts = 0
        self.after_cut: Callable[[], None] = lambda: None
        self.others: dict[str, Remote] = {}

    async def _sync(self) -> None:
        self.store.sync()

    @property
    def row(self) -> Row:
        return self.syncing.registry.get(self.name)

    def publisher(self, remote: Remote) -> Publisher:
        publisher = Publisher(remote, self.store.path, self.row.number, self.row.writer, self)
        publisher.begin(self.row.sequence)
        return publisher

    def wanted(self) -> list[Wanted]:
        lacking = self.syncing.copies.lacking(self.row.number)
        return [Wanted.of(self.syncing._described(one, self.row)) for one in lacking]

    # -- publish.Source

    def cut(self) -> Cut:
        answer = trio.run(self.syncing.cut, self.row)
        self.store.checkpoint()
        self.cuts += 1
        self.after_cut()
        return Cut(
            answer["cut"], answer["end"], answer["time_ns"], bytes.fromhex(answer["counters"]),
            answer["tables"],
        )  # fmt: skip

    def table(self, cut: Cut, first: int) -> Table:
        answer = self.syncing.table(self.row, cut.number, first)
        segments = [Segment(n, size, bytes.fromhex(x)) for n, size, x in answer["segments"]]
        return Table(segments, [Wanted.of(one) for one in answer["lacking"]])

    def stored(self, segments: list[Segment]) -> None:
        copies = [(one.number, Copy(one.name, one.size, one.digest, 1)) for one in segments]
        self.syncing.stored(self.name, self.row, copies)

    def published(self, sequence: int, cut: Cut) -> None:
        async def tell() -> None:
            self.syncing.published(self.name, self.row, sequence, cut.number)

        trio.run(tell)

    def recovered(self, checkpoint: Checkpoint) -> None:
        self.syncing.recovered(
            self.name, self.row, checkpoint.sequence, checkpoint.end[0], checkpoint.created_ns
        )

    def fetch(self, copy: Elsewhere) -> bytes:
        return self.others[copy.remote].get(copy.name)

    def tell(self, doing: str, sent_bytes: int = 0, sent_objects: int = 0) -> None:
        """Nobody listens."""


def rows_of(store: Store) -> Rows:
    """All rows but the index's own books, and those of remotes and copies, which a publication
    changes itself."""
    hidden = keys.META, keys.REMOTE, keys.COPY
    return {key: row for key, row in store.scan(b"") if key[:1] not in hidden}


def restored(
    remote: Remote, sequence: int | None = None, cipher: Cipher | None = None
) -> tuple[Checkpoint, Rows]:
    """The newest checkpoint and its rows, after proving that every block of them is there."""
    checkpoint = layout.read_checkpoint(remote, sequence or max(layout.sequences(remote)))
    rows: Rows = {}
    for piece in layout.row_pieces(remote, checkpoint):
        for batch in layout.unpack_rows(layout.read_piece(remote, piece), piece.name):
            for key, row in batch.items():
                if row is None:
                    rows.pop(key, None)
                else:
                    rows[key] = row
    segments = layout.read_segments(remote, checkpoint)
    contents = {}
    for number, segment in segments.items():
        content = remote.get(segment.name)
        assert blake3(content).digest() == segment.digest
        assert len(content) == segment.size
        contents[number] = memoryview(content)
    for key, row in rows.items():
        if key[:1] == keys.BLOCK and (block := Block.unpack(row)).refs:
            payload = contents[block.segment][block.offset : block.offset + block.stored]
            found = format.decode(block.codec, payload, block.length, block.digest, cipher)
            assert found is not None
    hidden = keys.REMOTE, keys.COPY
    return checkpoint, {key: row for key, row in rows.items() if key[:1] not in hidden}


class Faulty:
    """A remote of which the `at`-th call fails: before it does anything, or after it has."""

    def __init__(self, inner: Remote, at: int, *, is_done: bool) -> None:
        self._inner = inner
        self._at = at
        self._is_done = is_done
        self.calls = 0

    def _call(self, name: str, *arguments: Any) -> Any:
        self.calls += 1
        if self.calls != self._at:
            return getattr(self._inner, name)(*arguments)
        if self._is_done:
            with suppress(NoSuchObject):
                getattr(self._inner, name)(*arguments)
        raise RemoteUnreachable("cut")

    @property
    def capabilities(self) -> Any:
        return self._inner.capabilities

    @property
    def place(self) -> str:
        return self._inner.place

    def put(self, name: str, content: Buffer) -> bool:
        return bool(self._call("put", name, content))

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        return bytes(self._call("get", name, start, size))

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        return dict(self._call("sizes", names))

    def list(self, prefix: str) -> Iterator[Found]:
        return iter(list(self._call("list", prefix)))

    def delete(self, name: str) -> bool:
        return bool(self._call("delete", name))

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        """Nothing is open."""


def a_remote(tmp_path: Path) -> MemoryRemote:
    return MemoryRemote(f"memory://{tmp_path}")


def names(remote: Remote) -> set[str]:
    return {found.name for found in remote.list("")}
