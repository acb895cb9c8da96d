"""Which blocks a check reads, and when it ends before it is done."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from blake3 import blake3

from fusefs.errors import UsageError
from fusefs.fsck.view import Rows

_PART = re.compile(r"(\d+)/(\d+)")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%")
#: Rows between two looks at the clock.
_ROWS = 256


class Stopped(Exception):
    """The check is to end here, with what it found."""


@dataclass(frozen=True)
class Selection:
    """The blocks whose numbers, divided by `parts`, leave `part` - 1: all of them are read by
    `parts` checks, whatever is written or moved meanwhile. Of these, `percent` at random: the same
    ones for the same `seed`."""

    part: int = 1
    parts: int = 1
    percent: float = 100.0
    seed: int = 0

    @classmethod
    def of(cls, read_data: "bool | Selection") -> "Selection":
        if isinstance(read_data, Selection):
            return read_data
        return cls() if read_data else cls(percent=0.0)

    @classmethod
    def parse(cls, text: str, seed: int) -> "Selection":
        """What ``n/t`` or ``x%`` stands for. Raises UsageError."""
        if (part := _PART.fullmatch(text)) and 1 <= int(part[1]) <= int(part[2]):
            return cls(part=int(part[1]), parts=int(part[2]))
        if (percent := _PERCENT.fullmatch(text)) and 0 < float(percent[1]) <= 100:
            return cls(percent=float(percent[1]), seed=seed)
        raise UsageError(f"--read-data={text}: give a part such as 1/7, or a percentage such as 5%")

    def takes(self, number: int) -> bool:
        """Whether block `number` is one of them."""
        if number % self.parts != self.part - 1:
            return False
        if self.percent >= 100 or self.percent <= 0:
            return self.percent > 0
        drawn = blake3(b"%d %d" % (self.seed, number)).digest()[:8]
        return int.from_bytes(drawn, "big") < self.percent / 100 * 2**64


class Guarded:
    """Rows that raise Stopped, where they are listed, when `goes_on` says no."""

    def __init__(self, rows: Rows, goes_on: Callable[[], bool]) -> None:
        self._rows = rows
        self._goes_on = goes_on
        self.get = rows.get

    def scan(self, start: bytes, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        for count, row in enumerate(self._rows.scan(start, prefix)):
            if count % _ROWS == 0 and not self._goes_on():
                raise Stopped
            yield row
