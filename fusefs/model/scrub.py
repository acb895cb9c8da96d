"""One pass of the scrub over all blocks: remembered, so that a restart goes on with it."""

import msgspec


class Pass(msgspec.Struct, array_like=True):
    """The pass that is under way, or else the last one.

    `began_ns`, `ended_ns`: wall times; 0: not yet. `position`: the number of the last block that
    was dealt with. `blocks`, `read_bytes`: what was read so far, in bytes on the disk; `damaged`:
    blocks of these that were bad; `healed`: of these the ones that a remote had, and that were
    written anew. Rows from before these were counted lack it.
    """

    began_ns: int = 0
    ended_ns: int = 0
    position: int = 0
    blocks: int = 0
    read_bytes: int = 0
    damaged: int = 0
    healed: int = 0

    @property
    def is_under_way(self) -> bool:
        return bool(self.began_ns) and not self.ended_ns


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Pass)


def pack(one: Pass) -> bytes:
    return _encoder.encode(one)


def unpack(row: bytes) -> Pass:
    """Raises msgspec.MsgspecError on a row that is not one."""
    return _decoder.decode(row)
