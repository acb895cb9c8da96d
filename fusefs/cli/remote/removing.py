"""fusefs remote remove: forget a remote."""

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.remote.adding import Name, Store


def remove(target: Store, name: Name, as_json: Json = False) -> None:
    """Forget a remote. What is stored there stays there.

    \b
    Example:
      fusefs remote remove ~/mnt usb
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve

    with reach(resolve(target).store) as surface:
        record = surface.ask("remote_remove", name=name)
    if as_json:
        output.as_json(record)
