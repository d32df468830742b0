"""Follows topic `generations`, so that a running worker knows of a cut-over or roll-back within a second."""

from __future__ import annotations

import logging
import threading

from consumers.dots import Standing
from dotstream.clock import Clock
from dotstream.errors import Retryable
from indexer.records_pb2 import GenerationRecord
from ops.generations import active_generation
from producers.whole_topic import WholeTopic

log = logging.getLogger(__name__)

LOOK_S = 1.0
READ_MAX = 1_000


class GenerationWatch:
    """Where one generation stands. Any thread may ask; the topic is read at most once in `LOOK_S`.

    Args:
        followed: topic `generations`; closed by who made it.
        record: of the generation, as last known.
        clock: for the time between looks.
    """

    def __init__(self, followed: WholeTopic, record: GenerationRecord, clock: Clock) -> None:
        self._followed = followed
        self._name = record.name
        self._known = {record.name: record}
        self._clock = clock
        self._following = False
        self._look_at = clock.monotonic()
        self._lock = threading.Lock()

    def standing(self) -> Standing:
        """As last known; with the broker away that may be old, and Kafka takes no decisions then either."""
        with self._lock:
            if self._clock.monotonic() >= self._look_at:
                self._look()
                self._look_at = self._clock.monotonic() + LOOK_S
            active = active_generation(self._known)
            own = self._known[self._name]
            return Standing(active is not None and active.name == self._name, own.epoch)

    def _look(self) -> None:
        try:
            if not self._following:
                self._followed.start(self._followed.open().first)
                self._following = True
            records, _ = self._followed.read(READ_MAX, 0.0)
        except Retryable as error:
            self._following = False
            log.info("the generations are as last known: %s", error)
            return
        for logged in records:
            if logged.value is not None:
                record = GenerationRecord.FromString(logged.value)
                self._known[record.name] = record
