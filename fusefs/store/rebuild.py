"""Making STORE/index anew from STORE/snapshot and the log behind it.

::

    plan:   snapshot or first segment -> read the log, verify it -> what would be lost
    apply:  index.new: copy, replay, count again -> commit -> read it back, verify
            index -> index.old, index.new -> index

The snapshot is a copy of the index at some position of the log. Where there is none, or it is
damaged, the index is made from the first segment on; segments are deleted only behind a snapshot,
so then all of them must be there.

A damaged block is passed over: its bytes are lost, the acts around it are not. Where acts are lost
nothing is certain behind them, so that is refused unless the loss is accepted. The log itself is
not touched. Nothing but the two renames changes what a mount finds; between them it finds no index,
and says so. Killed anywhere, it is begun anew.

What is derived is counted from the rows of the new index (`derived`).
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fusefs.base import durable, failpoints
from fusefs.errors import StoreDamaged, StoreError, of_disk
from fusefs.model import keys
from fusefs.store import format, identity, snapshot
from fusefs.store.cipher import Cipher
from fusefs.store.counters import Counters
from fusefs.store.derived import Census, Rows, derive, verify, write
from fusefs.store.format import Record
from fusefs.store.index import Index
from fusefs.store.log import Position
from fusefs.store.presence import copied_size
from fusefs.store.probe import probe
from fusefs.store.recovery import list_segments, make_durable, segment_sizes
from fusefs.store.salvage import LOSSES, Damage, Kind, holds_batch, mapped, read_past
from fusefs.store.store import NEW_INDEX, OLD_INDEX

#: Told (done, total): bytes of the log in a plan, batches when it is applied.
Progress = Callable[[int, int], None]
#: Batches, and bytes of them, that one transaction takes.
_COMMIT_BATCHES = 1000
_COMMIT_BYTES = 16 << 20


@dataclass(frozen=True)
class Plan:
    """From what the index is to be made, and what of it is damaged.

    `has_snapshot`: whether from the snapshot; `snapshot`: about it, for people. `start`, `end`: the
    part of the log that is replayed; `size_bytes`, `batches`, `blocks` are of that. `torn`: why it
    ends before its last byte, as after a crash, or "". `cipher`: of an encrypted store.
    """

    store: Path
    has_snapshot: bool
    snapshot: str
    start: Position
    end: Position
    segments: int
    size_bytes: int
    batches: int
    blocks: int
    damages: tuple[Damage, ...]
    torn: str
    cipher: Cipher | None = None

    @property
    def losses(self) -> tuple[Damage, ...]:
        """By which acts are lost."""
        return tuple(one for one in self.damages if one.kind in LOSSES)

    def record(self) -> dict[str, Any]:
        return {
            "snapshot": self.snapshot,
            "from": f"{format.segment_name(self.start.segment)} byte {self.start.offset}",
            "to": f"{format.segment_name(self.end.segment)} byte {self.end.offset}",
            "segments": self.segments,
            "size_bytes": self.size_bytes,
            "batches": self.batches,
            "blocks": self.blocks,
            "torn": self.torn,
            "damages": [str(one) for one in self.damages],
            "losses": [str(one) for one in self.losses],
        }


@dataclass(frozen=True)
class Rebuilt:
    """What was made. `recounted`: blocks whose references were not those of the extents.
    `damaged`: blocks that are needed and cannot be read, with the reason. `old`: where the index
    that was there lies now, or None."""

    rows: int
    recounted: tuple[int, ...]
    damaged: tuple[tuple[int, str], ...]
    old: Path | None


@contextmanager
def alone(store: Path) -> Iterator[None]:
    """Nobody else writes to the store meanwhile. Raises NotAStore, StoreLocked, StoreReadOnly."""
    identity.read(store)
    descriptor = identity.lock(store)
    try:
        yield
    finally:
        os.close(descriptor)


# -- the plan


def plan(store: Path, progress: Progress | None = None, cipher: Cipher | None = None) -> Plan:
    """Look for what the index of `store` can be made from; reads the log and changes nothing.

    `cipher`: of an encrypted store. Raises NotAStore, FormatTooNew, WrongKey; StoreDamaged where it
    cannot be made, and says what is lost.
    """
    known = identity.read(store)
    known.require_key(store, cipher)
    segments = store / "segments"
    try:
        sizes = segment_sizes(segments)
    except OSError as error:
        raise StoreDamaged(
            f"{segments} cannot be read ({error.strerror}): without the log nothing can be rebuilt"
        ) from error
    start, about = start_from(store / snapshot.NAME)
    has_snapshot = start is not None
    is_behind = start is not None and _is_elsewhere(store / snapshot.NAME, start, sizes)
    if start is None or not (sizes or is_behind):
        _require_all(store, sizes, about)
    start = start or Position(0, 0)
    reader = _Reader(
        segments, known.uuid_bytes, start, sizes, progress, is_behind=is_behind, cipher=cipher
    )
    reader.read()
    reader.note_missing_end(_end_in_index(store / "index"))
    return Plan(
        store=store,
        has_snapshot=has_snapshot,
        snapshot=about,
        start=reader.start,
        end=reader.end,
        segments=len(reader.numbers),
        size_bytes=reader.total_bytes,
        batches=reader.batches,
        blocks=reader.blocks,
        damages=tuple(reader.damages),
        torn=reader.torn,
        cipher=cipher,
    )


def start_from(path: Path) -> tuple[Position | None, str]:
    """Where the log goes on behind the snapshot, None if that is of no use; about it in words."""
    if not path.exists():
        return None, "there is none"
    try:
        why = snapshot.problem(path)
        if why:
            raise StoreDamaged(why)
        if why is None:  # of an earlier fusefs, or cut off
            probe(path)
        index = Index(path, read_only=True)
        try:
            book = index.book("position")
        finally:
            index.close()
        segment, offset = msgspec.msgpack.decode(book or b"", type=tuple[int, int])
        if segment < 0 or offset < 0:
            raise StoreDamaged("it does not say where the log goes on")
    except (OSError, StoreError, msgspec.MsgspecError) as error:
        return None, f"damaged: {error}"
    return Position(segment, offset), "sound"


def _is_elsewhere(path: Path, start: Position, sizes: dict[int, int]) -> bool:
    """Whether the snapshot at `path` ends where a segment does that is in remotes only."""
    if not start.offset or start.segment in sizes:
        return False
    index = Index(path, read_only=True)
    try:
        return copied_size(index, start.segment) == start.offset
    finally:
        index.close()


def _end_in_index(path: Path) -> Position:
    """As far as the index that is there knows of the log; nothing, where it cannot be read."""
    try:
        probe(path)
        index = Index(path, read_only=True)
        try:
            book = index.book("position")
        finally:
            index.close()
        return Position(*msgspec.msgpack.decode(book or b"", type=tuple[int, int]))
    except (StoreError, msgspec.MsgspecError):
        return Position(0, 0)


def _require_all(store: Path, sizes: dict[int, int], about: str) -> None:
    missing = sorted(set(range(1, max(sizes, default=0) + 1)) - sizes.keys())
    if not missing and (sizes or about == "there is none"):
        return
    held = f"{len(missing)} segments of the log are gone" if missing else "the log is gone"
    if about == "sound":
        raise StoreDamaged(f"{store / 'segments'} holds no segment: all content is lost")
    first = f", the first of them {format.segment_name(missing[0])}" if missing else ""
    raise StoreDamaged(
        f"the index of {store} cannot be rebuilt: {held}{first}, and the snapshot that stands for"
        f" them is of no use ({about}). Lost are the names and attributes of what was last changed"
        " in these segments; get STORE/snapshot or STORE/index from a backup of the store"
    )


class _Reader:
    """Reads the log from `start` to its end, and notes what is damaged in it."""

    def __init__(
        self,
        directory: Path,
        uuid: bytes,
        start: Position,
        sizes: dict[int, int],
        progress: Progress | None,
        *,
        is_behind: bool = False,
        cipher: Cipher | None = None,
    ) -> None:
        self._directory = directory
        self._uuid = uuid
        self._cipher = cipher
        self._sizes = sizes
        self._progress = progress
        self.start = start
        self.end = start
        self._first = max(start.segment, 1) + is_behind
        self.numbers = [n for n in sorted(sizes) if n >= max(start.segment, 1)]
        self.total_bytes = sum(sizes[n] for n in self.numbers) - (0 if is_behind else start.offset)
        self.batches = self.blocks = 0
        self.damages: list[Damage] = []
        self.torn = ""
        self._done = 0

    def read(self) -> None:
        last = max([self.start.segment, *self.numbers])
        for number in range(self._first, last + 1):
            if number in self.numbers:
                self._read_segment(number, is_newest=number == last)
            else:
                self.damages.append(Damage(number, 0, 0, Kind.SEGMENT, "is missing"))
        is_missing = self.end.segment not in self._sizes and self._sizes
        if is_missing and self.end.segment >= self._first:
            newest = max(self._sizes)  # the next mount needs a segment to go on from
            self.end = Position(newest, self._sizes[newest])

    def note_missing_end(self, known: Position) -> None:
        """Acts that the index has, up to `known`, and the log has not, are lost with the index."""
        if known > self.end:
            start = self.end.offset if known.segment == self.end.segment else 0
            why = "is missing from there on; the index that is there knows it"
            self.damages.append(Damage(known.segment, start, known.offset, Kind.BATCH, why))

    def _read_segment(self, number: int, *, is_newest: bool) -> None:
        offset = self.start.offset if number == self.start.segment else 0
        data = mapped(self._directory, number)
        before, damages = self.end, []
        if not offset and (why := format.check_header(data, self._uuid, number)):
            if why.startswith("segment of"):
                path = self._directory / format.segment_name(number)
                raise StoreDamaged(f"{path}: {why}: take it out of the log")
            if len(data) < format.HEADER_SIZE and not is_newest:
                self.damages.append(Damage(number, 0, len(data), Kind.SEGMENT, why))
                return
            damages.append(Damage(number, 0, format.HEADER_SIZE, Kind.HEADER, why))
        position = max(offset, format.HEADER_SIZE)
        end = Position(number, min(position, len(data))) if not damages else before
        for found in read_past(data, number, position, verify_blocks=True, cipher=self._cipher):
            if isinstance(found, Damage):
                damages.append(found)
                self._tell(found.end - found.start)
                continue
            self.damages += damages
            damages = []
            end = Position(number, found.end)
            self.batches += found.kind == format.BATCH
            self.blocks += found.kind == format.BLOCK
            self._tell(found.end - found.start)
        if damages and is_newest and not any(holds_batch(data[one.start :]) for one in damages[:1]):
            where = f"{format.segment_name(number)} at byte {damages[0].start}"
            self.torn = f"{where}: {damages[0].why}"
        elif damages:
            self.damages += damages
            end = Position(number, len(data))
        self.end = max(self.end, end)

    def _tell(self, size: int) -> None:
        before, self._done = self._done, self._done + size
        if self._progress and before >> 20 != self._done >> 20:
            self._progress(self._done, self.total_bytes)


# -- applying it


def apply(wanted: Plan, *, accept_loss: bool = False, progress: Progress | None = None) -> Rebuilt:
    """Make the index as planned and put it in its place; `alone` is held.

    Raises StoreDamaged where acts are lost and that is not accepted, or what was made does not add
    up; DiskFull, StoreError. The index is as it was then.
    """
    if wanted.losses and not accept_loss:
        raise StoreDamaged(
            f"{len(wanted.losses)} parts of the log hold acts that cannot be read, the first in"
            f" {wanted.losses[0]}. What these did is lost, and what follows can only be applied as"
            " far as that goes: --accept-loss does so; nothing was changed"
        )
    made = wanted.store / NEW_INDEX
    try:
        make_durable(wanted.store / "segments", wanted.start)
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o700)
        if wanted.has_snapshot:
            snapshot.copy_pages(wanted.store / snapshot.NAME, made / "data.mdb")
        failpoints.hit("rebuild.begun")
        done = _make(wanted, made, progress)
        failpoints.hit("rebuild.made")
        probe(made)
        verify(made)
        durable.sync_file(made / "data.mdb")
        durable.sync_directory(made)
        old = _put_in_place(wanted.store)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise of_disk(error, made) from error
    except StoreError:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return Rebuilt(done.rows, tuple(map(keys.number, done.corrections)), tuple(done.damaged), old)


def _put_in_place(store: Path) -> Path | None:
    """An index that was put aside before is kept, until a mount has shown that the new one does:
    what stands in its place now was made by a rebuild as well."""
    index, old = store / "index", store / OLD_INDEX
    is_kept = index.exists() and not old.exists()
    if is_kept:
        index.rename(old)
    elif index.exists():
        shutil.rmtree(index)
    try:
        failpoints.hit("rebuild.set_aside")
        (store / NEW_INDEX).rename(index)
    except OSError:
        if is_kept:
            old.rename(index)
        raise
    durable.sync_directory(store)
    failpoints.hit("rebuild.placed")
    return old if old.exists() else None


def _make(wanted: Plan, path: Path, progress: Progress | None) -> Census:
    index = Index(path)
    try:
        counters = _replay(wanted, index, progress)
        segments = wanted.store / "segments"
        return derive(index, segments, wanted.end, counters, wanted.damages, wanted.cipher)
    finally:
        index.close()


def _replay(wanted: Plan, index: Index, progress: Progress | None) -> Counters:
    """Apply the batches; returns the highest numbers that were ever given out."""
    book = index.book("counters")
    try:
        counters = msgspec.msgpack.decode(book, type=Counters) if book else Counters()
    except msgspec.MsgspecError:
        counters = Counters()  # the rows tell most
    pending: list[Rows] = []
    size = 0
    for done, rows in enumerate(_batches(wanted), 1):
        for key in rows:
            counters.take(key)
        pending.append(rows)
        size += sum(len(key) + len(row or b"") for key, row in rows.items())
        failpoints.hit("rebuild.batch")
        if len(pending) >= _COMMIT_BATCHES or size >= _COMMIT_BYTES:
            write(index, pending)
            pending, size = [], 0
            if progress:
                progress(done, wanted.batches)
    write(index, pending)
    return counters


def _batches(wanted: Plan) -> Iterator[Rows]:
    directory = wanted.store / "segments"
    for number in list_segments(directory):
        if not max(wanted.start.segment, 1) <= number <= wanted.end.segment:
            continue
        data = mapped(directory, number)
        if number == wanted.end.segment:
            data = data[: wanted.end.offset]
        offset = wanted.start.offset if number == wanted.start.segment else 0
        for found in read_past(data, number, max(offset, format.HEADER_SIZE), verify_blocks=False):
            if isinstance(found, Record) and found.kind == format.BATCH:
                yield dict(format.unpack_batch(found.body))
