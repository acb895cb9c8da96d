"""The whole check, and its report."""

from dataclasses import dataclass
from pathlib import Path

from fusefs.fsck.segments import Progress, blocks, segments
from fusefs.fsck.structure import Problem, structure
from fusefs.fsck.view import view
from fusefs.model import keys
from fusefs.store import identity
from fusefs.store.recovery import list_segments


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
    with view(store) as rows:
        problems = [
            *structure(rows),
            *segments(directory, uuid, rows.replayed.end),
            *blocks(directory, rows, read_data, progress),
        ]
        return Report(
            problems=tuple(problems),
            inodes=sum(1 for _ in rows.scan(keys.INODE)),
            blocks=sum(1 for _ in rows.scan(keys.BLOCK)),
            segments=len(list_segments(directory)),
            replayed=rows.replayed.batches,
            torn=rows.replayed.cut_why,
            data_was_read=read_data,
        )
