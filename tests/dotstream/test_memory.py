"""The collector leaves alone what was there at the start, and freed memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import ctypes
import psutil
from dotstream.memory import give_back

MB = 1 << 20
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
resident = psutil.Process().memory_info
blocks = [libc.malloc(100_000) for _ in range(640)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
full = resident().rss
for block in blocks[:-1]:  # the last one holds the rest of the heap in place
    libc.free(ctypes.c_void_p(block))
kept = resident().rss
give_back()
print(full - kept < 10 * MB, kept - resident().rss > 50 * MB)
"""


def test_what_the_allocator_keeps_is_given_back() -> None:
    """In a process of its own, whose heap nobody else has used."""
    environment = {"MALLOC_MMAP_THRESHOLD_": str(8 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["True", "True"]


SETTLED = """
import gc
from dotstream.memory import settle

class Loop:
    pass

old = [[n] for n in range(10_000)]
settle()
print(gc.get_freeze_count() > 10_000, len(gc.get_objects()) < 1_000)
new = Loop()
new.loop = new
del new
print(gc.collect() > 0)
"""


def test_the_collector_passes_over_what_is_there_and_still_collects_what_comes() -> None:
    """In a process of its own: nothing takes a settling back."""
    done = subprocess.run([sys.executable, "-c", SETTLED], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["True", "True", "True"]
