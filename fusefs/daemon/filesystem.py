"""The rooms below, put together for one store, and their background work."""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from uuid import uuid4

import structlog
import trio

from fusefs.base.clock import Clock, SystemClock
from fusefs.base.events import Events, Kind
from fusefs.base.tally import Tally
from fusefs.config.options import MountOptions
from fusefs.daemon.collecting import Collected, Collecting
from fusefs.daemon.evicting import Evicted, Evicting
from fusefs.daemon.fetching import Fetching
from fusefs.daemon.move_desk import MoveDesk
from fusefs.daemon.orders import Orders
from fusefs.daemon.pace import Pace
from fusefs.daemon.pins import Pins
from fusefs.daemon.purging import Purging
from fusefs.daemon.scrubbing import Scrubbing
from fusefs.daemon.staging import Staging
from fusefs.daemon.sweeping import Sweeping
from fusefs.daemon.syncing import Syncing
from fusefs.errors import (
    DiskFull,
    FusefsError,
    NoSuchPath,
    Refused,
    StoreDamaged,
    StoreReadOnly,
)
from fusefs.files.files import FLUSH_AGE_S, Files
from fusefs.files.reaper import Reaper
from fusefs.model.block import Block
from fusefs.model.corruption import Corruption
from fusefs.model.entry import Entry, State
from fusefs.model.inode import Inode
from fusefs.model.job import Job
from fusefs.model.scrub import Pass
from fusefs.store import format
from fusefs.store.cipher import Cipher
from fusefs.store.store import Store
from fusefs.sync.synced import Synced
from fusefs.transfers.transfers import Transfers
from fusefs.trash.expiry import Expiry
from fusefs.trash.purge import Purger
from fusefs.trash.trash import Trash
from fusefs.tree.tree import Tree
from fusefs.uploads.uploads import Finished, Uploads

#: An index older than this makes a mount after a crash slower than it need be.
CHECKPOINT_AGE_S = 2.0
_TICK_S = 0.25
#: After an unclean stop: slices of hints that a start fills, some 100 ms in all, and how much
#: longer than a later slice the time is between two of them.
_REFILLED_AT_ONCE = 10
_REFILL_REST = 3

ForgetFile = Callable[[Sequence[tuple[int, bytes]], int], None]

log = structlog.get_logger(__name__)


class Filesystem:
    """An open store with everything above it but the face."""

    def __init__(self, store: Store, options: MountOptions) -> None:
        self.store = store
        self.options = options
        self.events = Events(store.clock)
        self._refill = store.blocks.refill_hints()
        self.tally = Tally()
        self.tree = Tree(
            store, noatime=options.noatime or options.read_only, nodiratime=options.nodiratime
        )
        self.tree.format(os.getuid(), os.getgid())
        self.trash = Trash(self.tree, is_enabled=options.trash)
        self.files = Files(self.tree, limit_bytes=options.dirty_limit_bytes)
        self.files.partials.date = self.trash.steady.date
        self.orders = Orders()
        self.fetching = Fetching(
            store, self.orders, timeout_s=options.fetch_timeout_s, read_only=options.read_only
        )
        self.files.elsewhere = self.fetching
        store.space.give_way = self.fetching.drop_oldest
        self.uploads = Uploads(self.tree, self.files)
        self.uploads.after_rename = lambda: deque(self.trash.revive(), maxlen=0)
        self.reaper = Reaper(self.tree, self.files.extents, self.files.partials, self._is_held)
        self.purger = Purger(self.tree, self.trash, self.files.is_open)
        self.purger.try_again = self.reaper.forgive
        self.expiry = Expiry(store, self.trash, self.purger)
        self.purging = Purging(
            self.trash, self.purger, self.expiry, self.reaper, Pace(lambda: self.tally.requests)
        )
        self.scrubbing = Scrubbing(
            self.tree,
            Pace(lambda: self.tally.requests),
            rate=options.scrub_rate,
            every_s=options.scrub_every_s,
        )
        self.collecting = Collecting(store)
        self.pins = Pins(self.tree)
        self.evicting = Evicting(
            store, self.pins, self.orders, self.fetching, self.collecting,
            limit_bytes=options.cache_bytes,
        )  # fmt: skip
        self.evicting.tell = self._tell_evicted
        self.sweeping = Sweeping(
            self.tree, self.files, self.trash, self.events, options.partial_age_s
        )
        self.sweeping.forget_name = lambda parent, name: self.forget_name(parent, name)
        self.syncing = Syncing(store, self.events, self._write_out, is_read_only=options.read_only)
        self.syncing.sync = self.files.sync
        self.files.synced = Synced(
            store, self.syncing.registry, self.syncing.copies, self.files.extents
        ).describe
        self.move_desk = MoveDesk(store, Staging(store, self.tree, self.pins, self.fetching))
        self.move_desk.wake = lambda: self.wake_agent()
        self.transfers = Transfers(
            store, self.move_desk, options.transfers, self.events, lambda: uuid4().bytes
        )
        self.trash.tell = self._tell
        self.purging.tell_over = self._tell_over
        self.collecting.tell = self._tell_collected
        self.scrubbing.tell_found = self._tell_corruption
        self.scrubbing.tell_over = self._tell_scrubbed
        self.scrubbing.heal = self.fetching.heal_now
        self.fetching.tell_failed = self._tell_not_fetched
        self.fetching.tell_healed = self._tell_healed
        self.collecting.is_urgent = lambda: self.expiry.missing_bytes() > 0
        self.collecting.merges_up_to = self.syncing.published_segment
        #: Whether the face still knows an inode, and how it learns that a name came or went; set
        #: by it.
        self.is_referenced: Callable[[int], bool] = lambda ino: False
        self.forget_name: Callable[[int, bytes], None] = lambda parent, name: None
        #: How the agent hears that it may be needed, or may not any more; set by the daemon.
        self.wake_agent: Callable[[], None] = lambda: None
        self.syncing.tell_changed = lambda: self.wake_agent()
        #: How it forgets names (parent, name) and then all about an inode; returns when it has, so
        #: it is called in a thread.
        self.forget_file: ForgetFile = lambda names, ino: None

    def _is_held(self, ino: int) -> bool:
        held = self.files.is_open(ino) or self.files.partials.holds(ino)
        return held or self.is_referenced(ino)

    def _tell(self, one: Entry) -> None:
        if one.state in (State.COMPLETE, State.ERROR):
            self.events.publish(
                Kind.PURGE, entry=one.number, path=b"/" + one.origin, state=one.state.value,
                job=one.job, errno=one.errno, error=one.message,
            )  # fmt: skip

    def _tell_over(self, job: Job) -> None:
        self.events.publish(
            Kind.PURGE_JOB, job=job.number, why=job.cause, done=job.done, failed=job.failed,
            in_use=job.skipped,
        )  # fmt: skip

    def _tell_collected(self, done: Collected) -> None:
        self.events.publish(
            Kind.COLLECTED, segments=done.segments, freed_bytes=done.freed_bytes,
            moved_bytes=done.moved_bytes, failed_segments=done.failed_segments,
        )  # fmt: skip

    def _tell_corruption(self, one: Corruption) -> None:
        self.events.publish(
            Kind.CORRUPTION, block=one.block, segment=format.segment_name(one.segment),
            offset=one.offset, state=one.state.value, reason=one.reason,
            path=one.objects[0].path if one.objects else None,
            inode=one.objects[0].ino if one.objects else None,
        )  # fmt: skip

    def _tell_evicted(self, done: Evicted) -> None:
        self.events.publish(
            Kind.EVICTED,
            segments=done.segments,
            freed_bytes=done.freed_bytes,
            refused=len(done.refused),
        )

    def _tell_not_fetched(self, segment: int, why: str) -> None:
        self.events.publish(Kind.NOT_FETCHED, segment=format.segment_name(segment), reason=why)

    def _tell_healed(self, number: int, bad: Block) -> None:
        self.events.publish(
            Kind.HEALED, block=number, segment=format.segment_name(bad.segment), offset=bad.offset
        )

    def _tell_scrubbed(self, done: Pass) -> None:
        self.events.publish(
            Kind.SCRUBBED, blocks=done.blocks, read_bytes=done.read_bytes, damaged=done.damaged,
            healed=done.healed,
        )  # fmt: skip

    @classmethod
    def open(
        cls, path: Path, options: MountOptions, clock: Clock | None = None,
        cipher: Cipher | None = None,
    ) -> "Filesystem":  # fmt: skip
        """Open the store at `path`, recovering it if need be; `cipher`: of an encrypted one.

        Raises as `Store.open`.
        """
        store = Store.open(path, clock=clock or SystemClock(), cipher=cipher)
        try:
            filesystem = cls(store, options)
        except BaseException:
            store.abandon()
            raise
        replay = store.replay
        if replay.cut_bytes:
            log.warning(
                "the log ended in bytes that do not verify; they lie in the folder cut",
                cut_bytes=replay.cut_bytes,
                why=replay.cut_why,
            )
        if replay.lost_bytes:
            log.error(
                "the log is shorter than at its last checkpoint: a disk or a copy lost bytes;"
                " files that need them cannot be read, fusefs fsck names them",
                lost_bytes=replay.lost_bytes,
            )
        for _ in filesystem.trash.revive():  # what a crash cut short
            pass
        try:
            filesystem.files.partials.settle(is_read_only=options.read_only)
            if not options.read_only:
                filesystem.uploads.settle()
        except (DiskFull, StoreDamaged) as error:  # no reason not to mount
            log.warning("half-written files could not be looked at", error=str(error))
        for _ in islice(filesystem._refill, _REFILLED_AT_ONCE):
            pass
        store.forget_old_index()
        if replay.batches:
            log.info("recovered", replayed_records=replay.batches, blocks=replay.blocks)
            filesystem.events.publish(Kind.RECOVERED, records=replay.batches)
        return filesystem

    def resolve(self, path: bytes) -> Inode:
        """What lies at `path`, from the root of the filesystem. Raises NoSuchPath."""
        try:
            return self.tree.resolve(path)
        except Refused as refusal:
            shown = path.decode(errors="backslashreplace").strip("/")
            raise NoSuchPath(f"/{shown} does not exist in this store") from refusal

    @property
    def needs_agent(self) -> bool:
        """Whether there is, or soon may be, something that waits on a network."""
        return len(self.syncing.registry) > 0 or self.move_desk.is_wanted

    def check_writable(self) -> None:
        """Raises StoreReadOnly."""
        if self.options.read_only:
            raise StoreReadOnly("the store is mounted read-only: mount it without -o ro")

    def _write_out(self) -> None:
        self.files.flush_all()
        self.tree.flush_times()

    async def flush(self) -> None:
        """Make everything written so far durable."""
        self.files.flush_all()
        await self.files.sync()

    async def run_background(self) -> None:
        """Flush by age, checkpoint, purge, free what nobody needs; until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_ticks)
            nursery.start_soon(self._refill_hints)
            if not self.options.read_only:
                nursery.start_soon(self._finish_uploads)
                nursery.start_soon(self.collecting.run)
                nursery.start_soon(self.evicting.run)
                nursery.start_soon(self.purging.run)
                nursery.start_soon(self.sweeping.run)
                nursery.start_soon(self.scrubbing.run)
                nursery.start_soon(self.transfers.serve)

    async def _run_ticks(self) -> None:
        """What is due every now and then.

        A full disk is no reason to stop: it is said once, and tried again.
        """
        clock = self.store.clock
        last_checkpoint = clock.monotonic()
        was_full = False
        while True:
            await trio.sleep(_TICK_S)
            try:
                self.files.store_whole()
                self.files.flush_older_than(FLUSH_AGE_S)
                self._forget_vanished()
                self.uploads.tend()
                self.store.give_back_memory()
                is_old = clock.monotonic() - last_checkpoint >= CHECKPOINT_AGE_S
                if is_old or self.store.is_checkpoint_due:
                    await self._checkpoint()
                    last_checkpoint = clock.monotonic()
                was_full = False
            except DiskFull as error:
                if not was_full:
                    log.warning("background work waits for space", error=str(error))
                was_full = True

    async def _refill_hints(self) -> None:
        """In some of the time, so that requests go on."""
        started = time.monotonic()
        for _ in self._refill:
            self.store.give_back_memory()  # the look at all blocks is one at all of the index
            await trio.sleep((time.monotonic() - started) * _REFILL_REST)
            started = time.monotonic()

    async def _finish_uploads(self) -> None:
        """Those whose senders ended after the last byte; the next start tries again."""
        while True:
            await trio.sleep(_TICK_S)
            try:
                async for done in self.uploads.finish_left():
                    await self.tell_uploaded(done)
            except (DiskFull, StoreDamaged) as error:
                log.warning("an upload whose sender is gone cannot be finished", error=str(error))

    async def tell_uploaded(self, done: Finished) -> None:
        """A copy has its name, unless that is gone again."""
        await self.forget_upload(done)
        try:
            above = self.tree.path_of(self.tree.inode(done.parent))
        except Refused:
            return
        path = b"/".join((b"", above, done.name) if above else (b"", done.name))
        self.events.publish(Kind.UPLOADED, path=path, uid=done.uid)

    async def forget_upload(self, done: Finished) -> None:
        """The kernel knows nothing of the new name yet; who asks afterwards has to see it."""
        names = [(done.parent, done.staged), (done.parent, done.name)]
        await trio.to_thread.run_sync(self.forget_file, names, done.ino)

    def _forget_vanished(self) -> None:
        """Have the face let go of purged names, or their inodes would be kept for it."""
        vanished, self.purger.vanished = self.purger.vanished, []
        for parent, name, ino in vanished:
            if self.is_referenced(ino):
                self.forget_name(parent, name)

    async def _checkpoint(self) -> None:
        self.tree.flush_times()
        if self.store.has_uncheckpointed:
            await self.files.sync()  # most of it beside the loop, so that little is left for it
            self.store.checkpoint()

    def close(self) -> None:
        """Flush, checkpoint and unlock; unlocks also when the disk refuses, and raises then."""
        try:
            self.files.flush_all()
            self.is_referenced = lambda ino: False
            self.reaper.step()
            self.scrubbing.save()
        except FusefsError as error:
            log.error("not everything could be written", error=str(error))
            raise
        finally:
            self.store.close()
