"""The whole check, and its report."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fusefs.fsck.books import books, totals_of
from fusefs.fsck.census import Census
from fusefs.fsck.contents import contents
from fusefs.fsck.names import names
from fusefs.fsck.problem import Places, Problem
from fusefs.fsck.segments import Progress, blocks, list_segments, segments, users
from fusefs.fsck.tables import Tables
from fusefs.fsck.trash import trash
from fusefs.fsck.view import View, view
from fusefs.model import keys
from fusefs.store import identity
from fusefs.store.collector import reading_segments


@dataclass(frozen=True)
class Report:
    """What a check found. `replayed`: batches that the next mount will replay; `torn`: why the log
    ends in bytes that it will cut off, which is a crash and no damage."""

    problems: tuple[Problem, ...]
    inodes: int
    blocks: int
    segments: int
    replayed: int
    torn: str
    data_was_read: bool


def check(store: Path, read_data: bool, progress: Progress | None = None) -> Report:
    """Check the store at `store`; it may be mounted, and nothing is changed.

    Structure always; with `read_data` every block is read and hashed. `progress` is called with
    (done, total) blocks. Raises NotAStore, FormatTooNew, StoreDamaged (no index to be read at all).
    """
    uuid = identity.read(store).uuid_bytes
    directory = store / "segments"
    with reading_segments(store), view(store) as rows:
        tables, census = Tables(rows), Census()
        places = Places(tables)
        index = list(_index(rows, tables, places, census))
        problems = [
            *index,
            *(totals_of(rows, census) if not index else ()),
            *segments(directory, uuid, rows.replayed.end),
            *blocks(directory, tables, places, read_data, progress),
        ]
        return Report(
            problems=tuple(problems),
            inodes=census.rows[keys.INODE],
            blocks=census.rows[keys.BLOCK],
            segments=len(list_segments(directory)),
            replayed=rows.replayed.batches,
            torn=rows.replayed.cut_why if rows.is_torn() else "",
            data_was_read=read_data,
        )


def users_of(store: Path, bad: dict[int, str]) -> tuple[Problem, ...]:
    """What needs the blocks in `bad`, which are so for the reasons given. Raises as `check`."""
    if not bad:
        return ()
    with view(store) as rows:
        tables = Tables(rows)
        return tuple(users(tables, Places(tables), bad))


def _index(rows: View, tables: Tables, places: Places, census: Census) -> Iterator[Problem]:
    for key, why in tables.malformed(census):
        yield Problem("row", places.of_row(key), why)
    yield from books(rows, census)
    yield from names(tables, places)
    yield from trash(tables, places)
    yield from contents(tables, places)
