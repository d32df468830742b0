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
from collections.abc import Sequence

from discovery.dot_view import DotView
from discovery.feed import Feed
from discovery.metrics import ApiMetrics
from discovery.ports import Index
from discovery.schemas import of_card
from dotstream.clock import Clock
from dotstream.errors import Fatal, Retryable
from indexer.records_pb2 import DotRecord, ObjectRecord

log = logging.getLogger(__name__)

AT_ONCE = 100
"""Pins, and decisions, announced in one look, the newest; where there are more, clients load anew."""
GOING = 4096
"""Pins that wait for the index to take them out; where there are more, clients load anew."""
SETTLE_S = 0.01
"""Dots that arrive together are announced together."""
SELDOM_S = 1.0
"""Clients are told to load anew, and how many pins there are, at most so often."""


Place = tuple[int, str]
"""(recorded_at, pin_id): where a pin stands among the newest. A new version takes a new place."""


class Announcer:
    """Watches index and dots and publishes cards (a pin with its dots) to the feed.

    Args:
        refresh_s: the longest time between two looks.
    """

    def __init__(
        self, index: Index, dots: DotView, feed: Feed, metrics: ApiMetrics, clock: Clock, *, refresh_s: float
    ) -> None:
        self._index = index
        self._dots = dots
        self._feed = feed
        self._metrics = metrics
        self._clock = clock
        self._refresh_s = refresh_s
        self._seen: OrderedDict[Place, None] = OrderedDict()
        self._floor: Place = (
            -1,
            "",
        )  # below it stands what is no longer among the newest, though deletes may bring it up
        self._going: OrderedDict[str, None] = OrderedDict()  # taken out by their dots, not yet by the index
        self._watermark: dict[int, int] | None = None
        self._pins = -1
        self._unnoticed = 0
        self._missed = False
        self._seldom_at = 0.0
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
            self._announce_dots([*self._going, *changed] if moved else changed)
            self._missed |= self._dots.unnoticed > self._unnoticed
        self._unnoticed = self._dots.unnoticed
        if (now := self._clock.monotonic()) >= self._seldom_at:
            self._seldom_at = now + SELDOM_S
            self._announce_seldom()

    def _note_newest(self) -> None:
        self._missed = False
        self._going.clear()
        self._new()

    def _announce_pins(self) -> None:
        places = self._new()
        self._missed |= len(places) == AT_ONCE
        for found in self._index.pins([pin_id for _, pin_id in reversed(places)]):
            if found is not None and not found.record.deleted:
                card = of_card(found.record, self._dots.get(found.record.pin_id))
                self._feed.publish("pin", card.model_dump_json(exclude_none=True))

    def _announce_dots(self, pin_ids: Sequence[str]) -> None:
        """Tells of all that went, and of the newest decisions. What was taken out goes when the index says so too."""
        cards: list[tuple[ObjectRecord, DotRecord]] = []
        for pin_id in pin_ids:
            found, dots = self._index.pin(pin_id), self._dots.get(pin_id)
            self._going.pop(pin_id, None)
            if found is None or dots is None:
                continue
            if found.record.deleted:
                self._feed.publish("deleted", json.dumps({"pin_id": pin_id}))
            elif not dots.deleted:
                cards.append((found.record, dots))
            elif dots.version >= found.record.version:
                self._going[pin_id] = None
        self._missed |= len(cards) > AT_ONCE or len(self._going) > GOING
        while len(self._going) > GOING:
            self._going.popitem(last=False)
        for record, dots in cards[-AT_ONCE:]:
            self._feed.publish("dots", of_card(record, dots).model_dump_json(exclude_none=True))

    def _announce_seldom(self) -> None:
        if self._missed:
            self._missed = False
            self._feed.skip()
            self._pins = -1  # who loads anew is not told what comes with it
        elif (pins := self._index.size().pins) != self._pins:
            self._pins = pins
            self._feed.publish("size", json.dumps({"pins": pins}))

    def _new(self) -> list[Place]:
        """What came among the newest since the last look, newest first; not what moved up because others went."""
        found = self._index.newest_places(AT_ONCE)
        new = [place for place in found if place >= self._floor and place not in self._seen]
        if len(found) == AT_ONCE:
            self._floor = max(self._floor, found[-1])
        self._seen.update(dict.fromkeys(new))
        while len(self._seen) > 4 * AT_ONCE:
            self._seen.popitem(last=False)
        return new
