"""How many copies a segment must have elsewhere before it may go from here: one row of a store."""

import msgspec


class CopySettings(msgspec.Struct, array_like=True, frozen=True):
    """`numcopies`: so many are wanted; `mincopies`: and so many at least, whatever else is asked
    for. Of both the larger one counts, and 0 counts as 1."""

    numcopies: int = 1
    mincopies: int = 1

    @property
    def needed(self) -> int:
        return max(self.numcopies, self.mincopies, 1)

    def changed(self, numcopies: int | None, mincopies: int | None) -> "CopySettings":
        """With other numbers where there are any."""
        return CopySettings(
            self.numcopies if numcopies is None else numcopies,
            self.mincopies if mincopies is None else mincopies,
        )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CopySettings)


def pack(one: CopySettings) -> bytes:
    return _encoder.encode(one)


def unpack(row: bytes) -> CopySettings:
    """Raises msgspec.MsgspecError on a row that is not one."""
    return _decoder.decode(row)
