"""What follows from the rows of an index: references, totals, usage; and its books, made of that.

Used wherever an index is made anew, whatever its rows come from.
"""

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from fusefs.base.counts import Counts
from fusefs.errors import StoreDamaged
from fusefs.model import extent, keys
from fusefs.model.block import Block
from fusefs.model.totals import COUNTED, Totals
from fusefs.store import format
from fusefs.store.cipher import Cipher
from fusefs.store.counters import Counters
from fusefs.store.index import Index, MapFull
from fusefs.store.log import Position
from fusefs.store.presence import is_copied
from fusefs.store.recovery import segment_sizes
from fusefs.store.salvage import Damage, mapped
from fusefs.store.usage import BOOKS, Usage

Rows = dict[bytes, bytes | None]


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
        self._elsewhere: dict[int, bool] = {}
        self._damages: dict[int, list[Damage]] = {}
        for one in damages:
            self._damages.setdefault(one.segment, []).append(one)
        self.rows = 0
        self.highest = Counters(0, 0, 0)
        self.totals = Totals()
        self.usage = Usage()
        self.corrections: Rows = {}
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
            block = block._replace(refs=references)
            self.corrections[key] = row = block.pack()
        self.totals.account(key, None, row)
        self.usage.account(None, row)
        if references and (why := self._why_lost(block)):
            self.damaged.append((keys.number(key), why))

    def _why_lost(self, block: Block) -> str:
        name = format.segment_name(block.segment)
        if block.segment not in self._lengths:
            return "" if self._is_elsewhere(block.segment) else f"its segment {name} is missing"
        if block.offset + block.stored > self._lengths[block.segment]:
            return f"its segment {name} ends before it"
        for one in self._damages.get(block.segment, ()):
            if one.start < block.offset + block.stored and block.offset < one.end:
                return "" if self._is_readable(block) else f"its segment {name} is damaged there"
        return ""

    def _is_elsewhere(self, segment: int) -> bool:
        """Whether a segment that is not here is in remotes."""
        if segment not in self._elsewhere:
            self._elsewhere[segment] = is_copied(self._index, segment)
        return self._elsewhere[segment]

    def _is_readable(self, block: Block) -> bool:
        """Whether only the head of the record is bad: the row says all that it says, too."""
        data = mapped(self._directory, block.segment)
        payload = data[block.offset : block.offset + block.stored]
        content = format.decode(block.codec, payload, block.length, block.digest, self._cipher)
        return content is not None


def derive(
    index: Index,
    segments: Path,
    position: Position,
    counters: Counters,
    damages: tuple[Damage, ...] = (),
    cipher: Cipher | None = None,
) -> Census:
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


def write(index: Index, several: list[Rows]) -> None:
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
