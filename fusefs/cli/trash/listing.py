"""fusefs trash list: what was removed."""

import os
from typing import Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target

_COLUMNS = (
    output.Column("ID", right=True),
    output.Column("DELETED (UTC)"),
    output.Column("EXPIRES"),
    output.Column("SIZE", right=True),
    output.Column("KIND"),
    output.Column("BY"),
    output.Column("STATE"),
    output.Column("PATH"),
)

Mine = Annotated[bool, typer.Option("--mine", help="Only what you removed.")]
Glob = Annotated[
    str | None,
    typer.Option("--path", metavar="GLOB", help="Only paths like this: '*.txt', 'docs/**'."),
]


def list_entries(
    target: Target = ".",
    is_each: Annotated[
        bool, typer.Option("--all", "-a", help="A line for each entry, not for each removal.")
    ] = False,
    path: Glob = None,
    mine: Mine = False,
    as_json: Json = False,
) -> None:
    """List the trash, the newest last. What was removed in one go is one line.

    \b
    Example:
      fusefs trash list ~/mnt
      fusefs trash list ~/mnt --all --path 'docs/*.txt'
    """
    from fusefs.cli.reaching import reach
    from fusefs.cli.trash.wanted import pages
    from fusefs.daemon.target import resolve

    with reach(resolve(target).store) as surface:
        entries = list(
            pages(
                surface, "trash_list", is_each=is_each, path=path and os.fsencode(path),
                uid=os.getuid() if mine else None,
            )
        )  # fmt: skip
    if as_json:
        output.as_json(entries)
    else:
        output.table(_COLUMNS, map(_row, entries))


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    count = entry["entries"]
    kind = entry["kind"] if count == 1 else f"{entry['kind']}, {count} entries"
    state = entry["state"].removeprefix("delete-")
    return (
        str(entry["id"]),
        output.moment(entry["deleted_at"]),
        output.moment(entry["purge_at"]) if entry["purge_at"] else "never",
        output.size(entry["size"]),
        kind,
        output.printable(f"{entry['comm']} ({entry['uid']})"),
        output.printable(f"{state}: {entry['error']}" if entry["error"] else state),
        output.printable(entry["original_path"]),
    )
