"""The blocks of a store: written once each, found again by their content, read back verified.

A block that is written again rests on the one that is there only if that is what it was: what this
process did not write itself is read to see that, and one that is bad is written anew under its
number, for all files that need it.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from fusefs.errors import FusefsError, NotLocal, StoreDamaged
from fusefs.model import keys
from fusefs.model.block import (
    ENCRYPTED,
    LEAF_SIZE,
    RAW,
    Block,
    leaf_hashes,
    refs_of,
    summed,
    with_refs,
)
from fusefs.model.corruption import Bad
from fusefs.store import format
from fusefs.store.cipher import Cipher
from fusefs.store.counters import Counters
from fusefs.store.hints import Hints
from fusefs.store.index import Batch, Index
from fusefs.store.log import Buffer, Log, Position
from fusefs.store.presence import Cache, is_copied
from fusefs.store.reading import NO_SEGMENT, BlockCache, ColdBlock, SegmentFile, elsewhere

#: Hints that are filled in one go, in some 10 ms.
REFILL_SLICE = 2000
_OPEN_SEGMENTS = 64
_CACHE_BYTES = 16 << 20
#: Blocks that a copy of what is stored asks the kernel for in advance, and that are remembered as
#: good.
_AHEAD, _SOUND_MAX = 4, 100_000


class Encoded(NamedTuple):
    """A block as it is stored: `payload` by `codec`, and the `leaves` of its row."""

    codec: int
    payload: Buffer
    leaves: bytes


class Prepared:
    """What is to become a block: its content, its `name` (BLAKE3, or as `cipher` names it), and,
    made when it is asked for, what is stored of it."""

    __slots__ = ("_cipher", "_compress", "_digest", "_encoded", "content", "name")

    def __init__(self, content: Buffer, *, compress: bool, cipher: Cipher | None = None) -> None:
        self.content = content
        self._digest = blake3(content).digest()
        self.name = self._digest if cipher is None else cipher.name(self._digest)
        self._compress = compress
        self._cipher = cipher
        self._encoded: Encoded | None = None

    def __len__(self) -> int:
        return len(self.content)

    def encoded(self) -> Encoded:
        """What is stored if it is new; computed once."""
        if self._encoded is None:
            codec, payload = format.encode(self.content, self._compress)
            if self._cipher is not None:
                codec = ENCRYPTED[codec]
                payload = self._cipher.seal(codec, self.name, payload)
                leaves = self._cipher.veil(self.name, self._digest)
            else:
                has_leaves = codec == RAW and len(self.content) > 2 * LEAF_SIZE
                leaves = leaf_hashes(self.content) if has_leaves else b""
            self._encoded = Encoded(codec, payload, leaves)
        return self._encoded


@dataclass
class BlockCounts:
    """Since the store was opened. `written`: new ones, `written_bytes` on disk and `plain_bytes` as
    given; `dedup_hits`, `dedup_bytes`: blocks that were there already; `healed`: bad ones whose
    content was written anew."""

    written: int = 0
    written_bytes: int = 0
    plain_bytes: int = 0
    dedup_hits: int = 0
    dedup_bytes: int = 0
    damaged_reads: int = 0
    healed: int = 0


class Blocks:
    """The blocks in the segments of `directory`, by number; or in `cache`, of what is only in
    remotes. `cipher`: of an encrypted store.

    `on_damage` hears of every read of a block that is bad, in the thread of the reader; `on_heal`
    of every such block whose content was written anew.
    """

    def __init__(
        self, directory: Path, log: Log, index: Index, hints: Hints, counters: Counters,
        cache: Cache, *, compress: bool, cipher: Cipher | None,
    ) -> None:  # fmt: skip
        self._directory = directory
        self._log = log
        self._index = index
        self._hints = hints
        self._counters = counters
        self._compress = compress
        self.cipher = cipher
        self._fetched = cache
        self._files: OrderedDict[int, SegmentFile] = OrderedDict()
        self._cached_files: OrderedDict[int, SegmentFile] = OrderedDict()
        self._cache = BlockCache(_CACHE_BYTES)
        self._inherited = counters.block  # the last block that another process wrote
        self._sound: set[int] = set()  # of these, what was read and is good
        self._bad: dict[int, tuple[int, int]] = {}  # where a block was read and is not
        self.counts = BlockCounts()
        self.on_damage: Callable[[int, Bad], None] = lambda number, bad: None
        self.on_heal: Callable[[int], None] = lambda number: None

    # -- writing

    def prepare(self, data: Buffer) -> Prepared:
        """Hash what is to be added. In any thread."""
        return Prepared(data, compress=self._compress, cipher=self.cipher)

    def add(self, batch: Batch, new: Prepared) -> int:
        """The number of a block with this content, written if there is none.

        The caller counts its references with `change_refs`. Raises DiskFull or StoreError.
        """
        number = self._find(batch, new.name, len(new))
        if number is None:
            return self._write_block(batch, new)
        block = self.row(batch, number)
        if self._is_sound(batch, number, block):
            self.counts.dedup_hits += 1
            self.counts.dedup_bytes += len(new)
        else:
            self._heal(batch, number, block, new)
        return number

    def find(self, batch: Batch, digest: bytes, length: int) -> int | None:
        """The number of a block with this BLAKE3 and length, if one is known; sound or not."""
        return self._find(batch, self.name(digest), length)

    def _find(self, batch: Batch, name: bytes, length: int) -> int | None:
        number = self._hints.get(name)
        row = batch.get(keys.block(number)) if number is not None else None
        if row is not None:
            block = Block.unpack(row)
            if block.digest == name and block.length == length:
                return number
        return None

    def name(self, digest: bytes) -> bytes:
        """What stands in this store for content with this BLAKE3: just that, or what its key makes
        of it."""
        return digest if self.cipher is None else self.cipher.name(digest)

    def digest(self, block: Block) -> bytes:
        """The BLAKE3 of the plain content of a block."""
        if self.cipher is None:
            return block.digest
        return self.cipher.veil(block.digest, block.leaves)

    def _is_sound(self, batch: Batch, number: int, block: Block) -> bool:
        """Whether a block can be a copy of what is to be written: it is what it was.

        What this process did not write itself is read once to see that; what is only in remotes
        was proved when it came there.
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
        except NotLocal:
            return True
        if len(self._sound) == _SOUND_MAX:
            self._sound.clear()
        self._sound.add(number)
        with suppress(StoreDamaged):  # there need be none of that number
            self.prefetch(number + _AHEAD)
        return True

    def _heal(self, batch: Batch, number: int, block: Block, new: Prepared) -> None:
        """Write the content of a bad block anew, for all that need it."""
        codec, payload, leaves = new.encoded()
        row = block._replace(stored=len(payload), codec=codec, leaves=leaves)
        self.write_again(batch, number, row, payload)
        batch.delete(keys.corruption(number))
        self.counts.healed += 1
        self.on_heal(number)
        self._count_written(new)

    def heal(self, batch: Batch, number: int, content: Buffer) -> None:
        """Write a bad block anew under its number; `content` is what verified of it elsewhere.

        Raises DiskFull, StoreError.
        """
        self._heal(batch, number, self.row(batch, number), self.prepare(content))

    def _count_written(self, new: Prepared) -> None:
        self.counts.written += 1
        self.counts.plain_bytes += len(new)
        self.counts.written_bytes += len(new.encoded().payload)

    def _write_block(self, batch: Batch, new: Prepared) -> int:
        codec, payload, leaves = new.encoded()
        number = self._counters.block = self._counters.block + 1
        at = self._append_block(number, codec, len(new), new.name, payload)
        offset = at.offset + format.BLOCK_OVERHEAD
        block = Block(at.segment, offset, len(payload), len(new), codec, new.name, 0, leaves)
        batch.put(keys.block(number), block.pack())
        self._hints.put(new.name, number)
        self._count_written(new)
        return number

    def _append_block(
        self, number: int, codec: int, length: int, digest: bytes, payload: Buffer
    ) -> Position:
        log = self._log
        try:
            log.reserve(format.BLOCK_OVERHEAD + len(payload))
            at = log.position
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

        One that is known to be bad, or is only in remotes, is forgotten with its last reference.
        """
        row = _row(batch, number)
        refs = refs_of(row) + by
        if refs < 0:
            raise StoreDamaged(f"block {number} has fewer references than extents: run fusefs fsck")
        if refs or self._is_garbage_kept(batch, number, row):
            batch.put(keys.block(number), with_refs(row, refs))
        else:
            self.drop(batch, number)

    def _is_garbage_kept(self, batch: Batch, number: int, row: bytes) -> bool:
        """Whether a block that nothing needs any more may be found again by its content."""
        return summed(row).segment in self._log.sizes and batch.get(keys.corruption(number)) is None

    def drop(self, batch: Batch, number: int) -> None:
        """Forget a block that nothing needs, and what is known of it."""
        batch.delete(keys.block(number))
        if batch.get(keys.corruption(number)) is not None:
            batch.delete(keys.corruption(number))

    def row(self, source: "Batch | Index", number: int) -> Block:
        return Block.unpack(_row(source, number))

    # -- reading

    def decode(self, block: Block, payload: bytes | memoryview) -> Buffer | None:
        """The content of which `payload` is stored, or None where it is not that of the block."""
        return format.decode(block.codec, payload, block.length, block.digest, self.cipher)

    def read(self, number: int) -> Buffer:
        """The content of a block, verified; waits for the disk. Raises StoreDamaged, NotLocal."""
        content = self._cache.get(number)
        if content is None:
            content = self.locate(number).read()
            assert content is not None
        return content

    def cached(self, number: int) -> Buffer | None:
        """The content of a block, if it is in memory."""
        return self._cache.get(number)

    def locate(self, number: int) -> ColdBlock:
        """How to read a block, perhaps later and in another thread.

        Raises StoreDamaged; NotLocal where nothing of its segment is here.
        """
        block = self.row(self._index, number)
        if block.segment not in self._log.sizes and is_copied(self._index, block.segment):
            return self._located_copy(number, block)
        try:
            file = self._open_segment(block.segment)
        except StoreDamaged as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise self.note_damage(number, block, NO_SEGMENT) from error
            raise
        return ColdBlock(self, number, block, file)

    def locate_copy(self, number: int) -> ColdBlock:
        """How to read what was fetched of a block, be its segment here or not. Raises NotLocal."""
        return self._located_copy(number, self.row(self._index, number))

    def _located_copy(self, number: int, block: Block) -> ColdBlock:
        file = self._cached_files.get(block.segment)
        if file is None:
            try:
                file = SegmentFile(self._fetched.path(block.segment))
            except StoreDamaged:
                raise elsewhere(block, block.offset, block.stored) from None
            self._cached_files[block.segment] = file
            if len(self._cached_files) > _OPEN_SEGMENTS:
                self._cached_files.popitem(last=False)
        else:
            self._cached_files.move_to_end(block.segment)
        return ColdBlock(self, number, block, file, is_cached=True)

    def prefetch(self, number: int) -> NotLocal | None:
        """Tell the kernel that the block is wanted soon; or say what is to be fetched for it."""
        try:
            cold = self.locate(number)
        except NotLocal as wanted:
            return wanted
        except StoreDamaged:
            return None  # for who reads it
        block = cold.block
        end = block.offset + block.stored
        if cold.is_cached and self._fetched.lacking(block.segment, block.offset, end):
            return elsewhere(block, block.offset, block.stored)
        os.posix_fadvise(cold.file.descriptor, block.offset, block.stored, os.POSIX_FADV_WILLNEED)
        return None

    def note_damage(self, number: int, block: Block, bad: Bad) -> StoreDamaged:
        """Count and report a block that does not verify; returns the error to raise.

        In any thread.
        """
        self.counts.damaged_reads += 1
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
        file = SegmentFile(self._directory / format.segment_name(number))
        self._files[number] = file
        if len(self._files) > _OPEN_SEGMENTS:
            self._files.popitem(last=False)
        return file

    def forget_segment(self, number: int) -> None:
        """The file of a segment is gone, or what was fetched of it."""
        self._files.pop(number, None)
        self._cached_files.pop(number, None)

    def let_go(self) -> None:
        """Close the segments."""
        self._files.clear()
        self._cached_files.clear()

    # -- hints

    @property
    def lacks_hints(self) -> bool:
        """Whether `find` may miss blocks, because the hints are being filled again."""
        return self._hints.needs_refill

    def refill_hints(self) -> Iterator[None]:
        """Fill the hints again after an unclean stop, with a pause after each slice but the last.

        The newest blocks come first: what was being written when the power failed is what will be
        written again.
        """
        end = keys.BLOCK + b"\xff"
        while self._hints.needs_refill:
            rows = self._index.tail(end, keys.BLOCK, REFILL_SLICE)
            for key, row in rows:
                self._hints.put(Block.unpack(row).digest, keys.number(key))
                end = key
            self._hints.needs_refill = len(rows) == REFILL_SLICE
            if self._hints.needs_refill:
                yield


def _row(source: Batch | Index, number: int) -> bytes:
    row = source.get(keys.block(number))
    if row is None:
        raise StoreDamaged(f"block {number} is not in the index: run fusefs fsck")
    return row
