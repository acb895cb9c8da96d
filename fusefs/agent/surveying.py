"""What lies at both ends of a transfer that is asked for: nothing is changed."""

import posixpath
from collections.abc import Iterator

from fusefs.errors import RemoteMissing, UnknownEndpoint
from fusefs.remotes.files import Files
from fusefs.transfers.api import Found, Surveyed


def survey(groups: list[tuple[Files, tuple[bytes, ...]]], target: Files, most: int) -> Surveyed:
    """Look at sources, with what was asked of each, and at the destination; blocks.

    Stops at more than `most` files, which the caller refuses. Raises as `Carrier.survey`.
    """
    try:
        target.check_writable()
    except RemoteMissing as error:
        raise UnknownEndpoint(f"destination: {error}") from error
    found: list[Found] = []
    for number, (source, paths) in enumerate(groups):
        try:
            source.check_readable()
        except RemoteMissing as error:
            missing = str(error).replace(": make it first", "")  # that is for destinations
            raise UnknownEndpoint(f"source: {missing}") from error
        for path in paths:
            for one in _below(number, source, path):
                found.append(one)
                if len(found) > most:
                    return Surveyed(tuple(found))
    return Surveyed(tuple(dict.fromkeys(found)), target.free_bytes(), target.room())


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
        yield Found(number, path, 0, f"does not exist at {source.place}")
