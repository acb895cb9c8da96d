"""fusefs clone: a store anew from a remote."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.progress import bar
from fusefs.cli.remote.where import Secrets

if TYPE_CHECKING:
    from fusefs.model.remote import Remote as Row


def clone(
    url: Annotated[str, typer.Argument(metavar="URL", help="Of the remote, as in remote add.")],
    store: Annotated[str, typer.Argument(metavar="STORE", help="A new or an empty directory.")],
    secrets: Secrets = "",
    remote_name: Annotated[
        str, typer.Option(metavar="NAME", help="For the remote, if not what it was called.")
    ] = "",
    checkpoint: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=1, help="Not the newest one, but this.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a store of what another has published in a remote; it can be mounted at once.

    Names and attributes come now; content comes when it is read, or by 'fusefs fetch'. Interrupted,
    the same command goes on where it was. The store that was published there is refused by the
    remote as soon as this one publishes: use one of both, and read the other with -o ro.

    \b
    Example:
      fusefs clone 's3://bucket/laptop?region=eu-1' ~/store --secrets file:/etc/fusefs/bucket
      fusefs mount ~/store ~/mnt
    """
    from fusefs.base.clock import SystemClock, utc
    from fusefs.daemon.target import real_path
    from fusefs.sync.places import connect
    from fusefs.sync.restore import restore

    row = _row(url, secrets)
    remote = connect(row)
    try:
        with bar("cloning") as on_progress:
            done = restore(
                remote, row, Path(real_path(store)), now_ns=SystemClock().time_ns(),
                name=remote_name, sequence=checkpoint, progress=on_progress,
            )  # fmt: skip
    finally:
        remote.close()
    if as_json:
        output.as_json(
            {
                "uuid": done.uuid,
                "remote": done.remote,
                "checkpoint": done.sequence,
                "published": utc(done.created_ns),
                "rows": done.rows,
                "segments": done.segments,
                "segments_bytes": done.segments_bytes,
                "fetched_bytes": done.fetched_bytes,
            }
        )
        return
    output.line(
        f"{store} is as it was published at {output.moment(utc(done.created_ns))} UTC, checkpoint"
        f" {done.sequence}: {output.size(done.segments_bytes)} in the remote {done.remote}"
    )


def _row(url: str, source: str) -> "Row":
    """What connects to the remote; whether it is encrypted is seen there."""
    from fusefs.model.remote import Remote as Row
    from fusefs.remotes import keyring, secrets
    from fusefs.remotes.address import connect

    remote = connect(url, secrets.read(source, os.environ))
    try:
        return Row(0, url, source, is_encrypted=keyring.is_encrypted(remote))
    finally:
        remote.close()
