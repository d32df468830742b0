"""Memory that a process has freed and its allocator keeps, given back to the system while nothing else is to be done.

glibc keeps freed memory below the newest block in use for itself. After hours of pictures of all sizes that is tens of
megabytes, spread over every arena, which look like a leak and are none.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Returns the free pages of all arenas to the system; milliseconds. Does nothing where the C library cannot."""
    _trim()(0)


@cache
def _trim() -> Callable[[int], int]:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc
        return lambda _: 0
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return lambda keep: int(trim(keep))
