"""Which segments a collection empties, decided before anything is touched.

The emptiest first, because they cost least, and no more of them than it takes until what is of no
use in the others is within the margin. Small ones are a plan of their own: to merge them gains no
bytes, but files.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from fusefs.store.margins import Margins


class Candidate(NamedTuple):
    """A segment: bytes of its file, and of what is to be moved out of it to empty it."""

    number: int
    size: int
    live: int

    @property
    def dead(self) -> int:
        """What emptying it gains. Below zero where rows of its blocks stand in another segment."""
        return self.size - self.live


@dataclass(frozen=True)
class Plan:
    """The segments to empty, in this order, out of a store that needs `live_bytes`.

    `dead_bytes`: of no use in all segments that can be collected, in the plan or not.
    """

    segments: tuple[Candidate, ...]
    live_bytes: int
    dead_bytes: int

    @property
    def file_bytes(self) -> int:
        """Sizes of the files to delete."""
        return sum(one.size for one in self.segments)

    @property
    def move_bytes(self) -> int:
        """What is to be written again."""
        return sum(one.live for one in self.segments)

    @property
    def reclaimable_bytes(self) -> int:
        """What the disk gains in the end."""
        return self.file_bytes - self.move_bytes

    def record(self) -> dict[str, Any]:
        return {
            "segments": len(self.segments),
            "file_bytes": self.file_bytes,
            "move_bytes": self.move_bytes,
            "reclaimable_bytes": self.reclaimable_bytes,
            "live_bytes": self.live_bytes,
            "dead_bytes": self.dead_bytes,
        }


def allowed_dead_bytes(live_bytes: int, margins: Margins) -> float:
    """How much may be of no use in a store that needs `live_bytes`."""
    return max(live_bytes * margins.slack, margins.least_bytes)


def choose(
    found: Iterable[tuple[int, int, int]],
    live_bytes: int,
    margins: Margins,
    newest: int,
    *,
    only_mostly_dead: bool = False,
) -> Plan:
    """The plan for a store that needs `live_bytes` and has the segments `found`.

    These are given as their number, the bytes of their file, and the bytes of use in it.
    `newest` is the segment that the log writes to. It is chosen only where it must be; with
    `only_mostly_dead`, for a busy store, never.
    """
    # Plain tuples and one sort: a store of 1 TiB has 65 000 segments, and requests wait meanwhile.
    ranked = sorted([(live / size, number, size, live) for number, size, live in found if size])
    dead_bytes = rest = sum([size - live for _, _, size, live in ranked])
    allowed = allowed_dead_bytes(live_bytes, margins)
    most_live = 1 - margins.mostly_dead if only_mostly_dead else 1.0
    chosen = []
    for live_part, number, size, live in ranked:
        if rest <= allowed or live >= size or live_part > most_live:
            break
        if not (only_mostly_dead and number >= newest):
            chosen.append(Candidate(number, size, live))
            rest -= size - live
    if rest + sum(one.dead for one in chosen if one.number >= newest) <= allowed:
        chosen = [one for one in chosen if one.number < newest]
    return Plan(tuple(chosen), live_bytes, dead_bytes)


def merge(
    found: Iterable[tuple[int, int, int]], live_bytes: int, index_bytes: int, margins: Margins
) -> Plan:
    """The plan to make few segments of many small ones, `found` as for `choose`; the oldest first,
    up to `merge_bytes`. Nothing, unless there are enough of them to be worth a copy of the index.
    """
    small = sorted(one for one in found if one[1] < margins.small_bytes)
    wanted = min(index_bytes // margins.merge_index_bytes, margins.merge_enough)
    chosen: list[Candidate] = []
    moved = 0
    for number, size, live in small if len(small) >= max(wanted, margins.merge_least) else ():
        moved += live
        if moved > margins.merge_bytes:
            break
        chosen.append(Candidate(number, size, live))
    return Plan(tuple(chosen), live_bytes, sum(one.dead for one in chosen))
