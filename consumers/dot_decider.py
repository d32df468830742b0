"""Decides the dots of one pin from its record in the index: what the live records and the decisions anew share.

For each detected object the whole index, all partitions, is asked for its neighbours; the three Flashlight signals
follow from them (indexer/signals.py), and the rule says whether the dot is shown (indexer/dot_rule.py).

The number of a decision is `revision * 65536 + n`: n is 1 for the record's own decision and rises when it is decided
anew, so that a record with objects from crops, which has a greater revision at the same version, wins over every
decision on the record before it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from consumers.metrics import WorkerMetrics
from consumers.ports import Headers, Output
from dotstream.clock import Clock
from indexer.dot_rule import DotRule
from indexer.reader import Entry, IndexReader, SearchResult
from indexer.records_pb2 import DetectedObject, Dot, DotRecord, ObjectRecord
from indexer.signals import Signals, flashlight_signals
from producers.headers import child_traceparent, event_headers, read_traceparent

DOT_TYPE = "dotstream.records.v1.DotRecord"
DECISIONS_PER_REVISION = 65_536
MAX_REVISION = 2**31 // DECISIONS_PER_REVISION - 1


@dataclass(frozen=True, slots=True)
class DotSettings:
    """How dots are decided.

    Attributes:
        rule: when a dot is shown.
        neighbours: results of which the signals are made.
        cold_start_objects: fewer objects than this in the index, and the score alone decides, because signals from so
            few neighbours say nothing.
        witnesses: nearest results of each object that are remembered as what the decision rests on.
    """

    rule: DotRule = field(default_factory=DotRule)
    neighbours: int = 25
    cold_start_objects: int = 1_000
    witnesses: int = 5


class DotDecider:
    """Decides over a refreshed reader, whose lease it keeps. Not thread-safe beyond what the reader is."""

    def __init__(
        self, reader: IndexReader, settings: DotSettings, *, generation: str, clock: Clock, metrics: WorkerMetrics
    ) -> None:
        self._reader = reader
        self._settings = settings
        self._generation = generation
        self._clock = clock
        self._metrics = metrics

    def decide(self, entry: Entry, *, epoch: int, decision: int | None = None) -> DotRecord:
        """The dots of a pin as the index has it; for a deleted one the record that takes them away.

        Args:
            entry: the pin's winning record.
            epoch: of the generation; decisions of a later epoch win.
            decision: its number; None for the record's own, the first of its revision.
        """
        record = entry.record
        decided = DotRecord(
            pin_id=record.pin_id,
            version=record.version,
            deleted=record.deleted,
            generation=self._generation,
            epoch=epoch,
            decision=first_decision(record.revision) if decision is None else decision,
            watermark=self._reader.watermark,
            index_objects=self._reader.size().objects,
            decided_at=self._clock.now_ms(),
        )
        if not record.deleted:
            self._put_dots(record, decided)
        return decided

    def _put_dots(self, record: ObjectRecord, decided: DotRecord) -> None:
        cold = decided.index_objects < self._settings.cold_start_objects
        witnesses: dict[str, None] = {}
        for found in record.objects:
            result = self.neighbours(record, found)
            decided.watermark.update(result.watermark)
            signals = flashlight_signals(result.hits, self._reader.document_frequency)
            decided.dots.append(self._dot(found, signals, cold=cold))
            witnesses |= dict.fromkeys(h.pin_id for h in itertools.islice(result.hits, self._settings.witnesses))
        decided.witnesses.extend(witnesses)

    def neighbours(self, record: ObjectRecord, found: DetectedObject) -> SearchResult:
        """What visual search answers for an object of a pin: the results of which its signals are made.

        A batch of many searches in a large index takes longer than the reader's lease: it is kept meanwhile.
        """
        self._reader.keep()
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
        reasons = self._settings.rule.failed(found.score, None if cold else signals)
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


def first_decision(revision: int) -> int:
    """The number of the decision that an object record of this revision brings with it."""
    return min(revision, MAX_REVISION) * DECISIONS_PER_REVISION + 1


def dot_output(decided: DotRecord, *, topic: str, source: str, headers: Headers = ()) -> Output:
    """The output that carries a decision.

    Args:
        decided: the decision.
        topic: `dots`.
        source: who emits, a URI reference.
        headers: of the record that brought it about; its trace goes on.
    """
    own = event_headers(
        kind="deleted" if decided.deleted else "updated",
        event_id=f"{decided.generation}/{decided.pin_id}/{decided.version}/{decided.epoch}/{decided.decision}",
        source=source,
        type=DOT_TYPE,
        time_ms=decided.decided_at,
        traceparent=child_traceparent(read_traceparent(headers)),
        subject=decided.pin_id,
    )
    return Output(topic, decided.pin_id.encode(), decided.SerializeToString(deterministic=True), tuple(own))
