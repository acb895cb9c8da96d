"""fusefs gc: give the space of what nothing needs any more back to the disk."""

from typing import Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target
from fusefs.cli.progress import bar

DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]


def gc(target: Target = ".", dry_run: DryRun = False, as_json: Json = False) -> None:
    """Give the space of blocks that nothing needs any more back to the disk.

    A mounted store does so by itself from time to time; this does it now. Segments are emptied and
    deleted until no more than 4 % of what is needed is of no use in the others. The exit code is
    3 if the disk does not let some of them be read or deleted; each is named.

    \b
    Example:
      fusefs gc --dry-run ~/mnt
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve
    from fusefs.errors import SomeFailed

    with reach(resolve(target).store) as surface, bar("collecting") as on_progress:
        record = surface.gc(dry_run, on_progress)
    if as_json:
        output.as_json(record)
    else:
        output.line(_planned(record) if dry_run else _done(record))
    if failed := record.get("failed"):
        raise SomeFailed("; ".join(failed) + ": see to the disk and try again")


def _planned(record: dict[str, Any]) -> str:
    files, moved = output.size(record["file_bytes"]), output.size(record["move_bytes"])
    segments = output.counted(record["segments"], "segment", "segments")
    freed = output.size(record["reclaimable_bytes"])
    return f"would free {freed}: {files} in {segments}, of which {moved} would be moved"


def _done(record: dict[str, Any]) -> str:
    moved = output.size(record["moved_bytes"])
    segments = output.counted(record["segments"], "segment", "segments")
    return f"freed {output.size(record['freed_bytes'])} in {segments}, after moving {moved} of it"
