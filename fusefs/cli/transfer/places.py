"""What the ends of a transfer are, as they are typed, and which store is to do it."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fusefs.daemon.client import Client
    from fusefs.daemon.target import Target

Id = Annotated[str, typer.Argument(metavar="ID", help="The id, as create and list print it.")]


def end(text: str, secrets: str = "") -> dict[str, Any]:
    """An end as the daemon takes it; a path in full, be there one or not."""
    from fusefs.cli.places import split_store
    from fusefs.daemon.target import real_path

    if split := split_store(text):
        return {"text": f"store:/{split[1]}", "path": b"", "secrets": secrets}
    path = b"" if "://" in text else os.fsencode(real_path(text))
    name = text.partition(":")[0]
    is_bare = "/" not in name and name not in (".", "..") and not os.path.isdir(text)
    return {"text": text, "path": b"" if is_bare else path, "secrets": secrets}


def store_of(ends: Iterable[str], target: str | None) -> "Target":
    """The store that is to do it: that of `target`, or of the first end in a mount, or where we
    are.

    Raises NotMounted.
    """
    from fusefs.cli.places import split_store
    from fusefs.daemon.target import resolve
    from fusefs.errors import NotMounted

    if target is not None:
        return resolve(target)
    for text in ends:
        split = split_store(text)
        if "://" in text or (split is None and "/" not in text and not os.path.isdir(text)):
            continue
        try:
            return resolve(split[0] if split else text)
        except NotMounted:
            continue
    try:
        return resolve(".")
    except NotMounted:
        raise NotMounted(
            "neither end is in a mounted store: say by --in which is to do it"
        ) from None


def ask_running(place: "Target") -> "Client":
    """A client of the daemon that does the transfers of a store. Raises NotRunning."""
    from fusefs.daemon.client import Client
    from fusefs.errors import NotRunning

    client = Client.connect(place.store)
    if client is None:
        raise NotRunning(f"{place.store} is not mounted, so nothing is transferred: mount it first")
    return client
