"""The name of a file until it is complete, and what its source is known by.

The token is the same for every sender of one source to one name, so these join one upload; another
source, or the same one after a change, has another token and a staging file of its own.
"""

import os
import socket
import struct
from functools import lru_cache

from blake3 import blake3

from fusefs.model.extent import BLOCK_SIZE

SUFFIX = b".fusefs-part"
_NAME_MAX = 255
_TOKEN_DIGITS = 16


def token_of(source: bytes, status: os.stat_result, name: bytes, *, is_preserving: bool) -> bytes:
    """32 bytes that stand for this source, as it is now, copied like that to this name."""
    numbers = struct.pack(
        "<QqQQI?", status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino, BLOCK_SIZE,
        is_preserving,
    )  # fmt: skip
    hasher = blake3(numbers)
    directory, own_name = os.path.split(source)
    for part in (_host(), _real(directory, os.getcwdb()), own_name, name):
        hasher.update(struct.pack("<I", len(part)) + part)
    return hasher.digest()


def staged_name(name: bytes, token: bytes) -> bytes:
    """``.NAME.TOKEN.fusefs-part``, of at most 255 bytes."""
    end = b"." + token.hex()[:_TOKEN_DIGITS].encode() + SUFFIX
    return b"." + name[: _NAME_MAX - 1 - len(end)] + end


@lru_cache(maxsize=1)
def _host() -> bytes:
    return socket.gethostname().encode()


@lru_cache(maxsize=1)
def _real(directory: bytes, _current: bytes) -> bytes:
    return os.path.realpath(directory)
