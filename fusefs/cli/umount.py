"""fusefs umount: unmount, and return when everything is durable."""

from typing import TYPE_CHECKING, Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json

if TYPE_CHECKING:
    from pathlib import Path

    from fusefs.daemon.client import Client

#: The daemon has at most its dirty limit to write; a slow disk may take minutes for it.
DRAIN_TIMEOUT_S = 600.0


def umount(
    path: Annotated[
        str, typer.Argument(metavar="MNT", help="The mountpoint, a path below it, or the store.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Cut off programs that still use it.")
    ] = False,
    flush: Annotated[
        bool, typer.Option("--flush", help="First bring everything into the remotes.")
    ] = False,
    timeout: Annotated[
        str, typer.Option(metavar="AGE", help="With --flush: for so long, such as 10m.")
    ] = "10m",
    as_json: Json = False,
) -> None:
    """Unmount; when this returns everything is durable.

    Also clears the mount that a dead daemon has left. With --flush it stays mounted when a remote
    does not answer, or not in time: what lacks follows with any later mount as well.

    \b
    Example:
      fusefs umount ~/mnt
      fusefs umount --flush --timeout 1h ~/mnt
    """
    from fusefs.cli.arguments import seconds
    from fusefs.daemon.mountpoint import unmount
    from fusefs.daemon.target import resolve
    from fusefs.daemon.writer import wait_until_released, writer_of
    from fusefs.errors import NotMounted

    limit_s = seconds(timeout)
    target = resolve(path, "there is nothing to unmount")
    if target.mountpoint is None:
        raise NotMounted(f"{target.store} is not mounted: there is nothing to unmount")
    pid = writer_of(target.store)
    if flush and pid is not None:
        _drain(target.store, target.mountpoint, limit_s)
    if pid is None:
        unmount(target.mountpoint, lazy=True)
    else:
        _ask_and_unmount(target.store, target.mountpoint, force)
        if force or _was_last(target.store):
            wait_until_released(target.store, pid, DRAIN_TIMEOUT_S)
    if as_json:
        output.as_json(
            {
                "store": str(target.store),
                "mountpoint": str(target.mountpoint),
                "was_dead": pid is None,
            }
        )


def _drain(store: "Path", mountpoint: "Path", timeout_s: float) -> None:
    from fusefs.cli.progress import bar
    from fusefs.cli.reaching import reach
    from fusefs.cli.sync.draining import drain
    from fusefs.errors import RemoteError

    with reach(store) as surface, bar("syncing") as on_progress:
        try:
            drain(surface, [], timeout_s, on_progress)
        except RemoteError as error:
            text = f"{mountpoint} stays mounted, as not all is in its remotes: {error}"
            raise type(error)(text) from error


def _ask_and_unmount(store: "Path", mountpoint: "Path", force: bool) -> None:
    from fusefs.daemon.client import Client
    from fusefs.errors import DaemonFailed

    client = Client.connect(store)
    if client is None:
        raise DaemonFailed(
            f"the daemon of {mountpoint} does not answer: wait if it has just been stopped,"
            f" or end it and run 'fusefs umount {mountpoint}' again"
        )
    with client:
        client.status()  # a daemon that hangs shows it here, and soon
        if force:
            client.stop()
        else:
            client.flush()
            _unmount(client, mountpoint)


def _unmount(client: "Client", mountpoint: "Path") -> None:
    """Unmount; transfers that use the mount rest for it, until the next mount if it works."""
    from fusefs.daemon.mountpoint import unmount
    from fusefs.errors import FusefsError, MountpointBusy, NotRunning

    try:
        unmount(mountpoint)
    except MountpointBusy as busy:
        try:
            client.ask("transfer_stop")
        except NotRunning:
            raise busy from None
        try:
            unmount(mountpoint)
        except FusefsError:
            client.ask("transfer_start")
            raise


def _was_last(store: "Path") -> bool:
    """Whether no bind mount keeps the filesystem alive."""
    from fusefs.daemon.mounttable import MountTable

    return next(MountTable.read().of_store(store), None) is None
