"""Reading blocks back: verified each time they come from disk, kept in memory for a while.

A block is verified whole, by its BLAKE3, or where only a little of it is wanted, by the hashes of
the leaves that are touched (measured cold: 600 reads of 4 KiB a second without leaves).
"""

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Protocol

from fusefs.errors import NotLocal, StoreDamaged
from fusefs.model.block import LEAF_HASH_SIZE, LEAF_SIZE, Block, leaf_hashes
from fusefs.model.corruption import Bad, State
from fusefs.store import format
from fusefs.store.cipher import Cipher
from fusefs.store.log import Buffer

NOT_ITS_HASH = Bad(State.DAMAGED, "its content does not match its hash")
NOT_ITS_LEAVES = Bad(State.DAMAGED, "its content does not match the hashes of its parts")
CUT_OFF = Bad(State.DAMAGED, "its segment ends within it")
NO_SEGMENT = Bad(State.UNREADABLE, "its segment is missing")


def unreadable(error: OSError) -> Bad:
    """The disk gives `error`."""
    return Bad(State.UNREADABLE, f"cannot be read: {error.strerror}")


def check_content(descriptor: int, block: Block, cipher: Cipher | None) -> Bad | None:
    """What is wrong with a block's content in the segment open at `descriptor`.

    Waits for the disk, in any thread. Raises WrongKey where `cipher`, of an encrypted store, is
    missing.
    """
    try:
        payload = os.pread(descriptor, block.stored, block.offset)
    except OSError as error:
        return unreadable(error)
    if len(payload) < block.stored:
        return CUT_OFF
    plain = format.decode(block.codec, payload, block.length, block.digest, cipher)
    if plain is None:
        return NOT_ITS_HASH
    if block.has_leaves and leaf_hashes(memoryview(plain)) != block.leaves:
        return NOT_ITS_LEAVES
    return None


class Keeper(Protocol):
    """What a cold block asks and tells the store. `cipher`: of an encrypted one."""

    cipher: Cipher | None

    def note_damage(self, number: int, block: Block, bad: Bad) -> StoreDamaged:
        """Count and report a block that does not verify; returns the error to raise."""

    def keep_in_memory(self, number: int, content: Buffer) -> None:
        """Remember the verified content of a block."""


def elsewhere(block: Block, offset: int, size: int) -> NotLocal:
    """The error for `size` bytes from `offset` of the segment of `block`, which is not here."""
    name = format.segment_name(block.segment)
    message = f"segment {name} is in a remote only, and bytes {offset} to {offset + size} of it"
    return NotLocal(f"{message} were not fetched", block.segment, offset, size)


class SegmentFile:
    """A segment open for reading, closed when its last user lets it go.

    Twice: the kernel reads ahead on `descriptor`, and not on `random`, for readers of leaves.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = self.random = -1
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.random = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            os.posix_fadvise(self.random, 0, 0, os.POSIX_FADV_RANDOM)
        except OSError as error:
            raise StoreDamaged(f"{path} cannot be opened: {error.strerror}") from error

    def __del__(self) -> None:
        for descriptor in (self.descriptor, self.random):
            if descriptor >= 0:
                os.close(descriptor)


class ColdBlock:
    """A block on disk. Its methods may be called in any thread.

    Each raises StoreDamaged, or, where `is_cached` and so `file` holds what was fetched of a
    segment, NotLocal; with `no_wait` it returns None where the disk would be waited for.
    """

    __slots__ = ("_keeper", "_number", "block", "file", "is_cached")

    def __init__(
        self, keeper: Keeper, number: int, block: Block, file: SegmentFile, *,
        is_cached: bool = False,
    ) -> None:  # fmt: skip
        self._keeper = keeper
        self._number = number
        self.block = block
        self.file = file
        self.is_cached = is_cached

    def read(self, no_wait: bool = False) -> Buffer | None:
        """The content."""
        block = self.block
        payload = self._pread(self.file.descriptor, block.offset, block.stored, no_wait)
        return self._verify(payload) if payload is not None else None

    def read_part(self, skip: int, length: int, no_wait: bool = False) -> Buffer | None:
        """`length` bytes from `skip` of the content."""
        block = self.block
        # What came from elsewhere is proved by its BLAKE3; leaves tell what rots on this disk.
        if length > block.length // 4 or not block.has_leaves or self.is_cached:
            content = self.read(no_wait)
            return memoryview(content)[skip : skip + length] if content is not None else None
        first = skip // LEAF_SIZE
        last = -(-(skip + length) // LEAF_SIZE)
        start, end = first * LEAF_SIZE, min(last * LEAF_SIZE, block.length)
        part = self._pread(self.file.random, block.offset + start, end - start, no_wait)
        if part is None:
            return None
        wanted = block.leaves[first * LEAF_HASH_SIZE : last * LEAF_HASH_SIZE]
        if len(part) != end - start:
            raise self._keeper.note_damage(self._number, block, CUT_OFF)
        if leaf_hashes(part) != wanted:
            raise self._keeper.note_damage(self._number, block, NOT_ITS_LEAVES)
        return part[skip - start : skip - start + length]

    def _pread(self, file: int, offset: int, size: int, no_wait: bool) -> memoryview | None:
        buffer = bytearray(size)
        try:
            found = os.preadv(file, (buffer,), offset, os.RWF_NOWAIT if no_wait else 0)
        except OSError as error:
            if no_wait:
                return None
            raise self._wrong(unreadable(error)) from error
        if found < size and no_wait:
            return None
        return memoryview(buffer)[:found]

    def _verify(self, payload: memoryview) -> Buffer:
        block = self.block
        if len(payload) != block.stored:
            raise self._wrong(CUT_OFF)
        plain = format.decode(block.codec, payload, block.length, block.digest, self._keeper.cipher)
        if plain is None:
            raise self._wrong(NOT_ITS_HASH)
        self._keeper.keep_in_memory(self._number, plain)
        return plain

    def _wrong(self, bad: Bad) -> StoreDamaged | NotLocal:
        if self.is_cached:
            return elsewhere(self.block, self.block.offset, self.block.stored)
        return self._keeper.note_damage(self._number, self.block, bad)


class BlockCache:
    """Contents of blocks read last, verified, up to a number of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[int, Buffer] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, number: int) -> Buffer | None:
        with self._lock:
            content = self._kept.get(number)
            if content is not None:
                self._kept.move_to_end(number)
        return content

    def put(self, number: int, content: Buffer) -> None:
        with self._lock:
            if number in self._kept:
                return
            self._kept[number] = content
            self._bytes += len(content)
            while self._bytes > self._limit:
                self._bytes -= len(self._kept.popitem(last=False)[1])
