"""Which remote is meant: one that a store knows by name, or any by its URL."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fusefs.daemon.surface import Surface
    from fusefs.model.remote import Remote as Row
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


@contextmanager
def connected(surface: "Surface", name: str) -> "Iterator[tuple[Remote, Row]]":
    """A remote as its store uses it, and its row. Raises NoSuchRemote and what connecting does."""
    from fusefs.model.remote import Remote as Row
    from fusefs.sync.places import connect

    row = Row(**surface.ask("remote_row", name=name))
    remote = connect(row)
    try:
        yield remote, row
    finally:
        remote.close()


def _address(where: list[str]) -> tuple[str, str]:
    """The URL of a remote, and where its secrets are as far as a store knows."""
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve
    from fusefs.errors import UsageError

    if len(where) == 1 and "://" in where[0]:
        return where[0], ""
    if len(where) != 2:
        raise UsageError("say which remote: a store or its mountpoint, and NAME; or a URL")
    target, name = where
    with reach(resolve(target).store) as surface:
        row = surface.ask("remote_row", name=name)
    return row["url"], row["secrets"]
