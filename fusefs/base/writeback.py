"""Having the kernel begin to write a file to the disk early, so that a sync finds little left.

sync_file_range(2), with the flag that only begins: it makes nothing durable and takes no error away
from the fdatasync that will. Python's os module has none.
"""

import ctypes
from collections.abc import Callable

_WRITE = 2  # SYNC_FILE_RANGE_WRITE


def _libc_call() -> Callable[[int, int, int, int], int] | None:
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


_sync_file_range = _libc_call()


def begin(descriptor: int, offset: int, size: int) -> None:
    """Begin to write `size` bytes from `offset`; may wait for the disk's queue, so best in a
    thread.

    What fails is ignored: whoever syncs is told.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, offset, size, _WRITE)
