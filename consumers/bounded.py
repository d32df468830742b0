"""A limit in time for calls of a client library that may not come back.

librdkafka's `send_offsets_to_transaction` never looks at its own timeout while the group's coordinator is away
(confluentinc/librdkafka issue 5456): a broker that dies at the wrong moment would hold a worker for ever. The call runs
on a thread of its own; when the limit has passed the thread is left behind with its client, and the caller goes on
with new clients, whose first act fences the old ones.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from dotstream.errors import Unavailable

Job = tuple[Future[Any], Callable[[], Any]]


class Overdue(Unavailable):
    """A call did not come back in time. It may still be in progress: whatever it works on must not be used again."""


class BoundedCaller:
    """Runs calls one after the other on a helper thread, which does not keep the process alive.

    One thread calls it. After `Overdue` the next call gets a fresh helper.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job | None] | None = None

    def call(self, work: Callable[[], Any], limit_s: float) -> Any:
        """What `work` returns or raises.

        Raises:
            Overdue: it did not come back within `limit_s` seconds.
        """
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            threading.Thread(target=_serve, args=(self._jobs,), name="bounded", daemon=True).start()
        done: Future[Any] = Future()
        self._jobs.put((done, work))
        try:
            return done.result(limit_s)
        except TimeoutError:
            if done.done():
                return done.result()  # just in time, or the call's own TimeoutError
            self.close()
            raise Overdue(f"a call of the Kafka client did not come back within {limit_s:.0f} s") from None

    def close(self) -> None:
        """Lets the helper end once it is idle."""
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None


def _serve(jobs: queue.SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        done, work = job
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  the caller raises it
            done.set_exception(error)
        del job, done, work  # an idle helper keeps no client alive
