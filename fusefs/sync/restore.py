"""A checkpoint in a remote becomes a store.

::

    STORE/clone/          what is fetched: objects by their names; so it goes on where it stopped
    STORE/index           base, deltas, then the rows that say where the segments are
    STORE/segments        an empty segment, behind which the log goes on
    STORE/snapshot        a copy of that index
    STORE/fusefs.json     last: until then there is no store

No segment is fetched: rows say that they are in the remote, and readers fetch what they want. The
new store is a writer of the remote in its own right, which goes on behind the checkpoint; whoever
wrote there before is refused from the next one on. Other remotes that the store knew are kept,
paused: nothing is sent there, and what they hold can be read.
"""

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from blake3 import blake3

from fusefs.base import durable, failpoints
from fusefs.errors import (
    FormatTooNew,
    NoSuchObject,
    ObjectDamaged,
    StoreError,
    StoreExists,
    of_disk,
)
from fusefs.model import keys
from fusefs.model import remote as rows_of_remotes
from fusefs.model.remote import Copy
from fusefs.model.remote import Remote as Row
from fusefs.remotes.api import Remote
from fusefs.store import derived, format, identity
from fusefs.store.counters import Counters
from fusefs.store.identity import StoreIdentity
from fusefs.store.index import Index
from fusefs.store.log import Position
from fusefs.store.snapshot import NAME as SNAPSHOT
from fusefs.sync import layout
from fusefs.sync.layout import Checkpoint, Piece, Segment

#: Objects that are fetched at one time.
_AT_ONCE = 8
_COMMIT_BYTES = 16 << 20

#: Told (done, total) bytes of what is fetched.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Restored:
    """What became of a clone. `fetched_bytes`: in this go; `remote`: the name of its row."""

    uuid: str
    remote: str
    sequence: int
    created_ns: int
    rows: int
    segments: int
    segments_bytes: int
    fetched_bytes: int


def restore(
    remote: Remote,
    row: Row,
    store: Path,
    *,
    now_ns: int,
    name: str = "",
    sequence: int | None = None,
    progress: Progress | None = None,
) -> Restored:
    """Make `store`, a new or empty directory or one that this left half made, of a checkpoint in
    `remote`: the one of that number, or the newest.

    `row`: of the remote, with what connects to it; `name`: for it, by default what it was called.
    Raises StoreExists, DiskFull, StoreError, NoSuchObject, ObjectDamaged, FormatTooNew and what a
    remote raises; called again, it goes on.
    """
    with _alone(store):
        checkpoint = _find(remote, sequence)
        known = _identity(checkpoint)
        pieces = _Pieces(remote, store / identity.CLONE, progress)
        pieces.require([checkpoint.base])
        base = layout.unpack_base(pieces.content(checkpoint.base), checkpoint.base.name)
        rows = [*base.pieces, *(piece for delta in checkpoint.deltas for piece in delta.pieces)]
        pieces.require([*rows, *checkpoint.tables])
        failpoints.hit("clone.fetched")
        segments = [
            segment
            for piece in checkpoint.tables
            for segment in layout.unpack_table(pieces.content(piece), piece.name)
        ]
        try:
            name, count = _make(store, checkpoint, known, pieces, rows, segments, row, name, now_ns)
            failpoints.hit("clone.made")
            identity.write(store, known)
            failpoints.hit("clone.written")
            shutil.rmtree(store / identity.CLONE)
        except OSError as error:
            raise of_disk(error, error.filename or store) from error
    return Restored(
        known.uuid, name, checkpoint.sequence, checkpoint.created_ns, count, len(segments),
        sum(one.size for one in segments), pieces.fetched_bytes,
    )  # fmt: skip


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    """Nobody else makes a store there. Raises StoreExists, StoreError."""
    try:
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = set(os.listdir(store))
        if identity.NAME in names and identity.has_clone_begun(store):
            shutil.rmtree(store / identity.CLONE)  # it was whole
        if names and not identity.is_half_cloned(store):
            what = "is a store already" if identity.NAME in names else "is not empty"
            raise StoreExists(f"{store} {what}: give a new or an empty directory")
        (store / identity.CLONE).mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(store / identity.CLONE / "lock", flags, 0o600)
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreExists(f"{store} is not a directory: give a new or an empty one") from error
    except OSError as error:
        raise of_disk(error, store) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreExists(
                f"{store} is just being made by another clone: wait for it"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _find(remote: Remote, sequence: int | None) -> Checkpoint:
    """Raises NoSuchObject where nothing was published, or not that."""
    if not layout.check(remote):
        raise NoSuchObject(f"{remote.place} holds nothing of fusefs: is the address right?")
    known = layout.sequences(remote)
    if not known:
        raise NoSuchObject(f"{remote.place} holds no checkpoint: nothing was published there yet")
    if sequence is not None and sequence not in known:
        there = ", ".join(map(str, known[-5:]))
        raise NoSuchObject(f"{remote.place} has no checkpoint {sequence}; the last are {there}")
    return layout.read_checkpoint(remote, known[-1] if sequence is None else sequence)


def _identity(checkpoint: Checkpoint) -> StoreIdentity:
    """Of the store to be. Raises FormatTooNew, ObjectDamaged."""
    try:
        known = msgspec.json.decode(checkpoint.identity, type=StoreIdentity)
    except msgspec.MsgspecError as error:
        raise ObjectDamaged(f"a checkpoint does not tell what store it is of: {error}") from error
    if known.format > identity.FORMAT or set(known.requires) - identity.FEATURES:
        raise FormatTooNew("what is there was written by a later fusefs: install that")
    return msgspec.structs.replace(known, mountpoint=None)


class _Pieces:
    """The objects of a checkpoint, in a directory. What is there already is not fetched again."""

    def __init__(self, remote: Remote, directory: Path, progress: Progress | None) -> None:
        self._remote = remote
        self._directory = directory
        self._progress = progress
        self._lock = threading.Lock()
        self._total = self._done = 0
        self.fetched_bytes = 0

    def require(self, pieces: list[Piece]) -> None:
        """Have all of them. Raises what a remote raises; those that came until then are here."""
        self._total += sum(piece.size for piece in pieces)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for done in [pool.submit(self._fetch, piece) for piece in dict.fromkeys(pieces)]:
                try:
                    done.result()
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise

    def content(self, piece: Piece) -> bytes:
        """One that was fetched, verified."""
        content = self._stored(piece)
        if content is None:  # the disk does not give what it took
            self._path(piece).unlink(missing_ok=True)
            self._fetch(piece)
            content = self._stored(piece)
        if content is None:
            raise StoreError(f"{self._path(piece)} cannot be read back: check the disk")
        return content

    def _fetch(self, piece: Piece) -> None:
        if self._stored(piece) is None:
            content = layout.read_piece(self._remote, piece)
            path = self._path(piece)
            failpoints.hit("clone.piece")
            try:
                temporary = path.with_suffix(".new")
                temporary.write_bytes(content)
                temporary.rename(path)
            except OSError as error:
                raise of_disk(error, path) from error
            with self._lock:
                self.fetched_bytes += len(content)
        with self._lock:
            self._done += piece.size
            if self._progress:
                self._progress(self._done, self._total)

    def _stored(self, piece: Piece) -> bytes | None:
        try:
            content = self._path(piece).read_bytes()
        except OSError:
            return None
        return content if blake3(content).digest() == piece.digest else None

    def _path(self, piece: Piece) -> Path:
        return self._directory / piece.digest.hex()


def _make(
    store: Path,
    checkpoint: Checkpoint,
    known: StoreIdentity,
    pieces: _Pieces,
    rows: list[Piece],
    segments: list[Segment],
    row: Row,
    name: str,
    now_ns: int,
) -> tuple[str, int]:
    """Everything but fusefs.json, durably; returns the name of the remote, and rows."""
    for directory in ("index", "segments"):
        shutil.rmtree(store / directory, ignore_errors=True)
        (store / directory).mkdir(mode=0o700)
    Index.create(store / "index")
    position = _begin_log(store / "segments", known, checkpoint.end[0] + 1, now_ns)
    index = Index(store / "index")
    try:
        _apply(index, pieces, rows)
        name = _note_remote(index, checkpoint, segments, row, name, now_ns)
        counters = _counters(checkpoint)
        census = derived.derive(index, store / "segments", position, counters)
        index.copy(store / SNAPSHOT)
    finally:
        index.close()
    derived.verify(store / "index")
    durable.sync_file(store / "index" / "data.mdb")
    durable.sync_directory(store / "index")
    durable.sync_directory(store)
    if census.damaged:
        number, why = census.damaged[0]
        raise ObjectDamaged(
            f"checkpoint {checkpoint.sequence} does not name all that it needs: block {number},"
            f" {why}; try an earlier one by --checkpoint"
        )
    return name, census.rows


def _begin_log(directory: Path, known: StoreIdentity, number: int, now_ns: int) -> Position:
    """An empty sealed segment, as the log goes on behind one that is here."""
    content = format.pack_header(
        known.uuid_bytes, number, now_ns, is_encrypted=known.is_encrypted
    ) + format.pack_seal(())
    durable.write_file(directory / format.segment_name(number), content)
    return Position(number, len(content))


def _apply(index: Index, pieces: _Pieces, rows: list[Piece]) -> None:
    pending: list[layout.Rows] = []
    size = 0
    for piece in rows:
        for batch in layout.unpack_rows(pieces.content(piece), piece.name):
            pending.append(batch)
            size += sum(len(key) + len(value or b"") for key, value in batch.items())
            if size >= _COMMIT_BYTES:
                derived.write(index, pending)
                pending, size = [], 0
    derived.write(index, pending)


def _counters(checkpoint: Checkpoint) -> Counters:
    try:
        return msgspec.msgpack.decode(checkpoint.counters, type=Counters)
    except msgspec.MsgspecError as error:
        raise ObjectDamaged(
            f"a checkpoint does not tell which numbers are taken: {error}"
        ) from error


def _note_remote(
    index: Index, checkpoint: Checkpoint, segments: list[Segment], row: Row, name: str, now_ns: int
) -> str:
    """Rows of the remote and of the segments in it; the other remotes rest. Returns its name."""
    remotes = {
        key[1:].decode(): rows_of_remotes.unpack_remote(value)
        for key, value in index.scan(keys.REMOTE)
    }
    name = name or next((one for one, it in remotes.items() if it.url == row.url), "origin")
    changed: layout.Rows = {
        keys.remote(one): rows_of_remotes.pack(msgspec.structs.replace(it, is_paused=True))
        for one, it in remotes.items()
    }
    before = remotes.get(name)
    number = before.number if before else rows_of_remotes.next_number(remotes.values(), now_ns)
    for key, _ in index.scan(keys.COPY):
        if keys.second(key) == number:
            changed[key] = None
    for one in segments:
        copy = Copy(one.name, one.size, one.digest, 0)
        changed[keys.copy(one.number, number)] = rows_of_remotes.pack(copy)
    changed[keys.remote(name)] = rows_of_remotes.pack(
        msgspec.structs.replace(
            row,
            number=number,
            writer=os.urandom(16).hex(),
            sequence=checkpoint.sequence,
            published_segment=checkpoint.end[0],
            published_ns=checkpoint.created_ns,
        )
    )
    derived.write(index, [changed])
    return name
