"""fusefs whereis: on this disk, or in which remotes."""

from typing import Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json

_COLUMNS = (
    output.Column("SEGMENT"),
    output.Column("BYTES", right=True),
    output.Column("HERE"),
    output.Column("REMOTES (cost)"),
)


def whereis(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file or directory in a mount.")],
    as_json: Json = False,
) -> None:
    """Say where the content of a file, or of all files below a directory, lies.

    \b
    Example:
      fusefs whereis ~/mnt/videos/party.mkv
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve

    place = resolve(path)
    with reach(place.store) as surface:
        record = surface.ask("whereis", path=place.inner or b"")
    if as_json:
        output.as_json(record)
        return
    here, size = output.size(record["here_bytes"]), output.size(record["bytes"])
    cached = sum(min(one["cached_bytes"], one["bytes"]) for one in record["segments"])
    also = f", {output.size(cached)} in the cache" if cached else ""
    output.line(f"{output.printable(record['path'])}: {here} of {size} here{also}")
    output.table(_COLUMNS, (_row(one) for one in record["segments"]))


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    cached = f"no, {output.size(one['cached_bytes'])} cached" if one["cached_bytes"] else "no"
    copies = ", ".join(f"{copy['remote']} ({copy['cost']})" for copy in one["copies"])
    size = output.size(one["bytes"])
    return one["segment"], size, "yes" if one["is_here"] else cached, copies or "none"
