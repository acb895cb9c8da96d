"""Acts on a store as the rooms above make them, in their smallest form."""

import os
from pathlib import Path

from fusefs.model import keys
from fusefs.store import format
from fusefs.store.format import Record, Torn
from fusefs.store.index import Batch
from fusefs.store.store import Store


def put(store: Store, **rows: bytes | None) -> None:
    """One batch of rows, under names that no table uses."""
    batch = store.batch()
    for name, value in rows.items():
        if value is None:
            batch.delete(b"~" + name.encode())
        else:
            batch.put(b"~" + name.encode(), value)
    store.commit(batch)


def get(store: Store, name: str) -> bytes | None:
    return store.get(b"~" + name.encode())


def stage(store: Store, batch: Batch, content: bytes) -> int:
    """A block in `batch`; returns its number."""
    return store.blocks.add(batch, store.blocks.prepare(content))


def add(store: Store, content: bytes) -> int:
    """A block with one reference; returns its number."""
    batch = store.batch()
    number = stage(store, batch, content)
    store.blocks.change_refs(batch, number, 1)
    store.commit(batch)
    return number


def segment(path: Path, number: int) -> Path:
    return path / "segments" / format.segment_name(number)


def records(path: Path, number: int) -> list[Record | Torn]:
    """What stands in a segment, verified."""
    data = memoryview(segment(path, number).read_bytes())
    return list(format.scan(data, format.HEADER_SIZE, verify_blocks=True))


def flip(path: Path, offset: int) -> None:
    """Change one bit of a file."""
    with open(path, "r+b") as file:
        byte = os.pread(file.fileno(), 1, offset)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 0x40]), offset)


def block_row(store: Store, number: int) -> bytes | None:
    return store.get(keys.block(number))
