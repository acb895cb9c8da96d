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

What is derived is counted from the rows of the new index: totals, usage, references.
"""

import mmap
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fusefs.base import durable, failpoints
from fusefs.base.counts import Counts
from fusefs.errors import StoreDamaged, StoreError, of_disk
from fusefs.model import extent, keys
from fusefs.model.block import Block
from fusefs.model.totals import COUNTED, Totals
from fusefs.store import format, identity, snapshot
from fusefs.store.cipher import Cipher
from fusefs.store.counters import Counters
from fusefs.store.format import Record
from fusefs.store.index import Index, MapFull
from fusefs.store.log import Position
from fusefs.store.presence import copied_size, is_copied
from fusefs.store.probe import probe
from fusefs.store.recovery import list_segments, make_durable, segment_sizes
from fusefs.store.salvage import LOSSES, Damage, Kind, holds_batch, read_past
from fusefs.store.store import NEW_INDEX, OLD_INDEX
from fusefs.store.usage import BOOKS, Usage

#: Told (done, total): bytes of the log in a plan, batches when it is applied.
Progress = Callable[[int, int], None]
#: Batches, and bytes of them, that one transaction takes.
_COMMIT_BATCHES = 1000
_COMMIT_BYTES = 16 << 20

_Rows = dict[bytes, bytes | None]


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


def mapped(directory: Path, number: int) -> memoryview:
    """The bytes of a segment. Raises StoreDamaged where they cannot be read."""
    path = directory / format.segment_name(number)
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise StoreDamaged(f"{path} cannot be read: {error.strerror}") from error


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


def _make(wanted: Plan, path: Path, progress: Progress | None) -> "Census":
    index = Index(path)
    try:
        counters = _replay(wanted, index, progress)
        segments = wanted.store / "segments"
        return derive(index, segments, wanted.end, counters, wanted.damages, wanted.cipher)
    finally:
        index.close()


def derive(
    index: Index,
    segments: Path,
    position: Position,
    counters: Counters,
    damages: tuple[Damage, ...] = (),
    cipher: Cipher | None = None,
) -> "Census":
    """Write the books of an index from its rows, and set references right.

    `position`: of the log, up to which the rows know it. `counters`: the highest numbers given out,
    as far as that is known.
    """
    census = Census(index, segments, damages, cipher)
    write(index, [census.corrections])
    stale: dict[str, bytes | None] = {
        key[len(keys.META) :].decode(): None for key, _ in index.scan(BOOKS)
    }
    counters.ino = max(counters.ino, census.highest.ino)
    counters.block = max(counters.block, census.highest.block)
    counters.cookie = max(counters.cookie, census.highest.cookie)
    books = stale | {
        "position": msgspec.msgpack.encode(position),
        "counters": msgspec.msgpack.encode(counters),
        "totals": msgspec.msgpack.encode(census.totals),
        **census.usage.books(),
    }
    _retrying(index, lambda: index.commit(books))
    return census


def _replay(wanted: Plan, index: Index, progress: Progress | None) -> Counters:
    """Apply the batches; returns the highest numbers that were ever given out."""
    book = index.book("counters")
    try:
        counters = msgspec.msgpack.decode(book, type=Counters) if book else Counters()
    except msgspec.MsgspecError:
        counters = Counters()  # the rows tell most
    pending: list[_Rows] = []
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


def _batches(wanted: Plan) -> Iterator[_Rows]:
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


def write(index: Index, several: list[_Rows]) -> None:
    """Put rows, in one transaction of their own."""

    def put() -> None:
        for rows in several:
            index.apply(rows)
        index.commit({})

    _retrying(index, put)


def _retrying(index: Index, act: Callable[[], None]) -> None:
    while True:
        try:
            return act()
        except MapFull:
            index.restart(grow=True)


class Census:
    """What is derived from the rows of an index, and which blocks of it cannot be read.

    `damages`: what is known to be bad in the segments. `corrections`:
    rows of blocks with the references that they have, None for what is of no use and not here;
    `totals` and `usage` go by these.
    """

    def __init__(
        self, index: Index, directory: Path, damages: tuple[Damage, ...] = (),
        cipher: Cipher | None = None,
    ) -> None:  # fmt: skip
        self._index = index
        self._directory = directory
        self._cipher = cipher
        self._lengths = segment_sizes(directory)
        self._damages: dict[int, list[Damage]] = {}
        for one in damages:
            self._damages.setdefault(one.segment, []).append(one)
        self.rows = 0
        self.highest = Counters(0, 0, 0)
        self.totals = Totals()
        self.usage = Usage()
        self.corrections: _Rows = {}
        self.damaged: list[tuple[int, str]] = []
        references = _references(index)
        for key, row in index.scan(b""):
            table = key[:1]
            if table == keys.META:
                continue
            self.rows += 1
            self.highest.take(key)
            if table in (keys.ENTRY, keys.HISTORY):  # their numbers were cookies
                self.highest.cookie = max(self.highest.cookie, keys.number(key))
            if table == keys.BLOCK:
                self._take_block(key, row, references.of(keys.number(key)))
            elif table in COUNTED:
                self.totals.account(key, None, row)

    def _take_block(self, key: bytes, row: bytes, references: int) -> None:
        try:
            block = Block.unpack(row)
        except struct.error:
            return  # fsck tells it
        if not references and block.segment not in self._lengths:
            self.corrections[key] = None  # garbage that is nowhere
            return
        if block.refs != references:
            block = block.with_refs(references)
            self.corrections[key] = row = block.pack()
        self.totals.account(key, None, row)
        self.usage.account(None, row)
        if references and (why := self._why_lost(block)):
            self.damaged.append((keys.number(key), why))

    def _why_lost(self, block: Block) -> str:
        name = format.segment_name(block.segment)
        if block.segment not in self._lengths:
            if is_copied(self._index, block.segment):
                return ""
            return f"its segment {name} is missing"
        if block.offset + block.stored > self._lengths[block.segment]:
            return f"its segment {name} ends before it"
        for one in self._damages.get(block.segment, ()):
            if one.start < block.offset + block.stored and block.offset < one.end:
                return "" if self._is_readable(block) else f"its segment {name} is damaged there"
        return ""

    def _is_readable(self, block: Block) -> bool:
        """Whether only the head of the record is bad: the row says all that it says, too."""
        data = mapped(self._directory, block.segment)
        payload = data[block.offset : block.offset + block.stored]
        content = format.decode(block.codec, payload, block.length, block.digest, self._cipher)
        return content is not None


def _references(index: Index) -> Counts:
    references = Counts()
    for _, row in index.scan(keys.EXTENT):
        with suppress(struct.error):
            if (one := extent.unpack(0, row)).has_block:
                references.add(one.block)
    return references


def verify(path: Path) -> None:
    """Read the new index back and compare its books with its rows. Raises StoreDamaged."""
    index = Index(path, read_only=True)
    try:
        census = Census(index, path.parent / "segments")
        wrong = ["references"] if census.corrections else []
        counters = _decoded(index, "counters", Counters)
        if census.highest.ino > counters.ino or census.highest.block > counters.block:
            wrong.append("counters")
        if census.highest.cookie > counters.cookie:
            wrong.append("cookies")
        if census.totals != _decoded(index, "totals", Totals):
            wrong.append("totals")
        kept = Usage()
        kept.load(index.scan(BOOKS))
        if not Usage.has_books(index.book("live")) or not kept.is_same_as(census.usage):
            wrong.append("usage")
    finally:
        index.close()
    if wrong:
        raise StoreDamaged(
            f"{path} does not hold what was written to it ({', '.join(wrong)}): check the disk and"
            " the memory; the index that was there is untouched"
        )


def _decoded(index: Index, name: str, kind: type[Any]) -> Any:
    try:
        return msgspec.msgpack.decode(index.book(name) or b"", type=kind)
    except msgspec.MsgspecError:
        return None if kind is not Counters else Counters(-1, -1, -1)
