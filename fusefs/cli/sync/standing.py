"""fusefs sync status: where each remote stands."""

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.remote.listing import read, standing
from fusefs.cli.sync.draining import Names, Store


def status(target: Store = ".", names: Names = None, as_json: Json = False) -> None:
    """Show where each remote stands: what is behind, since when, the last error, the rate.

    \b
    Example:
      fusefs sync status ~/mnt
    """
    records = read(target, names or [])
    if as_json:
        output.as_json(records)
        return
    output.fields((one["name"], output.printable(standing(one))) for one in records)
