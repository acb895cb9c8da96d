"""What lies in a remote is read back as it was, or refused by name."""

import os
from struct import Struct

import pytest
from blake3 import blake3

from fusefs.errors import FormatTooNew, ObjectDamaged
from fusefs.model import keys
from fusefs.store import format
from fusefs.sync import layout
from fusefs.sync.layout import Base, Checkpoint, Delta, Piece, Segment

PIECE = Piece(blake3(b"a").digest(), 12)
CHECKPOINT = Checkpoint(
    uuid="11111111-2222-3333-4444-555555555555",
    writer="w",
    sequence=42,
    created_ns=7,
    identity=b"{}",
    counters=b"\x93\x01\x02\x03",
    end=(97, 5120),
    base=PIECE,
    base_bytes=100,
    deltas=(Delta((60, 88), (80, 900), (PIECE,)), Delta((80, 900), (97, 5120), ())),
    tables=(PIECE, PIECE),
    segments=3,
    segments_bytes=9,
)


def index(count: int) -> list[tuple[bytes, bytes]]:
    return [(keys.inode(n), b"attributes of %d" % n * 5) for n in range(count)]


def rows_of(objects: list[bytes]) -> list[tuple[bytes, bytes | None]]:
    batches = [rows for one in objects for rows in layout.unpack_rows(one, "it")]
    return [item for rows in batches for item in rows.items()]


def test_every_kind_comes_back_as_it_was() -> None:
    content = layout.pack_checkpoint(CHECKPOINT)
    assert layout.unpack_checkpoint(content, "it") == CHECKPOINT
    base = Base((60, 88), 5, 100, (PIECE,))
    assert layout.unpack_base(layout.pack_base(base), "it") == base
    table = [Segment(n, n * 7, blake3(bytes([n])).digest()) for n in range(3)]
    assert layout.unpack_table(layout.pack_table(table), "it") == table
    assert table[1].name == "segments/" + blake3(b"\x01").hexdigest()


def test_a_base_has_all_rows_but_the_index_s_own_books() -> None:
    rows = index(20_000)
    books = [(keys.META + b"position", b"x")]
    objects = list(layout.base_objects(sorted(rows + books)))
    assert rows_of([content for content, _ in objects]) == rows
    assert sum(count for _, count in objects) == len(rows)
    assert len(objects) > 1


def test_a_later_base_shares_the_objects_of_what_did_not_change() -> None:
    before = {blake3(one).digest() for one, _ in layout.base_objects(index(60_000))}
    changed = index(60_000)
    changed[100] = (changed[100][0], b"another")
    del changed[200]
    after = {blake3(one).digest() for one, _ in layout.base_objects(changed)}
    assert len(after - before) <= 2 < len(before)


def test_a_delta_has_the_records_of_the_log_in_their_order() -> None:
    batches: list[layout.Rows] = [
        {b"k%d" % n: None if n % 3 else os.urandom(400 << 10)} for n in range(130)
    ]
    objects = list(layout.delta_objects(map(format.pack_batch, batches)))
    assert len(objects) > 1
    assert rows_of(objects) == [item for rows in batches for item in rows.items()]
    assert list(layout.delta_objects([])) == []


@pytest.mark.parametrize("at", [0, 8, 10, 12, 20, 60, -1])
def test_a_flipped_bit_anywhere_is_refused(at: int) -> None:
    content = bytearray(layout.pack_checkpoint(CHECKPOINT))
    content[at] ^= 0x20
    with pytest.raises((ObjectDamaged, FormatTooNew)):
        layout.unpack_checkpoint(bytes(content), "checkpoints/it")


def test_what_is_cut_short_or_of_another_kind_is_refused() -> None:
    content = layout.pack_checkpoint(CHECKPOINT)
    for size in (0, 5, 48, len(content) - 1):
        with pytest.raises(ObjectDamaged, match="checkpoints/it"):
            layout.unpack_checkpoint(content[:size], "checkpoints/it")
    with pytest.raises(ObjectDamaged, match="kind"):
        layout.unpack_table(content, "it")
    with pytest.raises(ObjectDamaged):
        layout.unpack_table(layout.pack(layout.TABLE, b"short"), "it")
    with pytest.raises(ObjectDamaged, match="batches alone"):
        list(layout.unpack_rows(layout.pack(layout.ROWS, format.pack_seal([])), "it"))


def test_a_later_format_is_refused_and_not_called_damage() -> None:
    content = bytearray(layout.pack_checkpoint(CHECKPOINT))
    Struct("<H").pack_into(content, 8, layout.VERSION + 1)
    with pytest.raises(FormatTooNew):
        layout.unpack_checkpoint(bytes(content), "it")
    layout.check_format(layout.pack_format(), "file:///x")
    with pytest.raises(FormatTooNew, match="file:///x"):
        layout.check_format(b'{"fusefs_remote": 2}', "file:///x")
    for damaged in (b"", b"{}", b'{"fusefs_remote": "1"}'):
        with pytest.raises(ObjectDamaged):
            layout.check_format(damaged, "file:///x")


def test_names_of_checkpoints() -> None:
    assert layout.checkpoint_object(42) == "checkpoints/000000000000002a"
    assert layout.sequence_of("checkpoints/000000000000002a") == 42
    for other in ("checkpoints/2a", "index/000000000000002a", "checkpoints/zzzzzzzzzzzzzzzz"):
        assert layout.sequence_of(other) is None
