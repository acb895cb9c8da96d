"""The store: what the rooms above use of log, index and hints.

One thread owns a Store. An act collects rows in a `Batch` and blocks through `add_block`, then
calls `commit`: afterwards it survives the death of this process. `sync` makes every commit before
it survive the machine's. `checkpoint` moves the index up to the log.
"""

import os
import shutil
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from blake3 import blake3

from fusefs.base import durable, failpoints
from fusefs.base.clock import Clock
from fusefs.config.options import StoreOptions
from fusefs.errors import FusefsError, StoreDamaged, StoreError, of_disk
from fusefs.model import keys
from fusefs.model.block import LEAF_SIZE, RAW, Block, leaf_hashes
from fusefs.model.corruption import Bad
from fusefs.model.totals import COUNTED, Totals
from fusefs.store import format, identity, snapshot
from fusefs.store.hints import Hints
from fusefs.store.identity import StoreIdentity
from fusefs.store.index import WAY_OUT, Batch, Index, MapFull
from fusefs.store.log import Buffer, Log, Position
from fusefs.store.probe import probe
from fusefs.store.reading import NO_SEGMENT, BlockCache, ColdBlock, SegmentFile
from fusefs.store.recovery import Replay, list_segments, make_durable, replay, segment_sizes
from fusefs.store.space import Space
from fusefs.store.usage import BOOKS, Usage

#: Enough for a checkpoint of some 10 ms (measured: 4 ms for 1 000 acts at a million files).
CHECKPOINT_BATCHES = 1000
#: Bounds what a mount after a crash must read and hash, to about half a second.
CHECKPOINT_BYTES = 256 << 20
#: Hints that are filled in one go, in some 10 ms.
REFILL_SLICE = 2000
#: `commit` itself makes the checkpoint where nobody else did by then.
_OVERDUE = 4
#: Where a rebuild makes an index, and where it leaves the one that it has replaced.
NEW_INDEX, OLD_INDEX = "index.new", "index.old"
_OPEN_SEGMENTS = 64
_Book = TypeVar("_Book")
_CACHE_BYTES = 16 << 20
#: Blocks that a copy of what is stored asks the kernel for in advance, and that are remembered as
#: good.
_AHEAD, _SOUND_MAX = 4, 100_000


class Counters(msgspec.Struct):
    """The highest numbers given out so far."""

    ino: int = 2
    block: int = 0
    cookie: int = 3  # of names, batches, jobs; up to 3: those of ., .. and .trash

    def take(self, key: bytes) -> None:
        """The number in `key`, if it has one of these, is given out."""
        table = key[:1]
        if table == keys.INODE:
            self.ino = max(self.ino, keys.number(key))
        elif table == keys.BLOCK:
            self.block = max(self.block, keys.number(key))
        elif table == keys.ORDER:
            self.cookie = max(self.cookie, keys.second(key))
        elif table in (keys.BATCH, keys.JOB):
            self.cookie = max(self.cookie, keys.number(key))


@dataclass(frozen=True)
class StoreStatistics:
    """Where the store stands. Counts are since this process opened it, unless said otherwise.

    `blocks_written`: new ones, `bytes_written` on disk and `plain_bytes_written` as given;
    `dedup_hits`, `dedup_bytes`: blocks that were there already.
    """

    position: Position
    checkpoint: Position
    checkpoints: int
    batches: int
    blocks_written: int
    bytes_written: int
    plain_bytes_written: int
    dedup_hits: int
    dedup_bytes: int
    syncs: int
    replay: Replay
    damaged_reads: int


class Store:
    """An open store, writable. Make one with `Store.open`."""

    def __init__(self, path: Path, clock: Clock, lock: int) -> None:
        self.path = path
        self.clock = clock
        self._lock = lock
        self.identity = identity.read(path)
        self._compress = self.identity.compression == "zstd"
        self._segments = path / "segments"
        self.space = Space(path, clock)
        self._require_index()
        self._index = Index(path / "index")
        if self._index.lacks_pages:
            probe(path / "index")
        self.get = self._index.get
        self._checkpoint = self._read_position()
        self._require_log()
        self.usage: Usage
        self._read_books()
        self.replay = self._replay()
        sizes = segment_sizes(self._segments)
        self.usage.forget_empty(sizes)
        self._log = Log(self._segments, self.identity.uuid_bytes, self.replay.end, clock, sizes)
        self._hints = Hints(path / "hints")
        self._files: OrderedDict[int, SegmentFile] = OrderedDict()
        self._cache = BlockCache(_CACHE_BYTES)
        self._batches_since = self.replay.batches
        self._bytes_since = 0
        self.synced_bytes = 0
        self._checkpoints = self._batches = self._syncs = self._damaged_reads = 0
        self._blocks_written = self._bytes_written = self._plain_written = 0
        self._dedup_hits = self._dedup_bytes = 0
        #: Hears of every read of a block that is bad; in the thread of the reader.
        self._inherited = self.counters.block  # the last block that another process wrote
        self._sound: set[int] = set()  # of these, what was read and is good
        self._bad: dict[int, tuple[int, int]] = {}  # where a block was read and is not
        self.on_damage: Callable[[int, Bad], None] = lambda number, bad: None
        if self.replay.batches or self.replay.cut_bytes:
            self.checkpoint()

    # -- opening and closing

    @classmethod
    def init(
        cls, path: Path, options: StoreOptions, *, clock: Clock, mountpoint: str | None = None
    ) -> StoreIdentity:
        """Make a new, empty store; what an earlier call left half made is made whole.

        Raises StoreExists, StoreReadOnly, DiskFull, StoreError.
        """
        made = identity.create(path, options, clock.time_ns(), mountpoint)
        try:
            shutil.rmtree(path / "index", ignore_errors=True)
            (path / "segments").mkdir(mode=0o700, exist_ok=True)
            (path / "index").mkdir(mode=0o700)
            Index.create(path / "index")
            identity.write(path, made)
        except OSError as error:
            with suppress(OSError):  # so that it can be called again
                (path / identity.NAME).unlink()
            raise of_disk(error, error.filename or path) from error
        return made

    @classmethod
    def open(cls, path: Path, *, clock: Clock) -> "Store":
        """Open the store for writing, replaying what its last checkpoint lacks.

        Raises NotAStore, FormatTooNew, StoreLocked, StoreReadOnly, IndexSpace, StoreDamaged,
        DiskFull, StoreError.
        """
        identity.read(path)
        lock = identity.lock(path)
        try:
            return cls(path, clock, lock)
        except OSError as error:
            os.close(lock)
            raise of_disk(error, error.filename or path) from error
        except BaseException:
            os.close(lock)
            raise

    @staticmethod
    def peek(path: Path) -> StoreIdentity:
        """What the store is, without opening it. Raises NotAStore, FormatTooNew, StoreDamaged."""
        return identity.read(path)

    def close(self) -> None:
        """Checkpoint, seal and unlock. Also unlocks when the disk refuses, and raises then."""
        try:
            self._log.seal()
            self.checkpoint()
            self._hints.close()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of everything as it stands: what a crash would leave."""
        self._log.abandon()
        self._hints.abandon()
        self._index.close()
        self._files.clear()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # -- acts

    def batch(self) -> Batch:
        return Batch(self._index)

    def commit(self, batch: Batch) -> None:
        """Make the act happen: one record in the log, its rows in the index.

        Raises DiskFull or StoreError, and nothing has happened then.
        """
        rows = batch.rows
        if not rows:
            return
        if self._index.lost:
            raise self._index.lost
        record = format.pack_batch(rows)
        log = self._log
        try:
            log.reserve(len(record))
            log.stage(record)
            log.flush()
        except FusefsError:
            log.drop_staged()
            raise
        self._apply(rows)
        self._batches += 1
        self._batches_since += 1
        if (
            self._batches_since >= CHECKPOINT_BATCHES * _OVERDUE
            or log.appended_bytes - self._bytes_since >= CHECKPOINT_BYTES * _OVERDUE
        ):
            # The act has happened, whatever becomes of this. The disk's refusal comes up at the
            # next checkpoint of the caller's own.
            with suppress(StoreError):
                self.checkpoint()

    def _apply(self, rows: dict[bytes, bytes | None]) -> None:
        self._account(rows)
        try:
            self._index.apply(rows)
        except MapFull:
            self._rebuild_transaction(grow=True)
        except StoreError:
            self._rebuild_transaction(grow=False)

    def _account(self, rows: dict[bytes, bytes | None]) -> None:
        get, account = self.get, self.totals.account
        for key, row in rows.items():
            if key[:1] in COUNTED:
                old = get(key)
                account(key, old, row)
                if key[:1] == keys.BLOCK:
                    with suppress(struct.error):
                        self.usage.account(old, row)

    def _rebuild_transaction(self, *, grow: bool) -> None:
        """Throw away an unusable transaction; the log knows everything that was in it.

        Raises StoreError where it cannot be read back. The rows are those of an earlier time then,
        so every later act and look raises as well, until a checkpoint has tried this again.
        """
        try:
            self._index.restart(grow=grow)
            self._checkpoint = self._read_position()
            end = self._replay_into_transaction()
            if end != self._log.position:
                raise StoreDamaged(f"{self._segments} does not verify from {end} on")
        except (OSError, StoreError) as error:
            lost = StoreError(
                f"{self.path / 'index'} cannot catch up with the log ({error}): unmount, check the"
                " disk, and mount again"
            )
            self._index.lose(lost)
            raise lost from error
        finally:
            self.get = self._index.get

    def _replay_into_transaction(self) -> Position:
        while True:
            try:
                return replay(
                    self._segments, self.identity.uuid_bytes, self._checkpoint, self._index.apply,
                    cut=False,
                ).end  # fmt: skip
            except MapFull:
                self._index.restart(grow=True)

    # -- blocks

    def add_block(self, batch: Batch, data: Buffer) -> int:
        """The number of a block with this content, written if it is new.

        The caller counts its references with `change_refs`. Raises DiskFull or StoreError.
        """
        digest = blake3(data).digest()
        number = self.find_block(batch, digest, len(data))
        if number is None:
            return self._write_block(batch, data, digest)
        block = self._block(batch, number)
        if self._is_sound(batch, number, block):
            self._dedup_hits += 1
            self._dedup_bytes += len(data)
        else:
            self._heal(batch, number, block, data)
        return number

    def find_block(self, batch: Batch, digest: bytes, length: int) -> int | None:
        """The number of a block with this BLAKE3 and length, if one is known; sound or not."""
        number = self._hints.get(digest)
        row = batch.get(keys.block(number)) if number is not None else None
        if row is not None:
            block = Block.unpack(row)
            if block.digest == digest and block.length == length:
                return number
        return None

    def _is_sound(self, batch: Batch, number: int, block: Block) -> bool:
        """Whether a block can be a copy of what is to be written: it is what it was.

        What this process did not write itself is read once to see that.
        """
        if self._bad.get(number) == (block.segment, block.offset):
            return False
        if batch.get(keys.corruption(number)) is not None:
            return False
        if number > self._inherited or number in self._sound:
            return True
        try:
            self.locate(number).read()
        except StoreDamaged:
            return False
        if len(self._sound) == _SOUND_MAX:
            self._sound.clear()
        self._sound.add(number)
        with suppress(StoreDamaged):  # there need be none of that number
            self.prefetch(number + _AHEAD)
        return True

    def _heal(self, batch: Batch, number: int, block: Block, data: Buffer) -> None:
        """Write the content of a bad block anew, for all that need it."""
        codec, payload = format.encode(data, self._compress)
        leaves = _leaves(codec, data)
        new = block._replace(stored=len(payload), codec=codec, leaves=leaves)
        self.write_again(batch, number, new, payload)
        batch.delete(keys.corruption(number))
        self._count_written(data, payload)

    def _count_written(self, data: Buffer, payload: Buffer) -> None:
        self._blocks_written += 1
        self._plain_written += len(data)
        self._bytes_written += len(payload)

    def _write_block(self, batch: Batch, data: Buffer, digest: bytes) -> int:
        codec, payload = format.encode(data, self._compress)
        number = self.counters.block = self.counters.block + 1
        at = self._append_block(number, codec, len(data), digest, payload)
        offset = at.offset + format.BLOCK_OVERHEAD
        leaves = _leaves(codec, data)
        block = Block(at.segment, offset, len(payload), len(data), codec, digest, 0, leaves)
        batch.put(keys.block(number), block.pack())
        self._hints.put(digest, number)
        self._count_written(data, payload)
        return number

    def _append_block(
        self, number: int, codec: int, length: int, digest: bytes, payload: Buffer
    ) -> Position:
        log = self._log
        try:
            at = log.reserve(format.BLOCK_OVERHEAD + len(payload))
            offset = at.offset + format.BLOCK_OVERHEAD
            log.note_block(format.SealedBlock(number, offset, len(payload)))
            log.stage(format.pack_block(number, codec, length, digest, len(payload)), payload)
        except FusefsError:
            log.drop_staged()
            raise
        return at

    def write_again(self, batch: Batch, number: int, block: Block, payload: Buffer) -> None:
        """Append a block's record once more, and let its row point there.

        Raises DiskFull or StoreError.
        """
        at = self._append_block(number, block.codec, block.length, block.digest, payload)
        offset = at.offset + format.BLOCK_OVERHEAD
        batch.put(keys.block(number), block._replace(segment=at.segment, offset=offset).pack())

    def change_refs(self, batch: Batch, number: int, by: int) -> None:
        """Add `by` to the references of a block. Raises StoreDamaged if there is none such.

        One that is known to be bad is forgotten with its last reference.
        """
        block = self._block(batch, number)
        if block.refs + by < 0:
            raise StoreDamaged(f"block {number} has fewer references than extents: run fusefs fsck")
        if block.refs + by or batch.get(keys.corruption(number)) is None:
            batch.put(keys.block(number), block.with_refs(block.refs + by).pack())
        else:
            self.drop_block(batch, number)

    def drop_block(self, batch: Batch, number: int) -> None:
        """Forget a block that nothing needs, and what is known of it."""
        batch.delete(keys.block(number))
        if batch.get(keys.corruption(number)) is not None:
            batch.delete(keys.corruption(number))

    def _block(self, source: "Batch | Index", number: int) -> Block:
        row = source.get(keys.block(number))
        if row is None:
            raise StoreDamaged(f"block {number} is not in the index: run fusefs fsck")
        return Block.unpack(row)

    def read_block(self, number: int) -> Buffer:
        """The content of a block, verified. May wait for the disk. Raises StoreDamaged."""
        content = self._cache.get(number)
        if content is None:
            content = self.locate(number).read()
            assert content is not None
        return content

    def cached_block(self, number: int) -> Buffer | None:
        """The content of a block, if it is in memory."""
        return self._cache.get(number)

    def locate(self, number: int) -> ColdBlock:
        """How to read a block, perhaps later and in another thread. Raises StoreDamaged."""
        block = self._block(self._index, number)
        try:
            file = self._open_segment(block.segment)
        except StoreDamaged as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise self.note_damage(number, block, NO_SEGMENT) from error
            raise
        return ColdBlock(self, number, block, file)

    def prefetch(self, number: int) -> None:
        """Tell the kernel that the block is wanted soon."""
        cold = self.locate(number)
        os.posix_fadvise(
            cold.file.descriptor, cold.block.offset, cold.block.stored, os.POSIX_FADV_WILLNEED
        )

    def note_damage(self, number: int, block: Block, bad: Bad) -> StoreDamaged:
        """Count and report a block that does not verify; returns the error to raise.

        In any thread.
        """
        self._damaged_reads += 1
        where = f"segment {format.segment_name(block.segment)} at byte {block.offset}"
        self._bad[number] = block.segment, block.offset
        self.on_damage(number, bad)
        return StoreDamaged(f"block {number} in {where}: {bad.reason}")

    def keep_in_memory(self, number: int, content: Buffer) -> None:
        """Remember the verified content of a block for the next readers."""
        self._cache.put(number, content)

    def _open_segment(self, number: int) -> SegmentFile:
        file = self._files.get(number)
        if file is not None:
            self._files.move_to_end(number)
            return file
        file = SegmentFile(self._segments / format.segment_name(number))
        self._files[number] = file
        if len(self._files) > _OPEN_SEGMENTS:
            self._files.popitem(last=False)
        return file

    # -- durability

    @property
    def unsynced_bytes(self) -> int:
        """Appended bytes that a power cut could take."""
        return self._log.appended_bytes - self.synced_bytes

    @property
    def appended_bytes(self) -> int:
        """All bytes appended by this process; a mark to compare with."""
        return self._log.appended_bytes

    def sync(self) -> None:
        """Make all commits so far durable. May run in a thread beside the owner.

        Raises StoreError, and at every later call, if the disk refused.
        """
        mark = self._log.appended_bytes
        self._log.sync()
        self.synced_bytes = max(self.synced_bytes, mark)
        self._syncs += 1

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether enough was appended since the last checkpoint, apart from its age."""
        return (
            self._batches_since >= CHECKPOINT_BATCHES
            or self._log.appended_bytes - self._bytes_since >= CHECKPOINT_BYTES
        )

    @property
    def has_uncheckpointed(self) -> bool:
        return self._batches_since > 0

    def checkpoint(self) -> None:
        """Move the index up to the log, durably.

        Raises DiskFull or StoreError; commits go on from the log as it is.
        """
        self._log.flush()
        failpoints.hit("checkpoint.begin")
        self.sync()
        if self._index.lost:
            self._rebuild_transaction(grow=False)
        position = self._log.position
        books = {
            "position": msgspec.msgpack.encode(position),
            "counters": msgspec.msgpack.encode(self.counters),
            "totals": msgspec.msgpack.encode(self.totals),
            **self.usage.books(),
        }
        self._commit_index(books)
        self.usage.kept()
        self._checkpoint = position
        self._batches_since = 0
        self._bytes_since = self._log.appended_bytes
        self._checkpoints += 1

    def _commit_index(self, books: Mapping[str, bytes | None]) -> None:
        while True:
            try:
                return self._index.commit(books)
            except MapFull:
                self._rebuild_transaction(grow=True)
            except StoreError:
                self._rebuild_transaction(grow=False)
                raise
            finally:
                self.get = self._index.get

    def seal(self) -> None:
        """End the current segment, so that it can be copied away whole."""
        self._log.seal()

    # -- collecting

    @property
    def checkpointed(self) -> Position:
        """How far the index has durably caught up with the log."""
        return self._checkpoint

    @property
    def index_bytes(self) -> int:
        return self._index.size_bytes

    @property
    def newest_segment(self) -> int:
        """The one that the log writes to; it must not be deleted."""
        return self._log.position.segment

    @property
    def segments(self) -> Mapping[int, int]:
        """Bytes of each segment's file."""
        return self._log.sizes

    @property
    def segments_bytes(self) -> int:
        """Of all segments' files."""
        return self._log.total_bytes

    def roll(self) -> None:
        """End the newest segment and begin another, so that it can be collected as well.

        Raises DiskFull or StoreError.
        """
        self._log.roll()
        failpoints.hit("collect.rolled")

    def write_snapshot(self) -> None:
        """Lay a copy of the index as of the last checkpoint into STORE/snapshot; waits for the
        disk, so best in another thread.

        Raises DiskFull or StoreError.
        """
        path = self.path / snapshot.NAME
        self._index.copy(path.with_name(path.name + ".new"))
        try:
            os.replace(path.with_name(path.name + ".new"), path)
            durable.sync_directory(self.path)
        except OSError as error:
            raise of_disk(error, path) from error
        failpoints.hit("collect.snapshot")

    def forget_old_index(self) -> None:
        """What a rebuild has put aside is not needed any more, nor what one has left half made."""
        for name in (OLD_INDEX, NEW_INDEX):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def forget_segment(self, number: int) -> None:
        """The segment's file was deleted."""
        self._files.pop(number, None)
        self._log.forget(number)
        self.usage.forget(number)

    def set_aside(self, number: int) -> None:
        """Take a damaged segment out of the log and lay it into STORE/cut: a checkpoint knows that
        nothing in it is of use, and the snapshot what its acts did.

        Raises StoreError.
        """
        name = format.segment_name(number)
        try:
            (self.path / "cut").mkdir(mode=0o700, exist_ok=True)
            (self._segments / name).rename(self.path / "cut" / f"{name}-damaged")
            durable.sync_directory(self.path / "cut")
            durable.sync_directory(self._segments)
        except OSError as error:
            raise StoreError(f"{self._segments / name}: {error.strerror}") from error
        self.forget_segment(number)

    def recount(self) -> None:
        """Count totals and usage again, and raise the counters to the highest numbers there are;
        the next checkpoint keeps that."""
        totals = Totals()
        for key, row in self.scan(b""):
            self.counters.take(key)
            if key[:1] in (keys.ENTRY, keys.HISTORY):  # their numbers were cookies
                self.counters.cookie = max(self.counters.cookie, keys.number(key))
            if key[:1] in COUNTED:
                totals.account(key, None, row)
        self.totals = totals
        self.usage = self.usage.renewed(self.scan(keys.BLOCK))

    # -- looking

    def scan(self, start: bytes, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows from `start` on while keys begin with `prefix` (default: `start`)."""
        return self._index.scan(start, prefix)

    def covering(self, first: bytes, end: bytes, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """The row at or before `first` and all up to `end`, exclusive, with `prefix`."""
        return self._index.covering(first, end, prefix)

    def tail(self, end: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` rows before `end` with `prefix`, the last one first."""
        return self._index.tail(end, prefix, limit)

    @property
    def lacks_hints(self) -> bool:
        """Whether `find_block` may miss blocks, because the hints are being filled again."""
        return self._hints.needs_refill

    def refill_hints(self) -> Iterator[None]:
        """Fill the hints again after an unclean stop, with a pause after each slice but the last.

        The newest blocks come first: what was being written when the power failed is what will be
        written again.
        """
        end = keys.BLOCK + b"\xff"
        while self._hints.needs_refill:
            rows = self.tail(end, keys.BLOCK, REFILL_SLICE)
            for key, row in rows:
                self._hints.put(Block.unpack(row).digest, keys.number(key))
                end = key
            self._hints.needs_refill = len(rows) == REFILL_SLICE
            if self._hints.needs_refill:
                yield

    def statistics(self) -> StoreStatistics:
        return StoreStatistics(
            position=self._log.position,
            checkpoint=self._checkpoint,
            checkpoints=self._checkpoints,
            batches=self._batches,
            blocks_written=self._blocks_written,
            bytes_written=self._bytes_written,
            plain_bytes_written=self._plain_written,
            dedup_hits=self._dedup_hits,
            dedup_bytes=self._dedup_bytes,
            syncs=self._syncs,
            replay=self.replay,
            damaged_reads=self._damaged_reads,
        )

    # -- recovery

    def _require_index(self) -> None:
        """LMDB would make one anew and empty, and so lose what the log alone does not tell."""
        data = self.path / "index" / "data.mdb"
        if not data.is_file() or not data.stat().st_size:
            raise StoreDamaged(f"{data} is missing or empty: {WAY_OUT}")

    def _require_log(self) -> None:
        """An index that knows of no log yet is a new store's, or not the one of this log."""
        if self._checkpoint == (0, 0):
            has_lost = (self.path / snapshot.NAME).exists()
            if has_lost or min(list_segments(self._segments), default=1) != 1:
                raise StoreDamaged(f"{self.path / 'index'} is not of this log: {WAY_OUT}")

    def _read_books(self) -> None:
        """`counters`, `totals` and `usage` as of the last checkpoint."""
        self.counters = self._read_book("counters", Counters) or Counters()
        self.totals = self._read_book("totals", Totals) or Totals()
        self.usage = Usage()
        if self.usage.has_books(self._index.book("live")):
            try:
                self.usage.load(self._index.scan(BOOKS))
            except ValueError as error:
                raise StoreDamaged(
                    f"{self.path / 'index'}: the books of the segments do not decode: {WAY_OUT}"
                ) from error
        else:
            for _, row in self._index.scan(keys.BLOCK):
                with suppress(struct.error):
                    self.usage.account(None, row)

    def _read_position(self) -> Position:
        return Position(*(self._read_book("position", tuple[int, int]) or (0, 0)))

    def _read_book(self, name: str, kind: type[_Book]) -> _Book | None:
        book = self._index.book(name)
        try:
            return msgspec.msgpack.decode(book, type=kind) if book else None
        except msgspec.MsgspecError as error:
            raise StoreDamaged(
                f"{self.path / 'index'}: {name} does not decode ({error}): {WAY_OUT}"
            ) from error

    def _replay(self) -> Replay:
        while True:
            try:
                done = replay(
                    self._segments, self.identity.uuid_bytes, self._checkpoint,
                    self._apply_replayed,
                )  # fmt: skip
                break
            except MapFull:
                self._index.restart(grow=True)
                self.get = self._index.get
                self._read_books()
        if done.end != self._checkpoint:
            make_durable(self._segments, self._checkpoint)
        return done

    def _apply_replayed(self, rows: dict[bytes, bytes | None]) -> None:
        for key in rows:
            self.counters.take(key)
        self._account(rows)
        self._index.apply(rows)


def _leaves(codec: int, content: Buffer) -> bytes:
    """The hashes of the parts of a block, if it is to have any."""
    return leaf_hashes(content) if codec == RAW and len(content) > 2 * LEAF_SIZE else b""
