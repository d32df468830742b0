"""Related Pins as they are asked for: candidates, features, ranking (paper, section 6).

    1. Candidates are the pins that people keep on the same boards as the query. Where there are none, the visual
       neighbours of its picture, or of its dominant object, stand in and are marked so.
    2. Their records come from the index. A pin that was deleted or taken down since, or that shows the query's own
       picture, is left out.
    3. The linear model scores them by their features; ties go to the more similar picture, then by pin_id.

While the stores of co-occurrence cannot be read, answers are visual and say so.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from discovery.ports import Found, Hits
from discovery.related.dominant import dominant_object
from discovery.related.features import Pair, feature_rows, side_of
from discovery.related.model import CONTROL, LinearModel, Variant, columns_of
from dotstream.clock import Clock
from dotstream.errors import DotstreamError
from indexer.cooccurrence import Together
from indexer.records_pb2 import DetectedObject, ObjectRecord
from indexer.search import Scope

log = logging.getLogger(__name__)

CANDIDATES = 100
IDF_KEPT_S = 60.0
IDF_MAX = 100_000
Source = Literal["co_occurrence", "visual"]


class Index(Protocol):
    """What is asked of the index."""

    def refresh(self) -> Mapping[int, int]: ...

    def pins(self, pin_ids: Sequence[str]) -> Sequence[Found | None]:
        """The winning records of many pins, deletes included, in their order."""
        ...

    def search(
        self,
        code: bytes,
        k: int,
        *,
        scope: Scope = "all",
        exclude_pins: frozenset[str] = frozenset(),
        exclude_sha256: frozenset[bytes] = frozenset(),
        limit_s: float | None = None,
    ) -> Hits: ...

    def document_frequency(self, annotations: Sequence[str]) -> tuple[int, Mapping[str, int]]: ...


class TogetherSource(Protocol):
    """Co-occurrence: `indexer.cooccurrence.CoOccurrence`."""

    def refresh(self) -> None: ...

    def candidates(self, pin_id: str, now_ms: int, limit: int) -> Sequence[Together]: ...


class NothingTogether:
    """For an API without the stores of saves."""

    def refresh(self) -> None:
        """Nothing to take in."""

    def candidates(self, pin_id: str, now_ms: int, limit: int) -> Sequence[Together]:
        """Nothing."""
        _ = pin_id, now_ms, limit
        return ()


@dataclass(frozen=True, slots=True)
class Related:
    """One related pin.

    Attributes:
        record: of the pin.
        score: of the model.
        together: what co-occurrence knows; None for a visual neighbour.
        features: feature name -> value.
    """

    record: ObjectRecord
    score: float
    together: Together | None
    features: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RelatedAnswer:
    """The related pins of one query, best first.

    Attributes:
        results: at most k.
        source: where all candidates come from.
        dominant: the query's dominant object; None without one.
        variant: which was applied.
        degraded: why co-occurrence could not be asked; empty when it was.
    """

    results: Sequence[Related]
    source: Source
    dominant: DetectedObject | None
    variant: Variant
    degraded: str = ""


class RelatedPins:
    """Answers queries. Thread-safe.

    Args:
        index: a reader of the active generation.
        together: co-occurrence.
        model: what re-ranks; without a trained one the control, which keeps the order of co-occurrence.
        clock: for ages of saves.
        candidates: so many are re-ranked.
        limit_s: of a search for visual neighbours.
    """

    def __init__(
        self,
        index: Index,
        together: TogetherSource,
        clock: Clock,
        *,
        model: LinearModel = CONTROL,
        candidates: int = CANDIDATES,
        limit_s: float | None = None,
    ) -> None:
        self.model = model
        self._index = index
        self._together = together
        self._clock = clock
        self._candidates = candidates
        self._limit_s = limit_s
        self._idf = IdfMemory(index, clock)

    def related(self, query: ObjectRecord, k: int, variant: Variant = Variant.C) -> RelatedAnswer:
        """The k best related pins of a live pin.

        Raises:
            Retryable: the index cannot be asked.
        """
        dominant = dominant_object(query.objects)
        on_object = dominant if variant.on_object else None
        found, degraded = self._kept_together(query)
        source: Source = "co_occurrence" if found else "visual"
        if not found:
            found = self._neighbours(query, on_object)
        ranked = self._ranked(query, found, on_object, k, boosted=variant.boosted and dominant is not None)
        return RelatedAnswer(ranked, source, dominant, variant, degraded)

    def _kept_together(self, query: ObjectRecord) -> tuple[list[tuple[ObjectRecord, Together | None]], str]:
        try:
            self._together.refresh()
            candidates = self._together.candidates(query.pin_id, self._clock.now_ms(), self._candidates)
        except DotstreamError as error:
            log.warning("co-occurrence cannot be asked: %s", error)
            return [], str(error)
        entries = self._index.pins([one.pin_id for one in candidates])
        pairs = zip(entries, candidates, strict=True)
        return [(entry.record, one) for entry, one in pairs if entry is not None and _stands(entry.record, query)], ""

    def _neighbours(
        self, query: ObjectRecord, item: DetectedObject | None
    ) -> list[tuple[ObjectRecord, Together | None]]:
        codes = query.codes if item is None else item.codes
        if not codes:
            return []
        hits = self._index.search(
            codes[0].bits,
            self._candidates,
            scope="images",
            exclude_pins=frozenset([query.pin_id]),
            exclude_sha256=frozenset([query.image_sha256]),
            limit_s=self._limit_s,
        ).hits
        return [(hit.record, None) for hit in hits]

    def _ranked(
        self,
        query: ObjectRecord,
        found: Sequence[tuple[ObjectRecord, Together | None]],
        item: DetectedObject | None,
        k: int,
        *,
        boosted: bool,
    ) -> list[Related]:
        """The k best."""
        model, names = self.model, columns_of(self.model)
        pairs = [Pair(side_of(record, model.threshold), together) for record, together in found]
        rows = feature_rows(side_of(query, model.threshold, item), pairs, self._idf.of, model.categories)
        scores = model.scores(rows, names, boosted=boosted)
        visual = rows[:, names.index("visual")]
        order = sorted(range(len(found)), key=lambda at: (-scores[at], -visual[at], found[at][0].pin_id))
        return [
            Related(found[at][0], float(scores[at]), found[at][1], dict(zip(names, rows[at].tolist(), strict=True)))
            for at in order[:k]
        ]


def _stands(record: ObjectRecord, query: ObjectRecord) -> bool:
    return not record.deleted and record.image_sha256 != query.image_sha256


class IdfMemory:
    """idf of annotations, each kept for a minute: it moves slowly, and a query has hundreds."""

    def __init__(self, index: Index, clock: Clock) -> None:
        self._index = index
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, float] = {}
        self._until = float("-inf")

    def of(self, annotations: Sequence[str]) -> Mapping[str, float]:
        """Idf by annotation, as features.py defines it."""
        with self._lock:
            if self._clock.monotonic() >= self._until or len(self._kept) > IDF_MAX:
                self._kept, self._until = {}, self._clock.monotonic() + IDF_KEPT_S
            kept = self._kept
        new = [name for name in annotations if name not in kept]
        if new:
            documents, frequencies = self._index.document_frequency(new)
            for name in new:
                count = min(documents, frequencies.get(name, 0))
                kept[name] = math.log((1 + documents) / (1 + count))
        return kept
