"""fusefs info: how one file is kept."""

from typing import Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json


def info(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A path below a mount, or a store.")],
    inside: Annotated[
        str | None,
        typer.Argument(metavar="[INSIDE]", help="The path inside, when PATH is a store."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the inode of a path, its extents, and the segments that hold its blocks.

    \b
    Example:
      fusefs info ~/mnt/docs/a.txt
      fusefs info /srv/store docs/a.txt
    """
    from fusefs.daemon.surface import reach
    from fusefs.daemon.target import resolve, resolve_inner

    target = resolve(path)
    inner = target.inner or b"" if inside is None else resolve_inner(target, inside)
    with reach(target.store) as surface:
        record = surface.info(inner)
    if as_json:
        output.as_json(record)
    else:
        _show(record)


def _show(record: dict[str, Any]) -> None:
    extents = record.pop("extents")
    output.record(record)
    if extents:
        output.line("")
        names = list(dict.fromkeys(name for extent in extents for name in extent))
        columns = [output.Column(output.title(name), right=True) for name in names]
        rows = ([output.text(extent.get(name, "")) for name in names] for extent in extents)
        output.table(columns, rows)
