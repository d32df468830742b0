"""Waits for a condition, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(found: Callable[[], T], limit_s: float = 20) -> T:
    """What `found` returns, once it is true.

    Raises:
        AssertionError: it was not within the limit.
    """
    deadline = time.monotonic() + limit_s
    while True:
        value = found()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {limit_s} s"
        time.sleep(0.01)
