"""What happens now, for the clients of `GET /events`: one ring of the latest events that all of them read.

Memory is bounded by the ring, whatever clients do: one that falls behind the ring, or returns with the id of another
process, is told to load anew instead of being sent what it missed. Events are rendered once, not once per client.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass

RESET = "reset"


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its id for `Last-Event-ID`, its kind, and its data as JSON text."""

    id: str
    kind: str
    data: str


class Feed:
    """The ring. `publish` from any thread; readers on event loops.

    Args:
        boot: names this process; part of every id.
        size: events kept.
        clients: readers at once, at most.
    """

    def __init__(self, boot: str, *, size: int = 512, clients: int = 200) -> None:
        self._boot = boot
        self._ring: deque[tuple[int, str, str]] = deque(maxlen=size)
        self._next = 0
        self._limit = clients
        self._lock = threading.Lock()
        self._readers: set[Reader] = set()
        self._closed = False

    @property
    def clients(self) -> int:
        """How many read at present."""
        return len(self._readers)

    @property
    def closed(self) -> bool:
        """Whether the process is going away: readers end."""
        return self._closed

    def publish(self, kind: str, data: str) -> None:
        """Puts an event behind the others and wakes the readers."""
        with self._lock:
            self._ring.append((self._next, kind, data))
            self._next += 1
            readers = list(self._readers)
        for reader in readers:
            reader.wake()

    def skip(self) -> None:
        """Notes that something happened that is not told: a reader from before must load anew."""
        with self._lock:
            self._ring.clear()
            self._next += 1
            readers = list(self._readers)
        for reader in readers:
            reader.wake()

    def open(self, last_id: str | None) -> Reader | None:
        """A reader behind `last_id`, or from now on; None when there are too many already or the feed is closed."""
        with self._lock:
            if self._closed or len(self._readers) >= self._limit:
                return None
            at, missed = self._resume(last_id)
            reader = Reader(self, at, missed, asyncio.get_running_loop())
            self._readers.add(reader)
            return reader

    def close(self) -> None:
        """Ends all readers."""
        with self._lock:
            self._closed = True
            readers = list(self._readers)
        for reader in readers:
            reader.wake()

    def _resume(self, last_id: str | None) -> tuple[int, bool]:
        if last_id is None:
            return self._next, False
        boot, _, number = last_id.rpartition("-")
        if boot != self._boot or not number.isdecimal() or len(number) > 18:
            return self._next, True
        return int(number) + 1, False

    def _after(self, at: int) -> tuple[list[Event], int]:
        """The events from `at` on, or one that says that some of them are gone."""
        with self._lock:
            first = self._ring[0][0] if self._ring else self._next
            if at < first or at > self._next:
                return [Event(self._id(self._next - 1), RESET, "{}")], self._next
            found = [Event(self._id(n), kind, data) for n, kind, data in self._ring if n >= at]
            return found, self._next

    def _id(self, number: int) -> str:
        return f"{self._boot}-{max(0, number)}"

    def _leave(self, reader: Reader) -> None:
        with self._lock:
            self._readers.discard(reader)


class Reader:
    """One client's place in the feed. Belongs to one event loop."""

    def __init__(self, feed: Feed, at: int, missed: bool, loop: asyncio.AbstractEventLoop) -> None:
        self._feed = feed
        self._at = -1 if missed else at
        self._loop = loop
        self._news = asyncio.Event()

    def wake(self) -> None:
        """There may be something new; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:
            # The loop is closed: its server went away and the reader with it.
            self._feed._leave(self)

    async def next(self, wait_s: float) -> list[Event]:
        """The events since the last call; [] when none came within `wait_s` or the feed was closed."""
        self._news.clear()
        events, self._at = self._feed._after(self._at)
        if events or self._feed.closed:
            return events
        try:
            await asyncio.wait_for(self._news.wait(), wait_s)
        except TimeoutError:
            return []
        events, self._at = self._feed._after(self._at)
        return events

    def close(self) -> None:
        """Gives the place back."""
        self._feed._leave(self)
