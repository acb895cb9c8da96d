"""fusefs trash: what was removed, and how to get it back."""

import os
from typing import Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target

app = typer.Typer(
    name="trash",
    help="List what was removed, and take it back.",
    no_args_is_help=False,
    rich_markup_mode=None,
)

_COLUMNS = (
    output.Column("ID", right=True),
    output.Column("DELETED (UTC)"),
    output.Column("SIZE", right=True),
    output.Column("KIND"),
    output.Column("BY"),
    output.Column("PATH"),
)


@app.command("list")
def list_entries(target: Target = ".", as_json: Json = False) -> None:
    """List the trash, the newest last.

    \b
    Example:
      fusefs trash list ~/mnt
    """
    from fusefs.daemon.surface import reach
    from fusefs.daemon.target import resolve

    with reach(resolve(target).store) as surface:
        entries = surface.trash_list()
    if as_json:
        output.as_json(entries)
        return
    output.table(
        _COLUMNS,
        (
            (
                str(entry["id"]),
                str(entry["deleted_at"])[:19].replace("T", " "),
                output.size(entry["size"]),
                str(entry["kind"]),
                output.printable(f"{entry['comm']} ({entry['uid']})"),
                output.printable(entry["original_path"]),
            )
            for entry in entries
        ),
    )


@app.command("restore")
def restore(
    target: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="What to take back: its path as it was, or as it stands below .trash."
            " Or a store or mountpoint, with ENTRY.",
        ),
    ],
    entry: Annotated[
        str | None,
        typer.Argument(metavar="[ENTRY]", help="A number from the list, or a path inside."),
    ] = None,
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
    """
    from fusefs.daemon.surface import reach
    from fusefs.daemon.target import resolve, resolve_inner
    from fusefs.errors import UsageError

    place = resolve(target)
    wanted: int | bytes
    if entry is None:
        wanted = place.inner or b""
    else:
        wanted = int(entry) if entry.isdecimal() else resolve_inner(place, entry)
    if wanted == b"":
        raise UsageError(f"{target} alone names no entry: add a number from 'fusefs trash list'")
    destination = None if to is None else resolve_inner(place, to)
    with reach(place.store) as surface:
        restored = surface.trash_restore(wanted, destination)
    if as_json:
        output.as_json(restored)
    else:
        for path in restored["restored"]:
            shown = os.path.join(place.mountpoint, path.lstrip("/")) if place.mountpoint else path
            output.line(output.printable(shown))
