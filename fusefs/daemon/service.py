"""What can be asked of an open filesystem: plain records, the same for a daemon and for the CLI."""

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec
import trio

from fusefs import __version__
from fusefs.base.clock import utc
from fusefs.daemon.collecting import Progress
from fusefs.daemon.fetch_desk import FetchDesk
from fusefs.daemon.filesystem import Filesystem
from fusefs.daemon.partial_desk import PartialDesk
from fusefs.daemon.scrub_desk import ScrubDesk
from fusefs.daemon.sync_desk import SyncDesk
from fusefs.daemon.transfer_desk import TransferDesk
from fusefs.daemon.trash_desk import TrashDesk
from fusefs.daemon.upload_desk import UploadDesk
from fusefs.daemon.verbs import Desk
from fusefs.errors import StoreReadOnly
from fusefs.model import keys
from fusefs.model.block import RAW, RAW_ENCRYPTED, ZSTD, ZSTD_ENCRYPTED, Block
from fusefs.model.extent import DAMAGED, HOLE
from fusefs.model.inode import IN_TRASH, Inode
from fusefs.store import format
from fusefs.store.store import StoreStatistics

Record = dict[str, Any]
#: The arguments of a verb, and what does it with them for a user.
BoundVerb = tuple[type[msgspec.Struct], Callable[[Any, int], Awaitable[Any]]]

_MAX_EXTENTS = 1000
_CODECS = {
    RAW: "raw",
    ZSTD: "zstd",
    RAW_ENCRYPTED: "raw, encrypted",
    ZSTD_ENCRYPTED: "zstd, encrypted",
}


class Service:
    """Answers about `filesystem`."""

    def __init__(
        self, filesystem: Filesystem, mountpoint: str | None, metrics: str | None = None
    ) -> None:
        self._filesystem = filesystem
        self.events = filesystem.events
        self._mountpoint = mountpoint
        self._metrics = metrics
        self._started = time.time()
        desks: list[Desk] = [
            TrashDesk(filesystem),
            PartialDesk(filesystem),
            ScrubDesk(filesystem),
            UploadDesk(filesystem),
            FetchDesk(filesystem),
            SyncDesk(filesystem),
            TransferDesk(filesystem),
            filesystem.move_desk,
        ]
        self._desk_of = {name: desk for desk in desks for name in desk.VERBS}

    def verb(self, name: str) -> BoundVerb | None:
        """A verb of a desk, if there is one of that name."""
        if (desk := self._desk_of.get(name)) is None:
            return None
        verb = desk.VERBS[name]
        return verb.arguments, partial(verb.perform, desk)

    def status(self) -> Record:
        """Counters, space, the log and the mount."""
        filesystem = self._filesystem
        store = filesystem.store
        statistics = store.statistics()
        return {
            "pid": os.getpid(),
            "version": __version__,
            "store": os.fspath(store.path),
            "uuid": store.identity.uuid,
            "is_encrypted": store.identity.is_encrypted,
            "mountpoint": self._mountpoint,
            "started": utc(int(self._started * 1e9)),
            "inodes": store.totals.inodes,
            "waiting_bytes": filesystem.files.waiting_bytes,
            "unsynced_bytes": store.unsynced_bytes,
            "log_segment": statistics.position.segment,
            "log_offset": statistics.position.offset,
            "cut_bytes": statistics.replay.cut_bytes,
            "partials": filesystem.sweeping.record(),
            "counters": self._counters(statistics),
            "corruption_records": filesystem.scrubbing.count(),
            "metrics": self._metrics,
            **filesystem.purging.record(),
            "collecting": self._collecting(),
            "scrub": filesystem.scrubbing.record(),
            "away": filesystem.fetching.record(),
            "remotes": filesystem.syncing.records(),
            **self.df(),
        }

    def _counters(self, statistics: StoreStatistics) -> Record:
        """What only grows while the store is open; `metrics.COUNTERS` says what each is."""
        scrubbing = self._filesystem.scrubbing
        return {
            **asdict(self._filesystem.tally),
            "already_present": statistics.blocks.dedup_hits,
            "already_present_bytes": statistics.blocks.dedup_bytes,
            "needed": statistics.blocks.written,
            "needed_bytes": statistics.blocks.plain_bytes,
            "bytes_stored": statistics.blocks.written_bytes,
            "log_syncs": statistics.syncs,
            "checkpoints": statistics.checkpoints,
            "replayed_records": statistics.replay.batches,
            "damaged_reads": statistics.blocks.damaged_reads,
            "healed": statistics.blocks.healed,
            **asdict(self._filesystem.fetching.counts),
            "scrubbed": scrubbing.scrubbed_blocks,
            "scrubbed_bytes": scrubbing.scrubbed_bytes,
            "uploads": asdict(self._filesystem.uploads.counts),
        }

    def df(self) -> Record:
        """Bytes of the store by what they are for.

        `live_bytes` and `trash_bytes` are sizes of files; `stored_bytes` are blocks on disk that
        something needs, `garbage_bytes` those that nothing needs any more. `segments_bytes` are the
        files that blocks and metadata lie in, `reclaimable_bytes` what `gc` would free of them.
        """
        store = self._filesystem.store
        totals = store.totals
        free = store.space.refresh()
        return {
            "files": totals.files,
            "directories": totals.directories,
            "trash_entries": totals.trash_entries,
            "live_bytes": totals.live_bytes,
            "trash_bytes": totals.trash_bytes,
            "stored_bytes": totals.stored_bytes,
            "garbage_bytes": totals.garbage_bytes,
            "dedup_saved_bytes": max(0, totals.referenced_bytes - totals.plain_bytes),
            "compression_saved_bytes": totals.plain_bytes - totals.stored_bytes,
            "disk_free_bytes": free,
            "reserve_bytes": store.space.reserve_bytes,
            "segments": len(store.segments),
            "segments_bytes": store.segments_bytes,
            "reclaimable_bytes": self._filesystem.collecting.plan().reclaimable_bytes,
        }

    def _collecting(self) -> Record | None:
        progress = self._filesystem.collecting.progress
        return progress and {"segments_done": progress[0], "segments_planned": progress[1]}

    def info(self, path: bytes) -> Record:
        """Inode, extents and blocks of `path`, from the root of the filesystem.

        Raises NoSuchPath.
        """
        tree = self._filesystem.tree
        inode = self._filesystem.resolve(path)
        extents = []
        if inode.is_file and inode.stored_size:
            found = self._filesystem.files.extents.covering(inode.ino, 0, inode.stored_size)
            extents = [self._extent(one) for one in found[:_MAX_EXTENTS]]
        return {
            "path": "/" + os.fsdecode(path.strip(b"/")),
            "inode": inode.ino,
            "mode": f"{inode.mode:o}",
            "links": inode.nlink,
            "trash_names": inode.trash_names,
            "state": _state(inode),
            "uid": inode.uid,
            "gid": inode.gid,
            "size": inode.size,
            "stored_size": inode.stored_size,
            "allocated_bytes": inode.blocks_bytes,
            "modified": utc(inode.mtime),
            "changed": utc(inode.ctime),
            "accessed": utc(inode.atime),
            "created": utc(inode.btime),
            "xattrs": [os.fsdecode(name) for name in tree.xattrs.names(inode.ino)],
            "extents": extents,
        }

    def _extent(self, one: Any) -> Record:
        shown: Record = {"offset": one.offset, "length": one.length}
        if one.block == HOLE:
            return {**shown, "hole": True}
        if one.block == DAMAGED:
            return {**shown, "damaged": True}
        row = self._filesystem.store.get(keys.block(one.block))
        if row is None:
            return {**shown, "block": one.block, "missing": True}
        block = Block.unpack(row)
        return {
            **shown,
            "block": one.block,
            "skip": one.skip,
            "segment": format.segment_name(block.segment),
            "segment_offset": block.offset,
            "stored": block.stored,
            "codec": _CODECS.get(block.codec, str(block.codec)),
            "references": block.refs,
            "blake3": self._filesystem.store.blocks.digest(block).hex(),
        }

    def purge_for(self, seconds: float) -> None:
        """Let purges go on for so long, where no daemon does. Raises DiskFull, StoreError."""
        self._filesystem.purging.work_for(seconds)

    async def gc(self, dry_run: bool, on_progress: Progress | None = None) -> Record:
        """Give back the space of what nothing needs. Raises DiskFull, StoreError."""
        filesystem = self._filesystem
        self._check_writable()
        while filesystem.reaper.step():
            await trio.lowlevel.checkpoint()
        if dry_run:
            return filesystem.collecting.plan().record()
        done = await filesystem.collecting.collect(on_progress)
        await filesystem.scrubbing.settle()  # what was found to be bad on the way
        return done.record()

    async def scrub_for(self, seconds: float) -> None:
        """Let a scrub go on for so long, where no daemon does. Raises DiskFull, StoreError."""
        await self._filesystem.scrubbing.work_for(seconds)

    def _check_writable(self) -> None:
        if self._filesystem.options.read_only:
            raise StoreReadOnly(f"{self._mountpoint} is mounted read-only: mount it without -o ro")

    def checkpoint(self) -> None:
        """Bring the index on disk up to date with the log."""
        self._filesystem.files.flush_all()
        self._filesystem.store.checkpoint()

    async def flush(self) -> None:
        """Make everything written so far durable."""
        await self._filesystem.flush()


def _state(inode: Inode) -> str:
    if inode.flags & IN_TRASH:
        return "trash"
    return "ready" if inode.nlink else "delete-pending"
