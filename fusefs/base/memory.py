"""How the allocator and the garbage collector are set, for a daemon that moves data.

A buffer of 1 MiB comes with each large request. glibc maps and unmaps such a one each time, or
gives the top of its heap back, and the kernel zeroes every page of it again: 500 to 1000 us for
1 MiB where several are held at once. With its thresholds raised it hands out the pages that it has,
in 70 us. What it keeps so is bounded by those thresholds, in each of its arenas; so there are
two of them, for the loop and for the threads.

Python's cyclic collector walks all objects that live, most of which were made at the start and
stay: 10 to 20 ms in which no request is answered. `settle` takes those out of its sight, and has
it look less often; next to nothing here is garbage in cycles.
"""

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
#: glibc takes no more than this.
_MMAP_FROM_BYTES = 32 << 20
#: What may lie free at the top of the heap: bounds what is kept for nothing.
_TRIM_FROM_BYTES = 64 << 20
_ARENAS = 2
_GC_THRESHOLDS = 10_000, 20, 50


def keep_pages() -> None:
    """Let malloc keep what was freed for the next request; nothing where libc cannot be told."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _MMAP_FROM_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _TRIM_FROM_BYTES)
    mallopt(_M_ARENA_MAX, _ARENAS)


def settle() -> None:
    """Let the garbage collector look past all that there is now, when what stays was made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
