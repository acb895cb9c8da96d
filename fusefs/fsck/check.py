"""The whole check, and its report."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fusefs.fsck.books import books, totals_of
from fusefs.fsck.census import Census
from fusefs.fsck.contents import contents, known_damage, recorded_damage
from fusefs.fsck.copies import copies
from fusefs.fsck.names import names
from fusefs.fsck.partials import partials
from fusefs.fsck.problem import Places, Problem
from fusefs.fsck.segments import (
    Blocks,
    Progress,
    copy_of_index,
    list_segments,
    segments,
    users,
)
from fusefs.fsck.selection import Guarded, Selection, Stopped
from fusefs.fsck.tables import Tables
from fusefs.fsck.transfers import transfers
from fusefs.fsck.trash import trash
from fusefs.fsck.view import View, view
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.store import identity
from fusefs.store.cipher import Cipher
from fusefs.store.collector import reading_segments


@dataclass(frozen=True)
class Report:
    """What a check found. `replayed`: batches that the next mount will replay; `torn`: why the log
    ends in bytes that it will cut off, which is a crash and no damage. `blocks_checked`: of which
    it was seen that their records are in place; `blocks_read`: their content as well.
    `blocks_elsewhere`: in remotes only, and not looked at.
    `known`: what earlier repairs have marked as lost, and bad blocks that are on record, which is
    no problem to be found again.
    `stopped`: in the middle of what the check ended before its end, or "".
    """

    problems: tuple[Problem, ...]
    inodes: int
    blocks: int
    segments: int
    replayed: int
    torn: str
    data_was_read: bool
    blocks_checked: int = 0
    blocks_read: int = 0
    blocks_elsewhere: int = 0
    known: tuple[Problem, ...] = ()
    stopped: str = ""


def check(
    store: Path,
    read_data: bool | Selection,
    progress: Progress | None = None,
    goes_on: Callable[[], bool] = lambda: True,
    cipher: Cipher | None = None,
) -> Report:
    """Check the store at `store`; it may be mounted, and nothing is changed.

    Structure always; with `read_data` every block is read and hashed, or those that it selects.
    `progress` is called with (done, total) blocks. When `goes_on` says no, the check ends with what
    it found so far. `cipher`: of an encrypted store.

    Raises NotAStore, FormatTooNew, WrongKey, StoreDamaged (no index to be read at all).
    """
    its = identity.read(store)
    its.require_key(store, cipher)
    uuid, directory = its.uuid_bytes, store / "segments"
    with reading_segments(store), view(store, cipher) as rows:
        tables, census = Tables(Guarded(rows, goes_on)), Census()
        unguarded = Tables(rows)  # to name what was found, also at the end of the time
        places = Places(unguarded)
        blocks = Blocks(directory, tables, Selection.of(read_data), progress, goes_on, cipher)
        problems: list[Problem] = []
        known: list[Problem] = []
        doing = ""
        try:
            doing = "names, files and trash"
            for problem in _index(rows, tables, places, census, problems):
                problems.append(problem)
            doing = "segments"
            problems.extend(segments(directory, uuid, rows.replayed.end, goes_on))
            problems.extend(copy_of_index(store, read_data=bool(read_data)))
            problems.extend(copies(tables, list_segments(directory)))
            doing = "blocks"
            blocks.check()
            doing = "half-written files"
            problems.extend(partials(tables, places, blocks.bad))
            doing = "known damage"
            known.extend(known_damage(tables, places))
            known.extend(recorded_damage(tables))
            doing = ""
        except Stopped:
            pass
        problems.extend(users(unguarded, places, blocks.bad | blocks.out_of_reach))
        return Report(
            problems=tuple(problems),
            inodes=census.rows[keys.INODE],
            blocks=census.rows[keys.BLOCK],
            segments=len(list_segments(directory)),
            replayed=rows.replayed.batches,
            torn=rows.replayed.cut_why if rows.is_torn() else "",
            data_was_read=bool(read_data),
            blocks_checked=blocks.checked,
            blocks_read=blocks.read,
            blocks_elsewhere=blocks.elsewhere,
            known=tuple(known),
            stopped=doing,
        )


@dataclass(frozen=True)
class Use:
    """A range of a file that needs a block: bytes `skip` to `skip` + `length` of that."""

    path: str
    inode: int
    offset: int
    length: int
    skip: int


def uses_of(
    store: Path, number: int, cipher: Cipher | None = None
) -> tuple[Block | None, tuple[Use, ...]]:
    """The row of a block, None if there is none or it does not decode, and what needs the block.

    Raises as `check`.
    """
    with view(store, cipher) as rows:
        tables = Tables(rows)
        places = Places(tables)
        found = tuple(
            Use(places.path(ino), ino, one.offset, one.length, one.skip)
            for ino, one in tables.extents()
            if one is not None and one.block == number
        )
        return tables.block(number), found


def users_of(store: Path, bad: dict[int, str], cipher: Cipher | None = None) -> tuple[Problem, ...]:
    """What needs the blocks in `bad`, which are so for the reasons given. Raises as `check`."""
    if not bad:
        return ()
    with view(store, cipher) as rows:
        tables = Tables(rows)
        return tuple(users(tables, Places(tables), bad))


def _index(
    rows: View, tables: Tables, places: Places, census: Census, found: list[Problem]
) -> Iterator[Problem]:
    for key, why in tables.malformed(census):
        yield Problem("row", places.of_row(key), why)
    yield from books(rows, census)
    yield from names(tables, places)
    yield from trash(tables, places)
    yield from contents(tables, places)
    yield from transfers(tables)
    if not found:
        yield from totals_of(rows, census)
