"""Waiting for a condition, always with a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

EVERY_S = 0.1


def until(
    what: str,
    holds: Callable[[], object],
    limit_s: float,
    *,
    every_s: float = EVERY_S,
    said: Callable[[], str] = lambda: "",
) -> float:
    """Looks until the condition holds. Returns the seconds that it took.

    Raises:
        AssertionError: it did not within the limit; quotes what `said` returns.
    """
    started = time.monotonic()
    pause = threading.Event()
    while not holds():
        assert time.monotonic() - started < limit_s, f"not within {limit_s:g} s: {what}\n{said()}"
        pause.wait(every_s)
    return time.monotonic() - started


def watched(holds: Callable[[], object], seconds: float, *, every_s: float = 0.05) -> list[bool]:
    """What the condition said, look after look, for so long: for what must stay so, or must be so now and then."""
    ends = time.monotonic() + seconds
    pause = threading.Event()
    looks = []
    while time.monotonic() < ends:
        looks.append(bool(holds()))
        pause.wait(every_s)
    return looks
