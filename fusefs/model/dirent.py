"""A name in a directory, kept twice: by name for lookup, and by cookie for listing.

A cookie is a place in the listing of a directory, with a number that no other place of the store
ever had. A listing goes on behind the last cookie that it returned, so entries that come and go
meanwhile neither hide others nor show twice. A name that changes inside its directory, or changes
its inode, keeps its place.
"""

from struct import Struct
from typing import NamedTuple

_BY_NAME = Struct("<QIQ")
_BY_COOKIE = Struct("<QI")


class Dirent(NamedTuple):
    """`kind` is the file type bits of the mode (S_IFMT)."""

    ino: int
    kind: int
    cookie: int


def pack(dirent: Dirent) -> bytes:
    return _BY_NAME.pack(*dirent)


def unpack(row: bytes) -> Dirent:
    return Dirent._make(_BY_NAME.unpack(row))


def pack_listed(ino: int, kind: int, name: bytes) -> bytes:
    return _BY_COOKIE.pack(ino, kind) + name


def unpack_listed(row: bytes) -> tuple[int, int, bytes]:
    """(ino, kind, name) of a row in listing order."""
    ino, kind = _BY_COOKIE.unpack_from(row)
    return ino, kind, row[_BY_COOKIE.size :]
