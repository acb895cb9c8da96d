"""What a remote gets of a store that somebody writes to: rows of its index, batches of its log.

Nothing here waits for the writer or is waited for. The index is read in stretches, each as of the
checkpoint of that moment, so the rows of a base are of several moments; but every batch behind the
first of them follows in deltas, and a batch says of a row what it is and not what changes. Applied
to rows that know some of it already they come to the same.
"""

import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from fusefs.errors import StoreDamaged
from fusefs.store import format
from fusefs.store.index import Index
from fusefs.sync.layout import Place

#: Rows of one stretch: some 20 MiB, and 50 ms for which LMDB keeps old pages.
STRETCH_ROWS = 50_000
#: LMDB does not let one process open an index twice.
_one_at_a_time = threading.Lock()


class SegmentGone(Exception):
    """A segment was collected before it was read: what was planned is to be planned anew."""


def index_position(store: Path) -> Place:
    """How far the index has caught up with the log. Raises StoreDamaged, StoreError."""
    with _one_at_a_time:
        index = Index(store / "index", read_only=True)
        try:
            book = index.book("position")
        finally:
            index.close()
    if book is None:  # of a new store, before its first checkpoint
        return 1, 0
    try:
        return msgspec.msgpack.decode(book, type=tuple[int, int])
    except msgspec.MsgspecError as error:
        raise StoreDamaged(f"{store / 'index'}: position does not decode: {error}") from error


def index_rows(store: Path) -> Iterator[tuple[bytes, bytes]]:
    """All rows by their keys, a stretch at a time. Raises StoreError."""
    start = b""
    while stretch := _stretch(store / "index", start):
        yield from stretch
        start = stretch[-1][0] + b"\0"


def _stretch(index_path: Path, start: bytes) -> list[tuple[bytes, bytes]]:
    with _one_at_a_time:
        index = Index(index_path, read_only=True)
        try:
            return list(islice(index.scan(start, b""), STRETCH_ROWS))
        finally:
            index.close()


def batches(store: Path, start: Place, end: Place) -> Iterator[bytes]:
    """The batch records of the log from `start` to the end of segment `end`, which is sealed.

    Raises SegmentGone, StoreDamaged.
    """
    for number in range(start[0], end[0] + 1):
        is_first = number == start[0]
        data = memoryview(segment_bytes(store, number))
        if is_first and start[1] >= len(data):
            continue
        offset = start[1] if is_first and start[1] else format.HEADER_SIZE
        for record in format.scan(data, offset, verify_blocks=False):
            if isinstance(record, format.Torn):
                raise StoreDamaged(
                    f"{segment_path(store, number)} is damaged at byte {record.offset}"
                    f" ({record.why}): run fusefs fsck"
                )
            if record.kind == format.BATCH:
                yield bytes(data[record.start : record.end])


def segment_path(store: Path, number: int) -> Path:
    return store / "segments" / format.segment_name(number)


def segment_bytes(store: Path, number: int) -> bytes:
    """Raises SegmentGone."""
    try:
        return segment_path(store, number).read_bytes()
    except FileNotFoundError as error:
        raise SegmentGone(number) from error
