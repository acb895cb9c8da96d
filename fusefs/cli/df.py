"""fusefs df: what the space of a store is used for."""

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target


def df(target: Target = ".", as_json: Json = False) -> None:
    """Show what the space is used for: live files, trash, savings.

    \b
    Example:
      fusefs df ~/mnt
    """
    from fusefs.cli.reaching import reach
    from fusefs.cli.status import space
    from fusefs.daemon.target import resolve

    with reach(resolve(target).store) as surface:
        record = surface.df()
    if as_json:
        output.as_json(record)
    else:
        output.fields(space(record))
