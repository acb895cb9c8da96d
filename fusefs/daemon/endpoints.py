"""What users write for an end of a transfer, as an endpoint."""

import os
from urllib.parse import unquote, urlsplit

from fusefs.errors import BadTransfer, UnknownEndpoint
from fusefs.model import keys
from fusefs.model.transfer import Endpoint, Kind
from fusefs.store.store import Store

STORE = "store"


def parse(
    text: str, path: bytes, secrets: str, what: str, store: Store, mountpoint: bytes | None
) -> Endpoint:
    """The endpoint that `text` stands for::

        store, store:/path     in the filesystem of the store
        NAME, NAME:path        a remote of the store
        scheme://...           any place that remotes.address knows
        a path                 which `path` is in full: in the mount, or any directory

    `what`: source or destination, for messages. Raises UnknownEndpoint, BadTransfer.
    """
    if not text:
        raise BadTransfer(f"{what}: give the store, a remote, a directory or a URL")
    name, _, inner = text.partition(":")
    if "://" in text:
        return _url(text, secrets, what, store)
    if secrets:
        raise BadTransfer(f"{what}: {text} has no use for secrets: they are for URLs")
    if name == STORE:
        return Endpoint(Kind.STORE, path=_inner(inner))
    if "/" not in name and store.get(keys.remote(name)) is not None:
        return Endpoint(Kind.REMOTE, name, _inner(inner))
    if not path.startswith(b"/"):
        raise UnknownEndpoint(
            f"{what}: there is no {text}: it is neither {STORE!r}, nor a remote of the store (see"
            " fusefs remote list), nor a directory"
        )
    if mountpoint and _is_within(path, mountpoint):
        return Endpoint(Kind.STORE, path=path[len(mountpoint) :].strip(b"/"))
    return _directory(path, text, what, store)


def _directory(path: bytes, text: str, what: str, store: Store) -> Endpoint:
    if _is_within(path, os.path.realpath(os.fsencode(store.path))):
        raise BadTransfer(
            f"{what}: {text} is where the store keeps what it has: write store:/PATH for a path in"
            " its filesystem"
        )
    return Endpoint(Kind.DIRECTORY, path=path)


def _is_within(path: bytes, directory: bytes) -> bool:
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")


def _url(text: str, secrets: str, what: str, store: Store) -> Endpoint:
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise BadTransfer(f"{what}: {text} is no URL ({error})") from None
    if parts.password is not None:
        raise BadTransfer(f"{what}: no passwords in URLs: say where they are by --secrets")
    if parts.scheme != "file" or parts.query:
        return Endpoint(Kind.URL, text, secrets=secrets)
    path = os.path.normpath(os.fsencode(unquote(parts.path)))
    if parts.netloc or not path.startswith(b"/"):
        raise BadTransfer(f"{what}: {text} has no absolute path: write it like file:///dir")
    return _directory(path, text, what, store)


def _inner(path: str) -> bytes:
    return os.path.normpath(b"/" + os.fsencode(path)).strip(b"/")
