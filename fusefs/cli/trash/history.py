"""fusefs trash history: what became of what was removed."""

import os
from typing import Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target
from fusefs.cli.trash.listing import Glob, Mine

_COLUMNS = (
    output.Column("ID", right=True),
    output.Column("TIME (UTC)"),
    output.Column("STATE"),
    output.Column("PATH"),
    output.Column("WHY"),
)


def history(
    target: Target = ".",
    path: Glob = None,
    number: Annotated[
        int | None, typer.Option("--id", metavar="ID", help="Only this entry.")
    ] = None,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="Only what is in it: delete-complete ...")
    ] = None,
    mine: Mine = False,
    as_json: Json = False,
) -> None:
    """Show every change of state of what is or was in the trash.

    \b
    Example:
      fusefs trash history ~/mnt --path docs/a.txt
    """
    from fusefs.cli.reaching import reach
    from fusefs.cli.trash.wanted import pages
    from fusefs.daemon.target import resolve
    from fusefs.errors import UsageError
    from fusefs.model.entry import State

    if state is not None and state not in set(State):
        raise UsageError(f"--state {state} is none; there are {', '.join(State)}")
    with reach(resolve(target).store) as surface:
        entries = list(
            pages(
                surface, "trash_history", path=path and os.fsencode(path), number=number,
                state=state, uid=os.getuid() if mine else None,
            )
        )  # fmt: skip
    if as_json:
        output.as_json(entries)
        return
    output.table(
        _COLUMNS,
        (
            (
                str(entry["id"]),
                output.moment(stamp["time"]),
                stamp["state"],
                output.printable(entry["original_path"]),
                output.printable(stamp["cause"]),
            )
            for entry in entries
            for stamp in entry["history"]
        ),
    )
