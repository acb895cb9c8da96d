"""Arguments and options that several verbs share."""

from typing import Annotated

import typer

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="The store, its mountpoint, or any path below one; by default where you are.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def seconds(text: str) -> float:
    """A duration such as 90s, 12h, 30d. Raises UsageError."""
    from fusefs.base.units import parse_duration
    from fusefs.errors import UsageError

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(str(error)) from error
