"""Which remote is meant: one that a store knows by name, or any by its URL."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fusefs.remotes.api import Remote
    from fusefs.remotes.secrets import Secrets as Known

Where = Annotated[
    list[str],
    typer.Argument(metavar="MNT NAME | URL", help="A remote of a store, or where any is."),
]
Secrets = Annotated[
    str,
    typer.Option(
        metavar="SOURCE",
        help="Where the secrets are: file:/path, env:PREFIX or credential:NAME.",
        show_default=False,
    ),
]


@contextmanager
def reached(where: list[str], source: str) -> "Iterator[tuple[Remote, Known]]":
    """The raw remote, and its secrets. Raises UsageError, NoSuchRemote, BadRemote, NotMounted."""
    from fusefs.remotes import address
    from fusefs.remotes.secrets import read

    url, its_source = _address(where)
    known = read(source or its_source, os.environ)
    remote = address.connect(url, known)
    try:
        yield remote, known
    finally:
        remote.close()


def _address(where: list[str]) -> tuple[str, str]:
    """The URL of a remote, and where its secrets are as far as a store knows."""
    from fusefs.daemon.surface import reach
    from fusefs.daemon.target import resolve
    from fusefs.errors import NoSuchRemote, UsageError

    if len(where) == 1 and "://" in where[0]:
        return where[0], ""
    if len(where) != 2:
        raise UsageError("say which remote: a store or its mountpoint, and NAME; or a URL")
    target, name = where
    with reach(resolve(target).store) as surface:
        row = surface.ask("remote_row", name=name)
    if row is None:
        raise NoSuchRemote(f"{target} has no remote {name}: see 'fusefs remote list {target}'")
    return row["url"], row["secrets"]
