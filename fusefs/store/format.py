"""Segments and records, byte by byte. All numbers little-endian.

A segment is a file of at most 16 MiB named by its number in 16 hex digits::

    segment  = header record* [seal]
    header   = "FUSEFSEG" version:u16 features:u16 zero:u32 uuid:16 number:u64 created_ns:u64
               crc:u32
    record   = type:u8 codec:u8 magic:u16 length:u32 crc:u32  body of `length` bytes
      block  = number:u64 plain_length:u32 blake3:32  payload      crc covers all but the payload
      batch  = (key_length:u16 value_length:u32 key value)*        crc covers all;
                                                     value_length 0xffffffff: the key is deleted
      seal   = (number:u64 offset:u32 stored:u32)*   crc covers all; one for each block above it

CRC is zlib's CRC-32; a block's payload is covered by its BLAKE3, of the plain content. A reader
needs nothing but the segment to list and verify what is in it.

In an encrypted store the payload of a block is encrypted, and ``blake3`` is its name in that store,
both as in store.cipher; to verify it takes the key. Batches and seals are as in any other.

Recovery: the log ends before the first record that does not verify (`scan` stops there and says
why). Bytes from there on were never acknowledged as durable, or are damaged; the caller cuts them
off and keeps a copy. A sealed segment ends with its seal.

Features (bits that a reader must know, or refuse): 1 = blocks are encrypted.
"""

import threading
import zlib
from collections.abc import Iterable, Iterator
from struct import Struct, error
from typing import NamedTuple

import zstandard
from blake3 import blake3

from fusefs.errors import StoreDamaged, WrongKey
from fusefs.model.block import ENCRYPTED, RAW, ZSTD
from fusefs.store.cipher import Cipher

SEGMENT_SIZE = 16 << 20
VERSION = 1
FEATURE_ENCRYPTED = 1
KNOWN_FEATURES = FEATURE_ENCRYPTED

BLOCK, BATCH, SEAL = 1, 2, 3

_HEADER = Struct("<8sHHI16sQQ")
_CRC = Struct("<I")
HEADER_SIZE = _HEADER.size + _CRC.size
_RECORD = Struct("<BBHI")
RECORD_SIZE = _RECORD.size + _CRC.size
_BLOCK = Struct("<QI32s")
BLOCK_OVERHEAD = RECORD_SIZE + _BLOCK.size
_ITEM = Struct("<HI")
ITEM_SIZE = _ITEM.size
_SEALED = Struct("<QII")
SEALED_SIZE = _SEALED.size
_MAGIC = 0xF5E1
_MAGIC_BYTES = _MAGIC.to_bytes(2, "little")
_SEGMENT_MAGIC = b"FUSEFSEG"
_DELETED = 0xFFFFFFFF
_PLAIN = {encrypted: plain for plain, encrypted in ENCRYPTED.items()}

_crc32 = zlib.crc32
_pack_record, _pack_item, _pack_crc = _RECORD.pack, _ITEM.pack, _CRC.pack


class SealedBlock(NamedTuple):
    """One line of a seal: `offset` and `stored` as in model.block."""

    number: int
    offset: int
    stored: int


class Record(NamedTuple):
    """A record that `scan` found: `kind`, where it starts and ends, and its body."""

    kind: int
    codec: int
    start: int
    end: int
    body: memoryview


class Torn(NamedTuple):
    """Where the good part of a segment ends before its end, and why."""

    offset: int
    why: str


def segment_name(number: int) -> str:
    return f"{number:016x}"


def pack_header(uuid: bytes, number: int, created_ns: int, *, is_encrypted: bool) -> bytes:
    features = FEATURE_ENCRYPTED if is_encrypted else 0
    head = _HEADER.pack(_SEGMENT_MAGIC, VERSION, features, 0, uuid, number, created_ns)
    return head + _pack_crc(_crc32(head))


def check_header(data: bytes | memoryview, uuid: bytes, number: int) -> str | None:
    """What is wrong with a segment's header, or None."""
    if len(data) < HEADER_SIZE:
        return "header is cut short"
    head = bytes(data[: _HEADER.size])
    if _CRC.unpack_from(data, _HEADER.size)[0] != _crc32(head):
        return "header does not verify"
    magic, version, features, _, its_uuid, its_number, _ = _HEADER.unpack(head)
    if magic != _SEGMENT_MAGIC:
        return "not a segment"
    if version > VERSION or features & ~KNOWN_FEATURES:
        return f"segment of a later format (version {version}, features {features:#x})"
    if its_uuid != uuid or its_number != number:
        return "segment of another store or under another number"
    return None


def pack_block(number: int, codec: int, length: int, digest: bytes, stored: int) -> bytes:
    """The part of a block's record that stands before its payload of `stored` bytes."""
    head = _pack_record(BLOCK, codec, _MAGIC, _BLOCK.size + stored)
    meta = _BLOCK.pack(number, length, digest)
    return head + _pack_crc(_crc32(meta, _crc32(head))) + meta


def unpack_block(body: memoryview) -> tuple[int, int, bytes, memoryview]:
    """(number, plain length, digest, payload) of a block record's body."""
    number, length, digest = _BLOCK.unpack_from(body)
    return number, length, digest, body[_BLOCK.size :]


def pack_batch(rows: dict[bytes, bytes | None]) -> bytes:
    """A batch record of puts, and of deletions where the value is None."""
    parts: list[bytes] = []
    add = parts.append
    for key, value in rows.items():
        if value is None:
            add(_pack_item(len(key), _DELETED))
            add(key)
        else:
            add(_pack_item(len(key), len(value)))
            add(key)
            add(value)
    return _seal_body(BATCH, b"".join(parts))


def unpack_batch(body: memoryview) -> Iterator[tuple[bytes, bytes | None]]:
    """The rows of a batch. Raises StoreDamaged where the lengths do not add up."""
    position = 0
    try:
        while position < len(body):
            key_length, value_length = _ITEM.unpack_from(body, position)
            position += _ITEM.size
            key = bytes(body[position : position + key_length])
            position += key_length
            if value_length == _DELETED:
                yield key, None
            else:
                yield key, bytes(body[position : position + value_length])
                position += value_length
    except error as problem:
        raise StoreDamaged(f"a batch is malformed: {problem}") from problem
    if position != len(body):
        raise StoreDamaged("a batch is malformed: its rows overrun it")


def pack_seal(blocks: Iterable[SealedBlock]) -> bytes:
    return _seal_body(SEAL, b"".join(_SEALED.pack(*block) for block in blocks))


def unpack_seal(body: memoryview) -> list[SealedBlock]:
    return [SealedBlock._make(fields) for fields in _SEALED.iter_unpack(body)]


def _seal_body(kind: int, body: bytes) -> bytes:
    head = _pack_record(kind, RAW, _MAGIC, len(body))
    return head + _pack_crc(_crc32(body, _crc32(head))) + body


def scan(
    data: memoryview, start: int, *, verify_blocks: bool, cipher: Cipher | None = None
) -> Iterator[Record | Torn]:
    """The records of a segment from `start`; last, a `Torn` where one does not verify.

    With `verify_blocks`, contents of blocks are hashed too, those of encrypted ones opened by
    `cipher`; raises WrongKey where that is missing.
    """
    position = start
    while position < len(data):
        record = read_record(data, position)
        if isinstance(record, str):
            yield Torn(position, record)
            return
        if verify_blocks and record.kind == BLOCK:
            _, length, digest, payload = unpack_block(record.body)
            if decode(record.codec, payload, length, digest, cipher) is None:
                yield Torn(position, "a block does not match its hash")
                return
        yield record
        position = record.end


def read_record(data: memoryview, position: int) -> Record | str:
    """The record at `position`, or why there is none that verifies; payloads are not hashed."""
    if len(data) - position < RECORD_SIZE:
        return "a record is cut short"
    kind, codec, magic, length = _RECORD.unpack_from(data, position)
    (crc,) = _CRC.unpack_from(data, position + _RECORD.size)
    if magic != _MAGIC or kind not in (BLOCK, BATCH, SEAL):
        return "not a record"
    body_start = position + RECORD_SIZE
    end = body_start + length
    if end > len(data):
        return "a record is cut short"
    covered = _BLOCK.size if kind == BLOCK else length
    if length < covered:
        return "a record is cut short"
    found = _crc32(data[position : position + _RECORD.size])
    if _crc32(data[body_start : body_start + covered], found) != crc:
        return "a record does not match its checksum"
    return Record(kind, codec, position, end, data[body_start:end])


def claimed(data: memoryview, position: int) -> tuple[int, int] | None:
    """(kind, end) that a record at `position` says of itself without any proof; None where it does
    not even look like one."""
    if len(data) - position < RECORD_SIZE:
        return None
    kind, _, magic, length = _RECORD.unpack_from(data, position)
    if magic != _MAGIC or kind not in (BLOCK, BATCH, SEAL):
        return None
    return kind, position + RECORD_SIZE + length


def batches_in(data: memoryview) -> Iterator[int]:
    """Where anything stands that would verify as a batch with rows: records, and copies of such."""
    content, at = bytes(data), -1
    while (at := content.find(_MAGIC_BYTES, at + 1)) >= 0:
        found = read_record(data, at - 2) if at >= 2 else "cut off"
        if isinstance(found, Record) and found.kind == BATCH and len(found.body):
            yield found.start


class _Contexts(threading.local):
    """zstd's, which must not be used by two threads at once: one of each for every thread."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=1).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_zstd = _Contexts()
#: Blocks below this are stored raw: the frame eats the gain.
_COMPRESS_FROM = 512
_SAMPLE = 16 << 10


def encode(
    data: bytes | bytearray | memoryview, compress: bool
) -> tuple[int, bytes | bytearray | memoryview]:
    """(codec, payload) for a block: zstd where it saves at least an eighth, else as it is.

    Large blocks are judged by a sample from their middle first, so that data which does not
    compress costs a sixteenth of a try.
    """
    if not compress or len(data) < _COMPRESS_FROM:
        return RAW, data
    if len(data) >= 4 * _SAMPLE:
        middle = len(data) // 2
        sample = data[middle : middle + _SAMPLE]
        if len(_zstd.compress(sample)) > _SAMPLE * 7 // 8:
            return RAW, data
    packed = _zstd.compress(data)
    if len(packed) > len(data) * 7 // 8:
        return RAW, data
    return ZSTD, packed


def decode(
    codec: int,
    payload: bytes | memoryview,
    length: int,
    digest: bytes,
    cipher: Cipher | None = None,
) -> bytes | memoryview | None:
    """The plain content of a block, or None where it does not verify.

    In an encrypted store nothing verifies but what was sealed by `cipher`. Raises WrongKey where
    that is missing: what cannot be read is not damaged.
    """
    if codec in _PLAIN:
        if cipher is None:
            raise WrongKey("a block is encrypted, and no key was given")
        sealed = cipher.unseal(codec, digest, payload)
        plain = None if sealed is None else _unpack(_PLAIN[codec], sealed, length)
        return plain if plain is not None and len(plain) == length else None
    plain = _unpack(codec, payload, length)
    if plain is None or len(plain) != length or cipher is not None:
        return None
    return plain if blake3(plain).digest() == digest else None


def _unpack(codec: int, payload: bytes | memoryview, length: int) -> bytes | memoryview | None:
    if codec == RAW:
        return payload
    if codec != ZSTD:
        return None
    try:
        return _zstd.decompress(payload, max_output_size=length)
    except zstandard.ZstdError:
        return None
