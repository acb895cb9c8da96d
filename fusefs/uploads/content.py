"""Does a file hold the blocks of these digests? Compared in its map, and proved by reading.

Positions are blocks: the aligned 1 MiB parts of a file of a known size, the last one shorter. A
part that lies in one whole block has that block's digest, a hole that of zeros; any other is read
and hashed.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache

import trio
from blake3 import blake3

from fusefs.errors import NotLocal, StoreDamaged
from fusefs.files.extents import Extents
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.model.extent import BLOCK_SIZE, HOLE, Extent
from fusefs.model.inode import Inode
from fusefs.store.reading import ColdBlock
from fusefs.store.store import Store

#: Threads that read and hash; the sender is busy with the same.
_THREADS = 2
#: Blocks that are looked at before others have their turn.
_STEP = 256

DIGEST_SIZE = 32


def count_blocks(size: int) -> int:
    """How many blocks a file of `size` bytes has."""
    return -(-size // BLOCK_SIZE)


def block_range(size: int, at: int) -> tuple[int, int]:
    """Bytes [start, end) of the block at position `at`."""
    return at * BLOCK_SIZE, min((at + 1) * BLOCK_SIZE, size)


@lru_cache(maxsize=4)
def zeros_digest(length: int) -> bytes:
    """The digest of a block of zeros."""
    return blake3(bytes(length)).digest()


class Content:
    """Looks at the content of files of one store. Their waiting bytes must be flushed before."""

    def __init__(self, store: Store, extents: Extents) -> None:
        self._store = store
        self._blocks = store.blocks
        self._extents = extents

    def parts(self, inode: Inode, size: int, first: int, count: int) -> Iterator[list[Extent]]:
        """The extents of each block from position `first`; none where the map has a gap."""
        start, end = first * BLOCK_SIZE, min((first + count) * BLOCK_SIZE, size)
        try:
            found = self._extents.covering(inode.ino, start, min(end, inode.stored_size))
        except StoreDamaged:
            found = []
        index = 0
        for at in range(first, first + count):
            start, end = block_range(size, at)
            part = []
            while index < len(found) and found[index].offset < end:
                part.append(found[index].part(start, end))
                if found[index].end > end:
                    break
                index += 1
            yield part if part and part[0].offset == start and part[-1].end == end else []

    def stored_number(self, part: list[Extent]) -> int | None:
        """The block that is all of a part, if there is one."""
        if len(part) == 1 and part[0].has_block and part[0].skip == 0:
            block = self._block(part[0].block)
            if block is not None and block.length == part[0].length:
                return part[0].block
        return None

    def _block(self, number: int) -> Block | None:
        row = self._store.get(keys.block(number))
        return Block.unpack(row) if row is not None else None

    def plain_digest(self, part: list[Extent]) -> bytes | None:
        """The digest of a part as far as the map tells; None where it has to be read."""
        if len(part) == 1 and part[0].block == HOLE:
            return zeros_digest(part[0].length)
        number = self.stored_number(part)
        block = self._block(number) if number is not None else None
        return self._blocks.digest(block) if block else None

    async def read_digest(self, part: list[Extent]) -> bytes | None:
        """The digest of a part of several blocks, read; None if some of it is lost."""
        if not part or not all(one.has_block or one.block == HOLE for one in part):
            return None
        try:
            cold = [
                (one, self._blocks.locate(one.block) if one.has_block else None) for one in part
            ]
        except (StoreDamaged, NotLocal):
            return None
        return await trio.to_thread.run_sync(_hash_parts, cold)

    async def digests(self, inode: Inode, size: int, first: int, count: int) -> list[bytes | None]:
        """The digests of blocks; None for each that is lost. Others may run meanwhile."""
        found: list[bytes | None] = []
        for start in range(first, first + count, _STEP):
            step = min(_STEP, first + count - start)
            for part in list(self.parts(inode, size, start, step)):
                found.append(self.plain_digest(part) or await self.read_digest(part))
            await trio.lowlevel.checkpoint()
        return found

    def named_root(self, inode: Inode, size: int) -> bytes | None:
        """The root hash as it stands in `Upload`, as far as the map alone tells; None where
        something has to be read."""
        hasher = blake3()
        total = count_blocks(size)
        for start in range(0, total, _STEP):
            for part in self.parts(inode, size, start, min(_STEP, total - start)):
                digest = self.plain_digest(part)
                if digest is None:
                    return None
                hasher.update(digest)
        return self._blocks.name(hasher.digest())

    def is_good(self, inode: Inode, size: int) -> bool:
        """Whether all its blocks verify when they are read. Takes half a second for each GiB.

        Those that are in remotes only count as good: they were proved when they came there.
        """
        total = count_blocks(size)
        bad: set[int] = set()
        for start in range(0, total, _STEP):
            parts = self.parts(inode, size, start, min(_STEP, total - start))
            numbers = {one.block for part in parts for one in part if one.has_block}
            try:
                _read_all(list(self._located(numbers)), bad)
            except StoreDamaged:
                return False
            if bad:
                return False
        return True

    async def damaged(self, numbers: Collection[int]) -> set[int]:
        """Which of these blocks do not verify when they are read from the disk."""
        bad: set[int] = set()
        cold: list[tuple[int, ColdBlock]] = []
        for number in numbers:
            try:
                cold.extend(self._located((number,)))
            except StoreDamaged:
                bad.add(number)
        async with trio.open_nursery() as nursery:
            for start in range(_THREADS):
                if part := cold[start::_THREADS]:
                    nursery.start_soon(trio.to_thread.run_sync, _read_all, part, bad)
        return bad

    def _located(self, numbers: Collection[int]) -> Iterator[tuple[int, ColdBlock]]:
        """Those that are here. Raises StoreDamaged."""
        for number in numbers:
            with suppress(NotLocal):
                yield number, self._blocks.locate(number)


def _read_all(blocks: Sequence[tuple[int, ColdBlock]], bad: set[int]) -> None:
    for number, block in blocks:
        try:
            block.read()
        except StoreDamaged:
            bad.add(number)
        except NotLocal:
            continue


def _hash_parts(parts: Sequence[tuple[Extent, ColdBlock | None]]) -> bytes | None:
    hasher = blake3()
    for one, block in parts:
        try:
            content = block.read_part(one.skip, one.length) if block else bytes(one.length)
        except (StoreDamaged, NotLocal):
            return None
        assert content is not None  # it may wait
        hasher.update(content)
    return hasher.digest()
