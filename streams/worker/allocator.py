"""The C library's allocator, told to give memory back: glibc's defaults keep what a burst needed for ever.

Each thread gets a heap of its own, and once a large array has been freed, arrays of its size are cut from
those heaps instead of being mapped alone. Between arrays that stay, what is free there remains resident.
"""

import ctypes

# Parameters of mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8

HEAPS = 2
# From this size on an array is a mapping of its own, which is gone when it is freed. To map one and to fault
# its pages in takes a millisecond for every 4 MiB: what is fetched and packed again and again is smaller.
MAPPED_BYTES = 8 << 20
TRIM_BYTES = 16 << 20


def bound_heaps() -> bool:
    """Keep memory that is free to a few heaps; True if the C library can. Before threads are started."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # not glibc: musl gives back by itself
        return False
    wanted = {_ARENA_MAX: HEAPS, _MMAP_THRESHOLD: MAPPED_BYTES, _TRIM_THRESHOLD: TRIM_BYTES}
    return all([mallopt(parameter, value) for parameter, value in wanted.items()])


def give_back() -> None:
    """Return empty heap pages to the system; callable from any thread."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
