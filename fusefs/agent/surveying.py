"""What lies at both ends of a transfer that is asked for: nothing is changed."""

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from fusefs.errors import FusefsError, RemoteError, RemoteMissing, UnknownEndpoint
from fusefs.remotes.files import Files
from fusefs.transfers.api import Found, Surveyed


def survey(groups: list[tuple[Files, tuple[bytes, ...]]], target: Files, most: int) -> Surveyed:
    """Look at sources, with what was asked of each, and at the destination; blocks.

    Stops at more than `most` files, which the caller refuses. Raises as `Carrier.survey`.
    """
    with _named("destination"):
        target.check_writable()
    found: list[Found] = []
    for number, (source, paths) in enumerate(groups):
        with _named("source"):
            source.check_readable()
        for path in paths:
            for one in _below(number, source, path):
                found.append(_fitted(one, target))
                if len(found) > most:
                    return Surveyed(tuple(found))
    return Surveyed(tuple(dict.fromkeys(found)), target.free_bytes(), target.room())


@contextmanager
def _named(end: str) -> Iterator[None]:
    """What is wrong with one end names it."""
    try:
        yield
    except RemoteMissing as error:
        said = str(error)
        if end == "source":
            said = said.replace(": make it first", "")
        raise UnknownEndpoint(f"{end}: {said}") from error
    except RemoteError as error:
        raise type(error)(f"{end}: {error}") from error


def _below(number: int, source: Files, path: bytes) -> Iterator[Found]:
    """The file at `path`, or all below it."""
    normal = posixpath.normpath(path) if path else b"."
    normal = b"" if normal == b"." else normal
    if normal and (one := source.look(normal)) is not None:
        yield Found(number, one.path, one.size)
    elif source.has_folder(normal):
        for one in source.walk(normal):
            yield Found(number, one.path, one.size)
    else:
        yield Found(number, path, 0, f"there is no such file or directory at {source.place}")


def _fitted(found: Found, target: Files) -> Found:
    """With what the destination says of it."""
    if found.error:
        return found
    try:
        target.check_fits(found.path, found.size)
    except FusefsError as error:
        return replace(found, unfit=str(error), unfit_kind=type(error).__name__)
    return found
