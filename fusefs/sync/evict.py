"""Which local segments may be dropped, and whether the proofs of their copies are enough.

::

    candidates:  sealed, older than the checkpoint of the index, published in a remote, with nothing
                 in them that is pinned
    choose:      the least recently used ones, until so much is freed
    judge:       each needs so many copies that were proved just now

A copy is proved when its remote says that the object is there, with the right size, now; and when
its content was read back and had the right hash, now or less than `TRUSTED_S` ago. What was never
read back counts from the time at which it was stored.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fusefs.model.remote import Copy, Remote
from fusefs.store import format
from fusefs.store.store import Store

#: A copy whose content was seen whole less than so long ago is not read back once more.
TRUSTED_S = 30 * 86400.0

Remotes = Mapping[int, tuple[str, Remote]]


class Candidate(NamedTuple):
    """A segment that may go. `used_ns`: when its file was last read, as far as the disk notes."""

    number: int
    size: int
    used_ns: int


@dataclass
class Kept:
    """Bytes of segments that cannot go. `pinned`: they hold something pinned; `unpublished`: no
    checkpoint in a remote names them yet; `recent`: the index's own is not behind them."""

    pinned: int = 0
    unpublished: int = 0
    recent: int = 0

    def record(self) -> dict[str, int]:
        return {"pinned": self.pinned, "unpublished": self.unpublished, "recent": self.recent}


@dataclass(frozen=True)
class Plan:
    """The segments to drop, in this order, and what is kept of those that were wanted."""

    segments: tuple[Candidate, ...]
    kept: Kept

    @property
    def size_bytes(self) -> int:
        return sum(one.size for one in self.segments)

    def record(self) -> dict[str, Any]:
        return {
            "segments": [(one.number, one.size) for one in self.segments],
            "size_bytes": self.size_bytes,
            "kept": self.kept.record(),
        }


class Asked(NamedTuple):
    """A copy to be proved; `is_read`: by its content."""

    segment: int
    remote: str
    copy: Copy
    is_read: bool

    def record(self) -> dict[str, Any]:
        return {
            "segment": self.segment,
            "remote": self.remote,
            "name": self.copy.name,
            "size": self.copy.size,
            "digest": self.copy.digest.hex(),
            "is_read": self.is_read,
        }


@dataclass(frozen=True)
class Verdict:
    """`proved`: segments with enough copies. `refused`: for each other one what was checked and
    what is missing."""

    proved: tuple[int, ...]
    refused: dict[int, str] = field(default_factory=dict)


def candidates(
    store: Store, remotes: Remotes, pinned: Collection[int], wanted: Collection[int] | None
) -> tuple[list[Candidate], Kept]:
    """What may go of the segments in `wanted`, None for all, the least recently used first."""
    found: list[Candidate] = []
    kept = Kept()
    for number, size in store.segments.items():
        if wanted is not None and number not in wanted:
            continue
        if number in pinned:
            kept.pinned += size
        elif number >= store.checkpointed.segment:
            kept.recent += size
        elif not published_copies(store, remotes, number):
            kept.unpublished += size
        else:
            found.append(Candidate(number, size, _used_ns(store, number)))
    return sorted(found, key=lambda one: (one.used_ns, one.number)), kept


def published_copies(store: Store, remotes: Remotes, segment: int) -> list[tuple[str, Copy]]:
    """The copies of a segment in remotes whose last checkpoint knows it, with their names."""
    return [
        (remotes[number][0], copy)
        for number, copy in store.copies(segment).items()
        if number in remotes
        and not remotes[number][1].is_trash
        and remotes[number][1].published_segment >= segment
    ]


def only_copies(store: Store, remote: int, others: Collection[int]) -> list[int]:
    """The segments of use that are neither here nor in `others`, but in the remote of that number;
    all of them numbers of remotes that the store has."""
    return [
        segment
        for segment in store.usage.segments()
        if segment not in store.segments
        and remote in (there := store.copies(segment))
        and not there.keys() & set(others)
    ]


def choose(found: Iterable[Candidate], kept: Kept, to_free: int | None) -> Plan:
    """The first of `found` that free `to_free` bytes together; None: all."""
    chosen: list[Candidate] = []
    freed = 0
    for one in found:
        if to_free is not None and freed >= to_free:
            break
        chosen.append(one)
        freed += one.size
    return Plan(tuple(chosen), kept)


def to_prove(
    store: Store, remotes: Remotes, segments: Iterable[int], *, read_all: bool
) -> list[Asked]:
    """What the agent is to look at, for these segments."""
    now = store.clock.time_ns()
    return [
        Asked(
            segment, name, copy,
            read_all or not 0 <= now - copy.verified_ns < TRUSTED_S * 1e9,
        )
        for segment in segments
        for name, copy in published_copies(store, remotes, segment)
    ]  # fmt: skip


def judge(
    segments: Iterable[int], asked: Iterable[Asked], why_not: Mapping[tuple[int, str], str],
    needed: int,
) -> Verdict:  # fmt: skip
    """Which segments have `needed` proved copies. `why_not`: for each (segment, remote) that was
    looked at, what is wrong with the copy, "" if nothing is."""
    proved, refused = [], {}
    by_segment: dict[int, list[str]] = {}
    for one in asked:
        by_segment.setdefault(one.segment, []).append(one.remote)
    for segment in segments:
        checked = {
            name: why_not.get((segment, name), "it was not looked at")
            for name in by_segment.get(segment, [])
        }
        count = sum(1 for why in checked.values() if not why)
        if count >= needed:
            proved.append(segment)
            continue
        seen = "; ".join(f"{name}: {why or 'proved'}" for name, why in sorted(checked.items()))
        refused[segment] = (
            f"segment {format.segment_name(segment)} has {count} of {needed} proved copies"
            f" elsewhere ({seen or 'it is in no remote'})"
        )
    return Verdict(tuple(proved), refused)


def _used_ns(store: Store, number: int) -> int:
    try:
        status = os.stat(store.path / "segments" / format.segment_name(number))
    except OSError:
        return 0
    return max(status.st_atime_ns, status.st_mtime_ns)
