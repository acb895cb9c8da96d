"""fusefs gc: give the space of what nothing needs any more back to the disk."""

from typing import Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target

DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]


def gc(target: Target = ".", dry_run: DryRun = False, as_json: Json = False) -> None:
    """Give the space of blocks that nothing needs any more back to the disk.

    A mounted store does so by itself from time to time; this does it now. Segments of which at
    least half is of no use are emptied, and deleted.

    \b
    Example:
      fusefs gc --dry-run ~/mnt
    """
    from fusefs.daemon.surface import reach
    from fusefs.daemon.target import resolve

    with reach(resolve(target).store) as surface:
        record = surface.gc(dry_run)
    if as_json:
        output.as_json(record)
    else:
        freed, moved = output.size(record["freed_bytes"]), output.size(record["moved_bytes"])
        segments = output.counted(record["segments"], "segment", "segments")
        if dry_run:
            output.line(f"would free up to {freed} in {segments}, after moving {moved} of it")
        else:
            output.line(f"freed {freed} in {segments}, after moving {moved} of it")
