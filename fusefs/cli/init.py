"""fusefs init: make a store."""

from typing import Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json


def init(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A new or an empty directory.")],
    compression: Annotated[
        str, typer.Option(metavar="none|zstd", help="How new blocks are kept.")
    ] = "none",
    mountpoint: Annotated[
        str | None,
        typer.Option(metavar="MNT", help="Where the service fusefs@ mounts it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a new, empty store.

    A store is a directory that holds everything: blocks, names, trash, history. It may be on any
    local filesystem, and be moved or copied while it is not mounted.

    \b
    Example:
      fusefs init /srv/store
      fusefs mount /srv/store ~/mnt
    """
    from fusefs.base.clock import SystemClock
    from fusefs.config.options import StoreOptions
    from fusefs.daemon.target import real_path
    from fusefs.errors import UsageError
    from fusefs.store.store import Store

    if compression not in ("none", "zstd"):
        raise UsageError(f"--compression {compression}: give none or zstd")
    path = real_path(store)
    made = Store.init(
        path,
        StoreOptions("zstd" if compression == "zstd" else "none"),
        clock=SystemClock(),
        mountpoint=None if mountpoint is None else str(real_path(mountpoint)),
    )
    if as_json:
        output.as_json({"store": str(path), "uuid": made.uuid, "format": made.format})
