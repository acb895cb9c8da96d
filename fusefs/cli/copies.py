"""fusefs copies: how many copies elsewhere content needs, to go from this disk."""

from typing import Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target


def copies(
    target: Target = ".",
    numcopies: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Copies that are wanted elsewhere.")
    ] = None,
    mincopies: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="So many at least; the larger of both counts."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show or set how many copies in remotes content must have before an eviction may drop it.

    It is never less than one.

    \b
    Example:
      fusefs copies ~/mnt --numcopies 2
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve

    with reach(resolve(target).store) as surface:
        record = surface.ask("copies", numcopies=numcopies, mincopies=mincopies)
    if as_json:
        output.as_json(record)
    else:
        output.fields([(key, str(value)) for key, value in record.items()])
