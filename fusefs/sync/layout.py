"""The objects of a remote, byte by byte.

::

    format                          {"fusefs_remote": 1}                 JSON; put first
    segments/<hex>                  a sealed segment as it is in STORE/segments (store.format)
    index/<hex>                     part of the index: rows, a base, a table
    checkpoints/<16 hex digits>     names the others; put last

           checkpoints/000000000000002a
             |  end: byte 5120 of segment 97                 all that the log says up to there
             |-- base --------> index/ab..  is of byte 88 of segment 60
             |                    |-- index/01..  rows    all of the index, in the order of keys
             |                    |-- index/23..  rows
             |-- deltas
             |     |-- 60:88 -> 80:900    index/45..  rows    batch records of the log
             |     |-- 80:900 -> 97:5120  index/67..  rows
             |-- tables
                   |-- index/89..  of segments 0 to 1023: number, size, BLAKE3 of those in use

Base, then deltas in their order: that is the index (but for its own books, `keys.META`) as it was
at `end`. The tables are all segments that hold a block that it needs. Names in segments/ and index/
are the BLAKE3 of the object as it lies there, so it is verified by its name; what did not change
between two checkpoints has one name and is there once. Every object but `format` and segments is::

    "FUSEFSRM" version:u16 kind:u8 zero:u8 plain_length:u32 blake3:32   zstd( body )

BLAKE3 is of the body. All numbers little-endian. Bodies::

    rows        batch records as in a segment (store.format), CRC and all
    base        msgpack of `Base`
    table       (number:u64 size:u32 blake3:32)*
    checkpoint  msgpack of `Checkpoint`

Rows are rows and not LMDB's pages, so any engine can take them, and where nothing changed in a
stretch of keys a later base has the same object for it: a base is cut where a key says so.

Recovery: an object is there whole or not at all; a checkpoint is of use if everything it names is
there. A reader takes the newest one. A version above `VERSION` is refused.
"""

import zlib
from collections.abc import Iterable, Iterator
from struct import Struct, error
from typing import NamedTuple, TypeVar

import msgspec
import zstandard
from blake3 import blake3

from fusefs.errors import FormatTooNew, NoSuchObject, ObjectDamaged, StoreDamaged
from fusefs.model import keys
from fusefs.remotes.api import Remote
from fusefs.store import format

VERSION = 1
FORMAT_NAME = "format"
SEGMENTS, INDEX, CHECKPOINTS = "segments/", "index/", "checkpoints/"
ROWS, BASE, TABLE, CHECKPOINT = 1, 2, 3, 4

#: Plain bytes of rows in one object, at most; of a base, from when on a cut is looked for.
PIECE_BYTES = 16 << 20
_CUT_FROM = 256 << 10
#: A base is cut behind one of so many keys: some 300 KiB more.
_CUT_EVERY = 4096
#: Rows in one record of a base.
_RECORD_ROWS = 512
#: Segments whose numbers are in one table.
TABLE_SEGMENTS = 1024

_FRAME = Struct("<8sHBBI32s")
_MAGIC = b"FUSEFSRM"
_LINE = Struct("<QI32s")

Rows = dict[bytes, bytes | None]
Place = tuple[int, int]
_Value = TypeVar("_Value")


class Piece(msgspec.Struct, array_like=True, frozen=True):
    """An object in index/: its `digest`, which is its name, and its bytes there."""

    digest: bytes
    size: int

    @property
    def name(self) -> str:
        return INDEX + self.digest.hex()


class Base(msgspec.Struct, array_like=True, frozen=True):
    """All rows as of `position` (segment, offset) of the log. `size`: bytes of `pieces`."""

    position: Place
    rows: int
    size: int
    pieces: tuple[Piece, ...]


class Delta(msgspec.Struct, array_like=True, frozen=True):
    """The batches of the log from `start` to `end`."""

    start: Place
    end: Place
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)


class Checkpoint(msgspec.Struct, array_like=True, frozen=True):
    """A store as it was at `end` of its log.

    `uuid`: of the store. `writer`: who published it, `model.remote.Remote.writer`. `created_ns`:
    wall time. `identity`: fusefs.json as it is in the store. `counters`: the numbers given out so
    far, msgpack of `store.counters.Counters`. `base`: of kind BASE; `base_bytes`: of the objects
    that it names. `tables`: of kind TABLE, by ascending numbers; `segments`, `segments_bytes`: how
    many these name, and their sizes.
    """

    uuid: str
    writer: str
    sequence: int
    created_ns: int
    identity: bytes
    counters: bytes
    end: Place
    base: Piece
    base_bytes: int
    deltas: tuple[Delta, ...]
    tables: tuple[Piece, ...]
    segments: int
    segments_bytes: int


class Segment(NamedTuple):
    """A segment in the remote: its number in the log, bytes, BLAKE3."""

    number: int
    size: int
    digest: bytes

    @property
    def name(self) -> str:
        return segment_object(self.digest)


def segment_object(digest: bytes) -> str:
    """The name of the segment whose bytes have this BLAKE3."""
    return SEGMENTS + digest.hex()


def checkpoint_object(sequence: int) -> str:
    return f"{CHECKPOINTS}{sequence:016x}"


def sequence_of(name: str) -> int | None:
    """The sequence of a checkpoint's name, None where it is no such name."""
    text = name.removeprefix(CHECKPOINTS)
    if len(text) != 16 or text == name:
        return None
    try:
        return int(text, 16)
    except ValueError:
        return None


# -- objects


def pack(kind: int, body: bytes) -> bytes:
    """An object of one kind."""
    frame = _FRAME.pack(_MAGIC, VERSION, kind, 0, len(body), blake3(body).digest())
    return frame + zstandard.ZstdCompressor(level=3).compress(body)


def unpack(kind: int, content: bytes, name: str) -> bytes:
    """The body of an object; `name` is for messages. Raises ObjectDamaged, FormatTooNew."""
    if len(content) < _FRAME.size or not content.startswith(_MAGIC):
        raise ObjectDamaged(f"{name} is damaged: it does not begin as an object of fusefs")
    _, version, its_kind, _, length, digest = _FRAME.unpack_from(content)
    if version > VERSION:
        raise FormatTooNew(
            f"{name} has format {version}, this fusefs knows up to {VERSION}: install a later one"
        )
    if its_kind != kind:
        raise ObjectDamaged(f"{name} is damaged: it is not of the kind that it should be")
    if length > PIECE_BYTES + format.SEGMENT_SIZE:
        raise ObjectDamaged(f"{name} is damaged: it claims to be larger than objects are")
    try:
        body = zstandard.ZstdDecompressor().decompress(
            memoryview(content)[_FRAME.size :], max_output_size=length
        )
    except zstandard.ZstdError as problem:
        raise ObjectDamaged(f"{name} is damaged: {problem}") from problem
    if len(body) != length or blake3(body).digest() != digest:
        raise ObjectDamaged(f"{name} is damaged: it does not match its sum")
    return body


def piece_of(content: bytes) -> Piece:
    """What an object in index/ is named by."""
    return Piece(blake3(content).digest(), len(content))


def pack_format() -> bytes:
    return msgspec.json.encode({"fusefs_remote": VERSION})


def check_format(content: bytes, place: str) -> None:
    """Raises FormatTooNew, ObjectDamaged."""
    try:
        version = msgspec.json.decode(content, type=dict[str, int])["fusefs_remote"]
    except (msgspec.MsgspecError, KeyError) as problem:
        raise ObjectDamaged(f"{place}: the object 'format' is not one of fusefs") from problem
    if version > VERSION:
        raise FormatTooNew(
            f"{place} has format {version}, this fusefs knows up to {VERSION}: install a later one"
        )


def pack_base(base: Base) -> bytes:
    return pack(BASE, msgspec.msgpack.encode(base))


def unpack_base(content: bytes, name: str) -> Base:
    """Raises ObjectDamaged, FormatTooNew."""
    return _decoded(BASE, content, name, Base)


def pack_checkpoint(checkpoint: Checkpoint) -> bytes:
    return pack(CHECKPOINT, msgspec.msgpack.encode(checkpoint))


def unpack_checkpoint(content: bytes, name: str) -> Checkpoint:
    """Raises ObjectDamaged, FormatTooNew."""
    return _decoded(CHECKPOINT, content, name, Checkpoint)


def pack_table(segments: Iterable[Segment]) -> bytes:
    return pack(TABLE, b"".join(_LINE.pack(*one) for one in segments))


def unpack_table(content: bytes, name: str) -> list[Segment]:
    """Raises ObjectDamaged, FormatTooNew."""
    try:
        lines = _LINE.iter_unpack(unpack(TABLE, content, name))
        return [Segment._make(line) for line in lines]
    except error as problem:
        raise ObjectDamaged(f"{name} is damaged: {problem}") from problem


def unpack_rows(content: bytes, name: str) -> Iterator[Rows]:
    """The batches of an object of rows, each to be applied whole, in this order; a row that is None
    is to be deleted.

    Raises ObjectDamaged, FormatTooNew.
    """
    data = memoryview(unpack(ROWS, content, name))
    for record in format.scan(data, 0, verify_blocks=False):
        if isinstance(record, format.Torn) or record.kind != format.BATCH:
            raise ObjectDamaged(f"{name} is damaged: it does not hold batches alone")
        try:
            yield dict(format.unpack_batch(record.body))
        except StoreDamaged as problem:
            raise ObjectDamaged(f"{name} is damaged: {problem}") from problem


def _decoded(kind: int, content: bytes, name: str, type: type[_Value]) -> _Value:
    try:
        return msgspec.msgpack.decode(unpack(kind, content, name), type=type)
    except msgspec.MsgspecError as problem:
        raise ObjectDamaged(f"{name} is damaged: {problem}") from problem


# -- making pieces


def base_objects(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, int]]:
    """Objects of rows of a base, each with how many are in it; `rows`: the index by its keys."""
    records: list[bytes] = []
    batch: Rows = {}
    size = count = 0
    for key, value in rows:
        if key[:1] == keys.META:
            continue
        batch[key] = value
        count += 1
        size += len(key) + len(value) + format.ITEM_SIZE
        is_end = size >= _CUT_FROM and not zlib.crc32(key) % _CUT_EVERY
        if is_end or len(batch) >= _RECORD_ROWS or size >= PIECE_BYTES:
            records.append(format.pack_batch(batch))
            batch = {}
        if is_end or size >= PIECE_BYTES:
            yield pack(ROWS, b"".join(records)), count
            records, size, count = [], 0, 0
    if batch:
        records.append(format.pack_batch(batch))
    if records:
        yield pack(ROWS, b"".join(records)), count


def delta_objects(records: Iterable[bytes]) -> Iterator[bytes]:
    """Objects of rows of a delta; `records`: batch records of the log, in its order."""
    held: list[bytes] = []
    size = 0
    for record in records:
        if held and size + len(record) > PIECE_BYTES:
            yield pack(ROWS, b"".join(held))
            held, size = [], 0
        held.append(record)
        size += len(record)
    if held:
        yield pack(ROWS, b"".join(held))


# -- reading a remote


def check(remote: Remote) -> bool:
    """Whether something was published there by a fusefs that this one understands.

    Raises FormatTooNew, ObjectDamaged and what a remote raises.
    """
    try:
        content = remote.get(FORMAT_NAME)
    except NoSuchObject:
        return False
    check_format(content, remote.place)
    return True


def sequences(remote: Remote) -> list[int]:
    """Of all checkpoints that are there, ascending."""
    found = (sequence_of(one.name) for one in remote.list(CHECKPOINTS))
    return sorted(one for one in found if one is not None)


def read_checkpoint(remote: Remote, sequence: int) -> Checkpoint:
    """Raises NoSuchObject, ObjectDamaged, FormatTooNew."""
    name = checkpoint_object(sequence)
    return unpack_checkpoint(remote.get(name), name)


def read_piece(remote: Remote, piece: Piece) -> bytes:
    """An object in index/, verified. Raises NoSuchObject, ObjectDamaged."""
    content = remote.get(piece.name)
    if blake3(content).digest() != piece.digest:
        raise ObjectDamaged(f"{piece.name} in {remote.place} is not what was stored")
    return content


def read_base(remote: Remote, checkpoint: Checkpoint) -> Base:
    """Raises NoSuchObject, ObjectDamaged, FormatTooNew."""
    return unpack_base(read_piece(remote, checkpoint.base), checkpoint.base.name)


def row_pieces(remote: Remote, checkpoint: Checkpoint) -> list[Piece]:
    """The objects of rows that make the index, in the order in which they are applied.

    Raises NoSuchObject, ObjectDamaged, FormatTooNew.
    """
    base = read_base(remote, checkpoint)
    return [*base.pieces, *(piece for delta in checkpoint.deltas for piece in delta.pieces)]


def read_segments(remote: Remote, checkpoint: Checkpoint) -> dict[int, Segment]:
    """All segments that the index of the checkpoint needs, by number.

    Raises NoSuchObject, ObjectDamaged, FormatTooNew.
    """
    return {
        one.number: one
        for piece in checkpoint.tables
        for one in unpack_table(read_piece(remote, piece), piece.name)
    }
