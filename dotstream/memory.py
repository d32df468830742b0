"""Memory of processes that run for long: pauses of Python's collector, and freed memory that the allocator keeps.

Modules, routes and compiled code are some 100,000 objects that live as long as the process. Python's collector walks
over all of them whenever it has seen enough new ones, for a tenth of a second in which nothing else runs.

glibc keeps freed memory below the newest block in use for itself. After hours of pictures of all sizes that is tens of
megabytes, spread over every arena, which look like a leak and are none.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from functools import cache


def settle() -> None:
    """Has the collector pass over everything that is there: to be called once, when a process begins its work."""
    gc.collect()
    gc.freeze()


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
