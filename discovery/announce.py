"""Tells the event stream what is new: pins as the index takes them in, dots as they are decided.

One thread looks at most every `refresh_s`, or when the dot view wakes it. It also keeps the index reader's lease alive,
so that a takedown never waits for an API that nobody asks anything.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict

from discovery.dot_view import DotView
from discovery.feed import Feed
from discovery.metrics import ApiMetrics
from discovery.ports import Index
from discovery.schemas import of_card
from dotstream.errors import Fatal, Retryable

log = logging.getLogger(__name__)

AT_ONCE = 100
"""Pins announced in one look, the newest; a page shows no more, and a flood must not fill the ring."""
SETTLE_S = 0.01
"""Dots that arrive together are announced together."""


class Announcer:
    """Watches index and dots and publishes cards (a pin with its dots) to the feed.

    Args:
        refresh_s: the longest time between two looks.
    """

    def __init__(self, index: Index, dots: DotView, feed: Feed, metrics: ApiMetrics, *, refresh_s: float) -> None:
        self._index = index
        self._dots = dots
        self._feed = feed
        self._metrics = metrics
        self._refresh_s = refresh_s
        self._seen: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._watermark: dict[int, int] | None = None
        self._news = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.index_ready = False
        dots.wake = self._news.set

    def start(self) -> None:
        """Starts watching."""
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops watching; returns when the thread has ended."""
        self._stop.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._news.wait(self._refresh_s):
                time.sleep(SETTLE_S)
            self._news.clear()
            try:
                self.look()
                self.index_ready = True
            except Retryable as error:
                self._failed(error)
            except Fatal as error:
                self._failed(error)
                self._stop.wait(5.0)
            except Exception:
                self._metrics.index_errors.inc()
                self.index_ready = False
                log.exception("the event stream missed something")
                self._stop.wait(1.0)

    def _failed(self, error: Exception) -> None:
        self._metrics.index_errors.inc()
        if self.index_ready:
            log.warning("the index cannot be read: %s", error)
        self.index_ready = False

    def look(self) -> None:
        """One look: refreshes the index and announces what changed since the last one.

        What nobody listens to is noted as known, and only then said to be skipped: a client that came in between may
        have missed it and loads anew; one that comes later finds it.
        """
        watermark = dict(self._index.refresh())
        moved = watermark != self._watermark
        first = self._watermark is None
        self._watermark = watermark
        changed = self._dots.changed()
        if first or not self._feed.clients:
            if moved or changed:
                self._note_newest()
                self._feed.skip()
        else:
            if moved:
                self._announce_pins()
            for pin_id in changed[-AT_ONCE:]:
                self._announce_dots(pin_id)

    def _note_newest(self) -> None:
        for entry in self._index.newest(AT_ONCE):
            self._is_new(entry.record.pin_id, entry.record.version, entry.record.revision)

    def _announce_pins(self) -> None:
        for entry in reversed(self._index.newest(AT_ONCE)):
            record = entry.record
            if self._is_new(record.pin_id, record.version, record.revision):
                card = of_card(record, self._dots.get(record.pin_id))
                self._feed.publish("pin", card.model_dump_json(exclude_none=True))

    def _announce_dots(self, pin_id: str) -> None:
        found = self._index.pin(pin_id)
        if found is None:
            return
        dots = self._dots.get(pin_id)
        if found.record.deleted:
            self._feed.publish("deleted", json.dumps({"pin_id": pin_id}))
        elif dots is not None and not dots.deleted:
            self._is_new(pin_id, found.record.version, found.record.revision)
            self._feed.publish("dots", of_card(found.record, dots).model_dump_json(exclude_none=True))

    def _is_new(self, pin_id: str, version: int, revision: int) -> bool:
        if self._seen.get(pin_id) == (version, revision):
            return False
        self._seen.pop(pin_id, None)
        self._seen[pin_id] = (version, revision)
        while len(self._seen) > 4 * AT_ONCE:
            self._seen.popitem(last=False)
        return True
