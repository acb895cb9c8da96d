"""What of a remote nothing needs any more: plan, then apply.

::

    all checkpoints -> those that stay -> what they name
    all objects - named - known to the store - young   = what goes, checkpoints first

The reverse order of writing: when an object goes, no checkpoint names it any more. Nobody publishes
meanwhile (`Syncing.hold`, or it is the agent itself). With a trash remote everything that is to go
is stored there first, all of it; where that fails nothing goes.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from fusefs.errors import NoSuchObject, ObjectDamaged, RemoteError
from fusefs.remotes.api import Found, Remote
from fusefs.sync import layout
from fusefs.sync.layout import Checkpoint
from fusefs.sync.margins import DEFAULT, Margins

_DAY_NS = 24 * 3600 * 10**9
#: Told how many objects are done, and of how many.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """What goes. `checkpoints`: their sequences, `kept` those that stay; `objects`: all names, in
    the order in which they go; `size_bytes` of them. `unreadable`: checkpoints that do not verify;
    while there are any, only they tell what they named, and so nothing but old checkpoints goes."""

    checkpoints: tuple[int, ...]
    kept: tuple[int, ...]
    objects: tuple[str, ...]
    size_bytes: int
    unreadable: tuple[int, ...] = ()


def staying(created_ns: dict[int, int], margins: Margins) -> set[int]:
    """Of checkpoints by sequence and their time, those that stay."""
    ordered = sorted(created_ns, reverse=True)
    kept = set(ordered[: margins.keep_newest])
    if ordered:
        newest_day = created_ns[ordered[0]] // _DAY_NS
        days: set[int] = set()
        for sequence in ordered:
            day = created_ns[sequence] // _DAY_NS
            if day not in days and newest_day - day <= margins.keep_days:
                days.add(day)
                kept.add(sequence)
    return kept


def plan(remote: Remote, known: Collection[str], now_ns: int, margins: Margins = DEFAULT) -> Plan:
    """What can go from a remote; reads all checkpoints and lists everything, changes nothing.

    `known`: names of segments that the store counts on. Raises what a remote raises, and
    ObjectDamaged where a checkpoint that stays cannot be followed.
    """
    youngest_ns = now_ns - int(margins.min_age_s * 1e9)
    checkpoints: dict[int, Checkpoint] = {}
    unreadable: list[int] = []
    for sequence in layout.sequences(remote):
        try:
            checkpoints[sequence] = layout.read_checkpoint(remote, sequence)
        except NoSuchObject:
            continue
        except ObjectDamaged:
            unreadable.append(sequence)
    kept = staying({n: one.created_ns for n, one in checkpoints.items()}, margins)
    named = set(known)
    for sequence in kept:
        named |= names_of(remote, checkpoints[sequence])

    def is_old(found: Found) -> bool:
        return 0 < found.modified_ns < youngest_ns

    going: list[Found] = []
    for found in remote.list(layout.CHECKPOINTS):
        number = layout.sequence_of(found.name)
        if number in checkpoints and number not in kept and is_old(found):
            going.append(found)
    for prefix in (layout.INDEX, layout.SEGMENTS) if not unreadable and kept else ():
        going += (it for it in remote.list(prefix) if it.name not in named and is_old(it))
    gone = [layout.sequence_of(found.name) for found in going]
    return Plan(
        checkpoints=tuple(sorted(one for one in gone if one is not None)),
        kept=tuple(sorted(kept)),
        objects=tuple(found.name for found in going),
        size_bytes=sum(found.size for found in going),
        unreadable=tuple(unreadable),
    )


def names_of(remote: Remote, checkpoint: Checkpoint) -> set[str]:
    """All objects that a checkpoint needs. Raises NoSuchObject, ObjectDamaged, FormatTooNew."""
    names = {checkpoint.base.name, *(piece.name for piece in checkpoint.tables)}
    names.update(piece.name for piece in layout.row_pieces(remote, checkpoint))
    names.update(one.name for one in layout.read_segments(remote, checkpoint).values())
    return names


def apply(
    wanted: Plan,
    remote: Remote,
    trash: Iterable[tuple[str, Remote]] = (),
    progress: Progress | None = None,
) -> int:
    """Delete what was planned; returns how many objects went.

    `trash`: where all of it is stored first, each remote with a folder for it. Raises what remotes
    raise: from a trash before anything is deleted.
    """
    shelves = list(trash)
    total = len(wanted.objects) * (1 + bool(shelves))
    done = 0
    for name in wanted.objects if shelves else ():
        content = remote.get(name)
        for folder, shelf in shelves:
            _shelve(shelf, f"{folder}/{name}", content)
        done += 1
        if progress:
            progress(done, total)
    deleted = 0
    for name in wanted.objects:
        deleted += remote.delete(name)
        done += 1
        if progress:
            progress(done, total)
    return deleted


def _shelve(shelf: Remote, name: str, content: bytes) -> None:
    try:
        shelf.put(name, content)
    except RemoteError as error:
        text = f"nothing is deleted, as the trash remote cannot take it first: {error}"
        raise type(error)(text) from error
