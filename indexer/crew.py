"""The threads that searches share: a search runs on its own thread and on what helpers are free at that moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Unit = TypeVar("Unit")


class Crew:
    """A bounded number of threads, started when they are first needed.

    Args:
        threads: that one search may use, its own included; at least 1. So many less one help all searches together.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"{threads} threads; a search needs at least 1")
        self.threads = threads
        self._helpers = ThreadPoolExecutor(threads - 1, "search") if threads > 1 else None

    def run(self, units: Sequence[Unit], join: Callable[[], Callable[[Unit], None]]) -> None:
        """Does every unit of a piece of work, and returns when all are done.

        Args:
            units: what is to be done, each by one thread.
            join: called by each thread that takes part, gives what does a unit. An exception from it ends the work
                and is raised here.
        """
        left = deque(units)

        def take_part() -> None:
            do: Callable[[Unit], None] | None = None
            try:
                while left:
                    try:
                        unit = left.popleft()
                    except IndexError:
                        return  # another thread took the last one in between
                    do = do or join()
                    do(unit)
            except BaseException:
                left.clear()
                raise

        helpers: list[Future[None]] = []
        if self._helpers is not None:
            helpers = [self._helpers.submit(take_part) for _ in range(min(self.threads, len(units)) - 1)]
        try:
            take_part()
        finally:
            started = [helper for helper in helpers if not helper.cancel()]
            errors = [helper.exception() for helper in started]
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        """Ends the helpers. Not while a search is in progress."""
        if self._helpers is not None:
            self._helpers.shutdown()


ALONE = Crew(1)
"""No helpers."""
