"""Where heavy work of the API runs: a few threads, a short queue, and a time limit, so that load cannot pile up.

A search, a decode or a call to Triton blocks; on the event loop it would hold up every other client. A full queue is
answered at once with "come back later" instead of making everyone slow.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Busy(Exception):
    """Too much is waiting already."""


class TooSlow(Exception):
    """The work took longer than allowed. Its thread ends it in its own time; its result is dropped."""


class Workroom:
    """A bounded thread pool.

    Args:
        name: of the room and its threads.
        threads: pieces of work at once.
        waiting: pieces that may wait for a thread.
    """

    def __init__(self, name: str, *, threads: int, waiting: int) -> None:
        self.name = name
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._limit = threads + waiting
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Pieces of work running or waiting."""
        return self._held

    async def run(self, work: Callable[[], T], limit_s: float) -> T:
        """The result of `work()`, run on a thread.

        Raises:
            Busy: the queue is full.
            TooSlow: no result within `limit_s`, waiting included.
        """
        with self._lock:
            if self._held >= self._limit:
                raise Busy
            self._held += 1
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: self._done())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), limit_s)
        except TimeoutError:
            if future.done() and not future.cancelled():
                return future.result()  # it ended while its time was found to be over, or the error is its own
            raise TooSlow from None

    def close(self) -> None:
        """Takes nothing more; waits for what runs."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _done(self) -> None:
        with self._lock:
            self._held -= 1
