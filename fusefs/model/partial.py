"""A file that is being written, or that was left half-written; one row for each."""

import msgspec


class Upload(msgspec.Struct, array_like=True, frozen=True):
    """What a sender said that the file is to become.

    `token`: what it knows its source by. `size`: bytes. `name`: of the file that it becomes, in the
    same directory. `root`: BLAKE3 of the BLAKE3 digests of its blocks in order, or in an encrypted
    store a name for that (`Blocks.name`); empty until all have been read. `mtime_ns`: the time of
    its last change then; 0 means when it was written.
    """

    token: bytes
    size: int
    name: bytes
    root: bytes = b""
    mtime_ns: int = 0


class Partial(msgspec.Struct, array_like=True):
    """One of them.

    `begun_ns`: wall time when its writing began. `is_new`: it was made or emptied for that, so
    there is nothing else in it; where it is false an older file was being changed.
    `offset`: every byte before it was stored and did verify; a multiple of the block size.
    `why`: what ended the writing before its time; empty while it goes on.
    `is_damaged`: what lies behind the offset may hold a bad block. `former`: the inode that keeps
    what the file held before it was emptied and begun anew; 0 if none does.
    `stopped_ns`: when that was, by the clock of the trash; 0 while it goes on or was not dated yet.
    """

    begun_ns: int
    is_new: bool
    offset: int = 0
    why: str = ""
    stopped_ns: int = 0
    upload: Upload | None = None
    is_damaged: bool = False
    former: int = 0

    @property
    def is_writing(self) -> bool:
        return not self.why


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Partial)


def pack(partial: Partial) -> bytes:
    return _encoder.encode(partial)


def unpack(row: bytes) -> Partial:
    """Raises msgspec.MsgspecError on a row that is not one."""
    return _decoder.decode(row)
