"""fusefs sync pause, resume: whether a remote is sent to."""

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.remote.adding import Store
from fusefs.cli.sync.draining import Names


def pause(target: Store, names: Names = None, as_json: Json = False) -> None:
    """Send nothing to remotes until they are resumed; also over a remount. Reads go on.

    \b
    Example:
      fusefs sync pause ~/mnt bucket
    """
    _change(target, names or [], as_json, is_paused=True)


def resume(target: Store, names: Names = None, as_json: Json = False) -> None:
    """Send to remotes again.

    \b
    Example:
      fusefs sync resume ~/mnt
    """
    _change(target, names or [], as_json, is_paused=False)


def _change(target: str, names: list[str], as_json: bool, *, is_paused: bool) -> None:
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve

    with reach(resolve(target).store) as surface:
        wanted = [one["name"] for one in surface.ask("remotes", names=names)]
        records = [surface.ask("remote_change", name=n, is_paused=is_paused) for n in wanted]
    if as_json:
        output.as_json(records)
