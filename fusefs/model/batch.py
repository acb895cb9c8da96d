"""What was removed in one go: all of an ``rm -rf`` is one batch, one line of the list."""

import msgspec

from fusefs.model.entry import State


class RemovalBatch(msgspec.Struct, array_like=True):
    """One batch of removals, as long as entries of it are in the trash.

    `number`: its id, never that of an entry. `last`: the highest number of its entries; all of
    them lie between. `uid`, `process`: who. `top`: the lowest directory that all of it was in, or,
    where `is_whole`, the directory or the one name that was removed with all in it; without a
    leading slash. `began_ns`, `ended_ns`: wall time. `pending`, `ongoing`, `failed`: entries by
    state. `size_bytes`: of those entries.
    """

    number: int
    uid: int
    process: bytes
    top: bytes
    is_whole: bool
    began_ns: int
    ended_ns: int
    last: int = 0
    pending: int = 0
    ongoing: int = 0
    failed: int = 0
    size_bytes: int = 0

    @property
    def entries(self) -> int:
        return self.pending + self.ongoing + self.failed

    def count(self, state: State, sign: int) -> None:
        """One entry more or less that is in `state`."""
        if state is State.PENDING:
            self.pending += sign
        elif state is State.ONGOING:
            self.ongoing += sign
        elif state is State.ERROR:
            self.failed += sign

    def takes(self, origin: bytes) -> None:
        """Widen `top` so that the removed path `origin` is in it."""
        if self.is_within(origin):
            self.is_whole = self.is_whole or origin == self.top
            return
        mine, other = self.top.split(b"/"), origin.split(b"/")
        same = 0
        while same < min(len(mine), len(other)) and mine[same] == other[same]:
            same += 1
        self.top = b"/".join(mine[:same])
        self.is_whole = self.top == origin

    def is_within(self, path: bytes) -> bool:
        """Whether `path` is `top` or below it."""
        top = self.top
        return path == top or not top or path.startswith(top + b"/")


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RemovalBatch)


def pack(batch: RemovalBatch) -> bytes:
    return _encoder.encode(batch)


def unpack(row: bytes) -> RemovalBatch:
    """Raises msgspec.MsgspecError on a row that is not one."""
    return _decoder.decode(row)
