"""The dots worker: decides for each detected object whether a clickable dot is shown (paper section 7, Table 5).

A group of its own on `objects.<generation>`. Once the index has applied a record, it asks the whole index, all
partitions, about each object, computes the three Flashlight signals and publishes one `DotRecord` with its offsets in
the same transaction. It decides from the catalogue's record: a record that lost to a newer one is passed over, because
the newer one is in the log too and brings its own decision.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consumers.metrics import WorkerMetrics
from consumers.ports import Message, Outcome, Output
from dotstream.clock import Clock
from dotstream.errors import Poison, Retryable
from indexer.reader import Entry, IndexReader, SearchResult
from indexer.records import decode, order_of
from indexer.records_pb2 import DetectedObject, Dot, DotRecord, ObjectRecord
from indexer.signals import Signals, flashlight_signals
from producers.headers import child_traceparent, event_headers, read_traceparent

DOT_TYPE = "dotstream.records.v1.DotRecord"


class NotYetApplied(Retryable):
    """The index has not applied a record that this worker has read; it will."""


@dataclass(frozen=True, slots=True)
class DotSettings:
    """When a dot is shown. The scales of the signals are documented in indexer/signals.py.

    `score_min`: the detector's score, always asked for. `cold_start_objects`: fewer objects than this in the index, and
    the score alone decides, because signals from so few neighbours say nothing.
    """

    neighbours: int = 25
    score_min: float = 0.7
    similarity_min: float = 0.0
    annotation_min: float = 0.0
    conformity_min: float = 0.0
    cold_start_objects: int = 1_000
    apply_limit_s: float = 2.0
    apply_poll_s: float = 0.001
    witnesses: int = 5  # nearest results of each object that are remembered as what the decision rests on


class DotsProcessor:
    """See `consumers.ports.Processor`. Batches of a partition are decided one after the other.

    Args:
        epoch: of the generation; decisions of a later epoch win.
    """

    def __init__(
        self,
        *,
        reader: IndexReader,
        settings: DotSettings,
        generation: str,
        bits: int,
        epoch: int,
        topic: str,
        source: str,
        clock: Clock,
        metrics: WorkerMetrics,
    ) -> None:
        self._reader = reader
        self._settings = settings
        self._generation = generation
        self._bits = bits
        self._epoch = epoch
        self._topic = topic
        self._source = source
        self._clock = clock
        self._metrics = metrics

    def process(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        try:
            self._wait_until_applied(batch)
            return [Outcome(self._outputs(message)) for message in batch]
        finally:
            self._reader.rest()

    def _wait_until_applied(self, batch: Sequence[Message]) -> None:
        needed: dict[int, int] = {}
        for message in batch:
            needed[message.partition] = max(message.offset, needed.get(message.partition, -1))
        started = self._clock.monotonic()
        while behind := _behind(self._reader.refresh(), needed):
            if self._clock.monotonic() - started > self._settings.apply_limit_s:
                raise NotYetApplied(f"the index has still to apply offsets {behind}")
            self._clock.sleep(self._settings.apply_poll_s)
        self._metrics.stage("wait_for_index", self._clock.monotonic() - started)

    def _outputs(self, message: Message) -> tuple[Output, ...]:
        if message.value is None:
            return ()
        try:
            record = decode(message.key, message.value, generation=self._generation, bits=self._bits)
        except Poison:
            return ()  # the index worker dead-letters what cannot be read
        entry = self._reader.pin(record.pin_id)
        if entry is None or order_of(entry.record) > order_of(record):
            return ()
        decided = self._deleted(entry.record) if entry.record.deleted else self._decided(entry)
        if not decided.deleted:
            self._metrics.freshness("dot", decided.decided_at - entry.record.event_time)
        return (self._output(decided, message),)

    def _decided(self, entry: Entry) -> DotRecord:
        record = entry.record
        dots: list[Dot] = []
        witnesses: dict[str, None] = {}
        watermark: Mapping[int, int] = self._reader.watermark
        cold = self._reader.size().objects < self._settings.cold_start_objects
        for found in record.objects:
            result = self._neighbours(record, found)
            watermark = result.watermark
            signals = flashlight_signals(result.hits, self._reader.document_frequency)
            dots.append(self._dot(found, signals, cold=cold))
            witnesses |= dict.fromkeys(h.pin_id for h in itertools.islice(result.hits, self._settings.witnesses))
        return DotRecord(
            pin_id=record.pin_id,
            version=record.version,
            generation=self._generation,
            epoch=self._epoch,
            decision=1,
            dots=dots,
            witnesses=list(witnesses),
            watermark=watermark,
            decided_at=self._clock.now_ms(),
        )

    def _neighbours(self, record: ObjectRecord, found: DetectedObject) -> SearchResult:
        started = self._clock.monotonic()
        result = self._reader.search(
            found.codes[0].bits,
            self._settings.neighbours,
            scope="objects",
            exclude_pins=frozenset([record.pin_id]),
            exclude_sha256=frozenset([record.image_sha256]),
        )
        self._metrics.stage("search", self._clock.monotonic() - started)
        return result

    def _dot(self, found: DetectedObject, signals: Signals, *, cold: bool) -> Dot:
        reasons = self._failed(found, signals, cold=cold)
        shown = not reasons
        if shown:
            reasons = [Dot.REASON_COLD_START if cold else Dot.REASON_SIGNALS]
        return Dot(
            object_index=found.index,
            x=(found.box.x0 + found.box.x1) / 2,
            y=(found.box.y0 + found.box.y1) / 2,
            label=found.label,
            shown=shown,
            similarity=signals.similarity,
            annotation_score=signals.annotation_score,
            category_conformity=signals.category_conformity,
            reasons=reasons,
        )

    def _failed(self, found: DetectedObject, signals: Signals, *, cold: bool) -> list[Dot.Reason]:
        checks = [(found.score >= self._settings.score_min, Dot.REASON_LOW_SCORE)]
        if not cold:
            checks += [
                (signals.similarity >= self._settings.similarity_min, Dot.REASON_LOW_SIMILARITY),
                (signals.annotation_score >= self._settings.annotation_min, Dot.REASON_LOW_ANNOTATION),
                (signals.category_conformity >= self._settings.conformity_min, Dot.REASON_LOW_CONFORMITY),
            ]
        return [reason for passed, reason in checks if not passed]

    def _deleted(self, record: ObjectRecord) -> DotRecord:
        return DotRecord(
            pin_id=record.pin_id,
            version=record.version,
            deleted=True,
            generation=self._generation,
            epoch=self._epoch,
            decision=1,
            watermark=self._reader.watermark,
            decided_at=self._clock.now_ms(),
        )

    def _output(self, decided: DotRecord, message: Message) -> Output:
        headers = event_headers(
            kind="deleted" if decided.deleted else "updated",
            event_id=f"{decided.generation}/{decided.pin_id}/{decided.version}/{decided.epoch}/{decided.decision}",
            source=self._source,
            type=DOT_TYPE,
            time_ms=decided.decided_at,
            traceparent=child_traceparent(read_traceparent(message.headers)),
            subject=decided.pin_id,
        )
        value = decided.SerializeToString(deterministic=True)
        return Output(self._topic, decided.pin_id.encode(), value, tuple(headers))


def _behind(watermark: Mapping[int, int], needed: Mapping[int, int]) -> dict[int, int]:
    return {number: offset for number, offset in needed.items() if watermark.get(number, -1) < offset}
