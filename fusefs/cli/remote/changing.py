"""fusefs remote set: use a remote in another way."""

from typing import Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.remote.adding import Name, Store


def change(
    target: Store,
    name: Name,
    cost: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=10_000, help="The cheapest is read from first; here is 100."
        ),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="Bandwidth, as in remote add; '' for no limit."),
    ] = None,
    secrets: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Where the secrets are by now; '' for nowhere."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Change the cost of a remote, its bandwidth, or where its secrets are.

    What is not said stays as it is. New secrets are tried at the remote before they are recorded.

    \b
    Example:
      fusefs remote set ~/mnt bucket --cost 50 --limit 1M
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve
    from fusefs.errors import UsageError
    from fusefs.remotes.throttle import Timetable

    said = {"cost": cost, "limit": limit, "secrets": secrets}
    fields = {field: value for field, value in said.items() if value is not None}
    if not fields:
        raise UsageError("say what is to change: --cost, --limit or --secrets")
    if limit:
        Timetable.parse(limit)
    with reach(resolve(target).store) as surface:
        row = surface.ask("remote_row", name=name)
        if secrets is not None:
            _try_out({**row, "secrets": secrets})
        record = surface.ask("remote_change", name=name, **fields)
    if as_json:
        output.as_json(record)


def _try_out(row: dict[str, Any]) -> None:
    """Raises BadRemote, WrongKey and what a remote raises."""
    from fusefs.model.remote import Remote as Row
    from fusefs.sync.layout import check
    from fusefs.sync.places import connect

    remote = connect(Row(**row))
    try:
        check(remote)
    finally:
        remote.close()
