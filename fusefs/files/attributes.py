"""Extended attributes that are answers about a file, and stored nowhere.

    user.fusefs.state    complete, writing or partial; setting it to ``complete`` says that it is
    user.fusefs.offset   of a file that is not complete: how many bytes from its start are good
    user.fusefs.synced   which remotes have all of it as it is, such as ``usb=yes bucket=no``

Only what was left half-written lists the first two, and nothing the last, so that tools that copy
attributes do not meet them.
"""

from collections.abc import Callable
from errno import EINVAL, ENODATA, EPERM

from fusefs.errors import Refused
from fusefs.files.partials import Partials
from fusefs.model.inode import Inode

STATE, OFFSET, SYNCED = b"user.fusefs.state", b"user.fusefs.offset", b"user.fusefs.synced"
_LISTED = (STATE, OFFSET)
NAMES = (*_LISTED, SYNCED)
COMPLETE = b"complete"


def listed(partials: Partials, ino: int) -> tuple[bytes, ...]:
    """Those that a listing of the file's attributes shows."""
    one = partials.get(ino)
    return _LISTED if one and not one.is_writing else ()


def get(partials: Partials, inode: Inode, name: bytes, synced: Callable[[Inode], bytes]) -> bytes:
    """`synced`: the value of that name, empty where there is none. Raises Refused(ENODATA)."""
    if name == SYNCED:
        if value := synced(inode):
            return value
        raise Refused(ENODATA)
    one = partials.get(inode.ino)
    if not inode.is_file or (one is None and name == OFFSET):
        raise Refused(ENODATA)
    if one is None:
        return COMPLETE
    if name == OFFSET:
        return b"%d" % one.offset
    return b"writing" if one.is_writing else b"partial"


def set_(partials: Partials, inode: Inode, name: bytes, value: bytes) -> None:
    """Raises Refused: EPERM, EINVAL; DiskFull, StoreError."""
    if name != STATE or not inode.is_file:
        raise Refused(EPERM, f"{name.decode()} cannot be set")
    if value != COMPLETE:
        raise Refused(EINVAL, "a file can be said to be complete, and nothing else")
    if inode.ino in partials:
        partials.complete(inode.ino)
