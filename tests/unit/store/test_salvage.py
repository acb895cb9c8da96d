"""What can be read of a segment behind its damage, and what must not be taken for a part of it."""

from blake3 import blake3

from fusefs.store import format
from fusefs.store.format import BATCH, BLOCK, RAW, Record, SealedBlock
from fusefs.store.salvage import Damage, Kind, read_past

UUID = bytes(16)


def block(number: int, content: bytes) -> bytes:
    digest = blake3(content).digest()
    return format.pack_block(number, RAW, len(content), digest, len(content)) + content


def segment(*parts: bytes, sealed: bool) -> bytearray:
    """A segment of records, with its seal."""
    data = bytearray(format.pack_header(UUID, 1, 0, is_encrypted=False))
    lines = []
    for part in parts:
        found = format.read_record(memoryview(part), 0)
        if isinstance(found, Record) and found.kind == BLOCK:
            number, _, _, payload = format.unpack_block(found.body)
            offset = len(data) + format.BLOCK_OVERHEAD
            lines.append(SealedBlock(number, offset, len(payload)))
        data += part
    return data + format.pack_seal(lines) if sealed else data


def read(data: bytearray) -> list[Record | Damage]:
    return list(read_past(memoryview(data), 1, format.HEADER_SIZE, verify_blocks=True))


def batches(found: list[Record | Damage]) -> list[dict[bytes, bytes | None]]:
    return [
        dict(format.unpack_batch(one.body))
        for one in found
        if isinstance(one, Record) and one.kind == BATCH
    ]


A, B, C = (format.pack_batch({key: b"row"}) for key in (b"a", b"b", b"c"))
KEYS = {b"a": b"row"}, {b"b": b"row"}, {b"c": b"row"}


def test_nothing_is_left_out_and_nothing_told_twice() -> None:
    whole = segment(A, block(1, b"x" * 50), B, block(2, b"y" * 70), C, sealed=True)
    for at in range(format.HEADER_SIZE, len(whole)):
        data = bytearray(whole)
        data[at] ^= 0x10
        found = read(data)
        position = format.HEADER_SIZE
        for one in found:
            assert one.start == position
            position = one.end
        assert position == len(data)
        (damage,) = [one for one in found if isinstance(one, Damage)]
        assert damage.start <= at < damage.end
        lost = 3 - len(batches(found))
        assert lost == (damage.kind is Kind.BATCH)


def test_without_a_seal_an_unbelievable_length_ends_it() -> None:
    data = segment(A, B, C, sealed=False)
    at = format.HEADER_SIZE + len(A)
    data[at + 4] ^= 1
    found = read(data)
    assert batches(found) == [KEYS[0]]
    assert found[-1][:4] == (1, at, len(data), Kind.BATCH)


def test_the_seal_of_a_segment_that_a_file_is_a_copy_of_is_not_this_ones() -> None:
    other = segment(
        block(7, b"z" * 40), format.pack_batch({b"evil": b"row"}), block(8, b"q"), sealed=True
    )
    data = segment(A, B, block(1, bytes(other)), sealed=False)
    at = format.HEADER_SIZE + len(A)
    data[at + 4] ^= 1
    found = read(data)
    assert batches(found) == [KEYS[0]]
    assert [one.kind for one in found if isinstance(one, Damage)] == [Kind.BATCH]
    assert found[-1].end == len(data)


def test_a_copy_of_a_segment_in_a_damaged_block_is_not_read() -> None:
    other = segment(format.pack_batch({b"evil": b"row"}), sealed=True)
    content = block(1, bytes(other))
    for is_sealed in (True, False):
        data = segment(A, content, B, sealed=is_sealed)
        for at in range(format.BLOCK_OVERHEAD):
            damaged = bytearray(data)
            damaged[format.HEADER_SIZE + len(A) + at] ^= 0x10
            assert {b"evil": b"row"} not in batches(read(damaged))
