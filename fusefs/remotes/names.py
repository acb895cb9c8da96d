"""Which names objects may have: those that every place for files or objects takes as they are.

The rule stands in `remotes.api`. Every driver asks here first, so that a name which one place
would bend (escape, cut, resolve) is refused by all.
"""

import re

from fusefs.errors import RemoteError
from fusefs.remotes.api import MAX_NAME_BYTES

_PART = "[A-Za-z0-9_-][A-Za-z0-9._-]*"
_NAME = re.compile(f"{_PART}(?:/{_PART})*")


def check_name(name: str) -> str:
    """`name`, if it is one. Raises RemoteError."""
    if len(name) > MAX_NAME_BYTES or not _NAME.fullmatch(name):
        raise RemoteError(
            f"{name[: MAX_NAME_BYTES + 1]!r} is no name for an object: letters, digits, . _ - and "
            f"single slashes, at most {MAX_NAME_BYTES}, no part beginning with a dot"
        )
    return name


def check_prefix(prefix: str) -> str:
    """`prefix`, if it is empty or a name with a slash behind it. Raises RemoteError."""
    if prefix and not (prefix.endswith("/") and _NAME.fullmatch(prefix[:-1])):
        raise RemoteError(f"{prefix!r} is no prefix of names: it is empty or ends with a slash")
    return prefix
