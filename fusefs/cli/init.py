"""fusefs init: make a store."""

from typing import Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.unlocking import KeyFile, PassphraseFile


def init(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A new or an empty directory.")],
    compression: Annotated[
        str, typer.Option(metavar="none|zstd", help="How new blocks are kept.")
    ] = "none",
    mountpoint: Annotated[
        str | None,
        typer.Option(metavar="MNT", help="Where the service fusefs@ mounts it."),
    ] = None,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt the contents of files, see above.")
    ] = False,
    key_file: KeyFile = "",
    passphrase_file: PassphraseFile = "",
    as_json: Json = False,
) -> None:
    """Make a new, empty store.

    A store is a directory that holds everything: blocks, names, trash, history. It may be on any
    local filesystem, and be moved or copied while it is not mounted.

    With --encrypt the contents of all files are encrypted in it, under a key that a passphrase or a
    key file opens; without either nobody can read them again. Not encrypted are names, sizes,
    times, owners, extended attributes, targets of symbolic links, and checksums in records of
    transfers: they stay readable in STORE. Its remotes must be encrypted as well.

    \b
    Example:
      fusefs init /srv/store
      fusefs init --encrypt --key-file /root/fusefs.key /srv/store
      fusefs mount /srv/store ~/mnt
    """
    from fusefs.base.clock import SystemClock, utc
    from fusefs.cli.unlocking import first
    from fusefs.config.options import StoreOptions
    from fusefs.daemon.target import real_path
    from fusefs.errors import UsageError
    from fusefs.store import keyring
    from fusefs.store.store import Store

    if compression not in ("none", "zstd"):
        raise UsageError(f"--compression {compression}: give none or zstd")
    if not encrypt and (key_file or passphrase_file):
        raise UsageError("a key is for an encrypted store: give --encrypt as well")
    path, clock = real_path(store), SystemClock()
    slot = None
    if encrypt:
        slot = keyring.first(first(key_file, passphrase_file), created=utc(clock.time_ns()))
    made = Store.init(
        path,
        StoreOptions("zstd" if compression == "zstd" else "none"),
        clock=clock,
        mountpoint=None if mountpoint is None else str(real_path(mountpoint)),
        slot=slot,
    )
    if as_json:
        output.as_json(
            {"store": str(path), "uuid": made.uuid, "format": made.format,
             "is_encrypted": made.is_encrypted}
        )  # fmt: skip
