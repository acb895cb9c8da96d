"""fusefs trash restore: take back what was removed."""

import os
from typing import Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json


def restore(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGET] WHAT...",
            help="What to take back: an ID from the list; a path as it was, or as it stands below"
            " .trash; a pattern of paths in quotes. TARGET, a store or mountpoint, comes first"
            " where you are not in it.",
        ),
    ] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="Everything that was removed together with WHAT.")
    ] = False,
    last: Annotated[bool, typer.Option("--last", help="What you removed last.")] = False,
    to: Annotated[
        str | None, typer.Option(metavar="DST", help="Another place; it must not exist.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take something back to where it was, with all that belongs to it.

    Never overwrites. Missing parent directories are made again.

    \b
    Example:
      fusefs trash restore ~/mnt/docs/a.txt
      fusefs trash restore ~/mnt 17 --to ~/mnt/docs/a.old
      fusefs trash restore ~/mnt --last
    """
    from fusefs.cli.failures import fail
    from fusefs.cli.reaching import reach
    from fusefs.cli.trash.wanted import split
    from fusefs.daemon.target import resolve_inner
    from fusefs.errors import UsageError

    place, targets = split(what or [])
    if not targets and not last:
        raise UsageError("nothing to restore was named: give an ID, a path, or --last")
    if to is not None and len(targets) + last > 1:
        raise UsageError("--to makes sense for one thing only: restore the others by themselves")
    destination = None if to is None else resolve_inner(place, to)
    with reach(place.store) as surface:
        answer = surface.ask(
            "trash_restore", targets=targets, is_batch=batch, is_last=last, to=destination
        )
    if as_json:
        output.as_json(answer)
    else:
        for path in answer["restored"]:
            shown = os.path.join(place.mountpoint, path.lstrip("/")) if place.mountpoint else path
            output.line(output.printable(shown))
    fail([(item["what"], item) for item in answer["failed"]], len(answer["restored"]))
