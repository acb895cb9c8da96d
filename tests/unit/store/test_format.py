"""A segment says what is in it, and where it stops being trustworthy."""

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from struct import Struct

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from fusefs.errors import StoreDamaged
from fusefs.model.block import RAW, ZSTD
from fusefs.store import format
from fusefs.store.format import Record, SealedBlock, Torn

UUID = bytes(range(16))
TEXT = b"All that is gold does not glitter, not all those who wander are lost. " * 40
ROWS = {b"key": b"value", b"gone": None, b"empty": b"", b"\0\xff": b"\0" * 300}


def block_record(number: int, content: bytes, *, compress: bool = False) -> bytes:
    codec, payload = format.encode(content, compress)
    digest = blake3(content).digest()
    head = format.pack_block(number, codec, len(content), digest, len(payload))
    return head + bytes(payload)


def a_segment() -> tuple[bytes, list[int]]:
    """One of each kind of record, and where each starts; last, where the segment ends."""
    parts = [
        format.pack_header(UUID, 7, 1, is_encrypted=False),
        block_record(1, b"raw content" * 9),
        block_record(2, TEXT, compress=True),
        format.pack_batch(ROWS),
        format.pack_seal([SealedBlock(1, 100, 99), SealedBlock(2, 300, 80)]),
    ]
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + len(part))
    return b"".join(parts), starts


def scan(data: bytes) -> list[Record | Torn]:
    return list(format.scan(memoryview(data), format.HEADER_SIZE, verify_blocks=True))


def test_a_segment_is_read_without_an_index() -> None:
    data, starts = a_segment()
    assert format.check_header(data, UUID, 7) is None
    found = scan(data)
    assert [one.kind for one in found if isinstance(one, Record)] == [
        format.BLOCK, format.BLOCK, format.BATCH, format.SEAL,
    ]  # fmt: skip
    assert [(one.start, one.end) for one in found if isinstance(one, Record)] == list(
        pairwise(starts[1:])
    )
    raw, packed, batch, seal = (one for one in found if isinstance(one, Record))
    assert (raw.codec, packed.codec) == (RAW, ZSTD)
    for record, number, content in ((raw, 1, b"raw content" * 9), (packed, 2, TEXT)):
        its_number, length, digest, payload = format.unpack_block(record.body)
        assert its_number == number
        plain = format.decode(record.codec, payload, length, digest)
        assert plain is not None
        assert bytes(plain) == content
    assert dict(format.unpack_batch(batch.body)) == ROWS
    assert format.unpack_seal(seal.body) == [SealedBlock(1, 100, 99), SealedBlock(2, 300, 80)]


def test_every_flipped_byte_ends_the_log_before_its_record() -> None:
    data, starts = a_segment()
    for offset in range(format.HEADER_SIZE, len(data)):
        flipped = bytearray(data)
        flipped[offset] ^= 0x10
        found = scan(bytes(flipped))
        torn = found[-1]
        if isinstance(torn, Torn):
            assert torn.offset == max(start for start in starts if start <= offset)
        else:  # zstd does not use every bit of its frames: the content is what counts
            _, packed, *_ = found
            assert isinstance(packed, Record)
            assert packed.start < offset < packed.end, "a flipped byte was not seen"
            _, length, digest, payload = format.unpack_block(packed.body)
            assert format.decode(packed.codec, payload, length, digest) == TEXT


def test_every_cut_ends_the_log_before_its_record() -> None:
    data, starts = a_segment()
    for size in range(format.HEADER_SIZE, len(data)):
        found = scan(data[:size])
        whole = [start for start in starts if start <= size]
        if size in starts:
            assert not any(isinstance(one, Torn) for one in found)
        else:
            assert found[-1] == Torn(whole[-1], "a record is cut short")
        assert len([one for one in found if isinstance(one, Record)]) == len(whole) - 2


def test_every_flipped_byte_of_a_header_is_seen() -> None:
    data = format.pack_header(UUID, 7, 1, is_encrypted=False)
    assert len(data) == format.HEADER_SIZE
    for offset in range(len(data)):
        flipped = bytearray(data)
        flipped[offset] ^= 0x10
        assert format.check_header(bytes(flipped), UUID, 7) is not None
    assert "cut short" in str(format.check_header(data[:-1], UUID, 7))


def test_a_segment_of_another_store_number_or_format_is_refused() -> None:
    data = format.pack_header(UUID, 7, 1, is_encrypted=False)
    assert "another" in str(format.check_header(data, UUID[::-1], 7))
    assert "another" in str(format.check_header(data, UUID, 8))
    later = bytearray(data[:-4])
    later[8] = format.VERSION + 1
    signed = bytes(later) + Struct("<I").pack(zlib.crc32(later))
    assert "later format" in str(format.check_header(signed, UUID, 7))


@given(st.dictionaries(st.binary(max_size=300), st.none() | st.binary(max_size=400), max_size=20))
def test_a_batch_comes_back(rows: dict[bytes, bytes | None]) -> None:
    (record,) = scan(bytes(format.HEADER_SIZE) + format.pack_batch(rows))
    assert isinstance(record, Record)
    assert dict(format.unpack_batch(record.body)) == rows


@pytest.mark.parametrize("cut", [1, 3, 5, 7])
def test_a_batch_whose_lengths_do_not_add_up_is_damage(cut: int) -> None:
    (record,) = scan(bytes(format.HEADER_SIZE) + format.pack_batch({b"key": b"value"}))
    assert isinstance(record, Record)
    with pytest.raises(StoreDamaged, match="malformed"):
        list(format.unpack_batch(record.body[:-cut]))


def test_text_is_stored_smaller_and_comes_back() -> None:
    codec, payload = format.encode(TEXT, True)
    assert codec == ZSTD
    assert len(payload) < len(TEXT) // 8
    assert format.decode(codec, payload, len(TEXT), blake3(TEXT).digest()) == TEXT


@pytest.mark.parametrize("size", [100, 4096, 1 << 20])
def test_random_data_is_stored_as_it_is(size: int) -> None:
    data = os.urandom(size)
    assert format.encode(data, True) == (RAW, data)
    assert format.encode(TEXT[:200], True)[0] == RAW
    assert format.encode(TEXT, False) == (RAW, TEXT)


def test_large_random_data_costs_the_try_of_a_sample_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    class Compressor:
        def compress(self, data: bytes) -> bytes:
            tried.append(len(data))
            return bytes(data)

    monkeypatch.setattr(format, "_zstd", Compressor())
    assert format.encode(os.urandom(1 << 20), True)[0] == RAW
    assert tried == [16 << 10]


def test_a_payload_that_is_not_the_content_is_never_returned() -> None:
    digest = blake3(TEXT).digest()
    assert format.decode(RAW, TEXT[:-1] + b"x", len(TEXT), digest) is None
    assert format.decode(RAW, TEXT, len(TEXT) - 1, digest) is None
    assert format.decode(ZSTD, b"no frame", len(TEXT), digest) is None
    assert format.decode(ZSTD, format.encode(b"o" * 9999, True)[1], 9999, digest) is None
    assert format.decode(4, TEXT, len(TEXT), digest) is None


def test_threads_compress_and_decompress_beside_each_other() -> None:
    """zstd's contexts are of one thread each: shared, they mix up contents or end the process."""
    texts = [(b"%d " % number) * 200_000 for number in range(4)]
    digests = [blake3(text).digest() for text in texts]

    def there_and_back(number: int) -> bool:
        text, digest = texts[number % 4], digests[number % 4]
        codec, payload = format.encode(text, True)
        return codec == ZSTD and format.decode(codec, payload, len(text), digest) == text

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(there_and_back, range(200)))
