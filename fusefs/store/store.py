"""The store: what the rooms above use of log, index and hints.

One thread owns a Store. An act collects rows in a `Batch` and blocks through `blocks.add`, then
calls `commit`: afterwards it survives the death of this process. `sync` makes every commit before
it survive the machine's. `checkpoint` moves the index up to the log.
"""

import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from fusefs.base import durable, failpoints, resident
from fusefs.base.clock import Clock
from fusefs.config.options import StoreOptions
from fusefs.errors import FusefsError, StoreDamaged, StoreError, of_disk
from fusefs.model import keys
from fusefs.model.keyslot import Slot
from fusefs.model.remote import Copy
from fusefs.model.totals import COUNTED, Totals
from fusefs.store import format, identity, snapshot
from fusefs.store.blocks import BlockCounts, Blocks
from fusefs.store.cipher import Cipher
from fusefs.store.counters import Counters
from fusefs.store.hints import Hints
from fusefs.store.identity import StoreIdentity
from fusefs.store.index import WAY_OUT, Batch, Index, MapFull
from fusefs.store.log import Log, Position, Written
from fusefs.store.presence import Cache, copied_size, copies_of, is_copied
from fusefs.store.probe import probe
from fusefs.store.recovery import Replay, list_segments, make_durable, replay, segment_sizes
from fusefs.store.space import Space
from fusefs.store.usage import BOOKS, Usage

#: Enough for a checkpoint of some 10 ms (measured: 4 ms for 1 000 acts at a million files).
CHECKPOINT_BATCHES = 1000
#: Bounds what a mount after a crash must read and hash, to about half a second.
CHECKPOINT_BYTES = 256 << 20
#: `commit` itself makes the checkpoint where nobody else did by then.
_OVERDUE = 4
#: Tables of which a batch is no act: of what the store knows of itself, not of what users did.
_OWN_BOOKS = frozenset({keys.SETTING, keys.CORRUPTION, keys.REMOTE, keys.COPY})
#: But for these rows in them, which users made.
_OF_USERS = frozenset({keys.TRASH_POLICY, keys.COPIES_WANTED})
#: Resident bytes of mapped files, some 30 MiB of libraries among them, that are kept as they are.
MAPPED_BYTES = 64 << 20
#: Where a rebuild makes an index, and where it leaves the one that it has replaced.
NEW_INDEX, OLD_INDEX = "index.new", "index.old"
_Book = TypeVar("_Book")


def is_act(rows: Mapping[bytes, bytes | None]) -> bool:
    """Whether a batch is what users did, and not books of the store about itself."""
    first = next(iter(rows))
    return first[:1] not in _OWN_BOOKS or first in _OF_USERS


@dataclass(frozen=True)
class StoreStatistics:
    """Where the store stands. Counts are since this process opened it."""

    position: Position
    checkpoint: Position
    checkpoints: int
    batches: int
    blocks: BlockCounts
    syncs: int
    replay: Replay


class Store:
    """An open store, writable. Make one with `Store.open`."""

    def __init__(self, path: Path, clock: Clock, lock: int, cipher: Cipher | None) -> None:
        self.path = path
        self.clock = clock
        self._lock = lock
        self.identity = identity.read(path)
        self._cipher = cipher
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
        self.usage.note_existing(sizes)
        self._log = Log(
            self._segments, self.identity.uuid_bytes, self.replay.end, clock, sizes,
            is_encrypted=self.identity.is_encrypted,
        )  # fmt: skip
        self._hints = Hints(path / "hints")
        self.cache = Cache(path)
        self.blocks = Blocks(
            self._segments, self._log, self._index, self._hints, self.counters, self.cache,
            compress=self.identity.compression == "zstd", cipher=cipher,
        )  # fmt: skip
        self._batches_since = self.replay.batches
        self._bytes_since = 0
        self.synced_bytes = 0
        #: What is older is known to STORE/snapshot, as far as this process has written that.
        self.snapshot_segment = 0
        self._checkpoints = self._batches = self._syncs = 0
        #: How much users did since the store was opened; the store's books about itself are not.
        self.acts = 0
        if self.replay.batches or self.replay.cut_bytes:
            self.checkpoint()

    # -- opening and closing

    @classmethod
    def init(
        cls, path: Path, options: StoreOptions, *, clock: Clock, mountpoint: str | None = None,
        slot: Slot | None = None,
    ) -> StoreIdentity:  # fmt: skip
        """Make a new, empty store; what an earlier call left half made is made whole.

        `slot`: of its data key, where it is to be encrypted (store.keyring.first).
        Raises StoreExists, StoreLocked while another process does so, StoreReadOnly, DiskFull,
        StoreError.
        """
        made = identity.create(path, options, clock.time_ns(), mountpoint, slot)
        lock = identity.lock(path)
        try:
            identity.require_new(path)  # which another process may have made it meanwhile
            shutil.rmtree(path / "index", ignore_errors=True)
            (path / "segments").mkdir(mode=0o700, exist_ok=True)
            (path / "index").mkdir(mode=0o700)
            Index.create(path / "index")
            identity.write(path, made)
        except OSError as error:
            with suppress(OSError):  # so that it can be called again
                (path / identity.NAME).unlink()
            raise of_disk(error, error.filename or path) from error
        finally:
            os.close(lock)
        return made

    @classmethod
    def open(cls, path: Path, *, clock: Clock, cipher: Cipher | None = None) -> "Store":
        """Open the store for writing, replaying what its last checkpoint lacks. One of an earlier
        format becomes one of this. `cipher`: of an encrypted one (store.keyring.unlock).

        Raises NotAStore, FormatTooNew, WrongKey (nothing has changed then), StoreLocked,
        StoreReadOnly, IndexSpace, StoreDamaged, DiskFull, StoreError.
        """
        identity.read(path).require_key(path, cipher)
        lock = identity.lock(path)
        try:
            identity.upgrade(path, identity.read(path))
            return cls(path, clock, lock, cipher)
        except OSError as error:
            os.close(lock)
            raise of_disk(error, error.filename or path) from error
        except BaseException:
            os.close(lock)
            raise

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
        self.blocks.let_go()
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
        self.acts += is_act(rows)
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
                    cut=False, size_elsewhere=self.copied_size, cipher=self._cipher,
                ).end  # fmt: skip
            except MapFull:
                self._index.restart(grow=True)

    # -- durability

    def take_written(self) -> list[Written]:
        """What the disk may begin with, see `Log.take_written`."""
        return self._log.take_written()

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

    def give_back_memory(self) -> None:
        """Let go of what is mapped of the index and the hints, where it has become much."""
        if resident.mapped_bytes() > MAPPED_BYTES:
            resident.release(self.path)

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
    def sealed_segment(self) -> int:
        """The newest one that nothing will be appended to, 0 if there is none."""
        return self._log.sealed

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
        segment = self._checkpoint.segment
        self._index.copy(path.with_name(path.name + ".new"))
        try:
            os.replace(path.with_name(path.name + ".new"), path)
            durable.sync_directory(self.path)
        except OSError as error:
            raise of_disk(error, path) from error
        self.snapshot_segment = segment
        failpoints.hit("collect.snapshot")

    def forget_old_index(self) -> None:
        """What a rebuild has put aside is not needed any more, nor what one has left half made."""
        for name in (OLD_INDEX, NEW_INDEX):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def forget_segment(self, number: int) -> None:
        """The segment's file was deleted."""
        self.blocks.forget_segment(number)
        self._log.forget(number)
        self.usage.forget(number)

    def evict(self, number: int) -> int:
        """Delete the file of a segment that is in remotes; returns its bytes.

        The caller has proved the copies, and a checkpoint and a snapshot know all of its acts.
        Raises StoreError.
        """
        size = self.segments[number]
        path = self._segments / format.segment_name(number)
        try:
            failpoints.hit("evict.delete")
            path.unlink()
        except OSError as error:
            raise of_disk(error, path) from error
        failpoints.hit("evict.deleted")
        self.blocks.forget_segment(number)
        self._log.forget(number)
        self.usage.note_absent(number)
        return size

    def bring_back(self, number: int) -> None:
        """Take what was fetched of a segment, all of it and verified, into the log's directory.

        Raises DiskFull, StoreError.
        """
        source, target = self.cache.path(number), self._segments / format.segment_name(number)
        try:
            durable.sync_file(source)
            size = source.stat().st_size
            source.rename(target)
            durable.sync_directory(self._segments)
        except OSError as error:
            raise of_disk(error, source) from error
        self.cache.drop(number)
        self.blocks.forget_segment(number)
        self._log.adopt(number, size)
        self.usage.note_present(number)

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
        self.usage.note_existing(self.segments)

    # -- looking

    def scan(self, start: bytes, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows from `start` on while keys begin with `prefix` (default: `start`)."""
        return self._index.scan(start, prefix)

    def copies(self, segment: int) -> dict[int, Copy]:
        """The copies of a segment, by the number of the remote."""
        return dict(copies_of(self._index, segment))

    def copied_size(self, segment: int) -> int:
        """How long the copies of a segment are; 0 where there are none."""
        return copied_size(self._index, segment)

    def is_copied(self, segment: int) -> bool:
        """Whether a segment is in a remote."""
        return is_copied(self._index, segment)

    def covering(self, first: bytes, end: bytes, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """The row at or before `first` and all up to `end`, exclusive, with `prefix`."""
        return self._index.covering(first, end, prefix)

    def tail(self, end: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` rows before `end` with `prefix`, the last one first."""
        return self._index.tail(end, prefix, limit)

    def statistics(self) -> StoreStatistics:
        return StoreStatistics(
            position=self._log.position,
            checkpoint=self._checkpoint,
            checkpoints=self._checkpoints,
            batches=self._batches,
            blocks=replace(self.blocks.counts),
            syncs=self._syncs,
            replay=self.replay,
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
                    self._apply_replayed, size_elsewhere=self.copied_size,
                    cipher=self._cipher,
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
