"""Related Pins as they are asked for: candidates, features, ranking (paper, section 6).

    1. Candidates are the pins that people keep on the same boards as the query. Where none of them stands, the visual
       neighbours of its picture, or of its dominant object, do instead and are marked so; near-copies among these are
       named by the nearest of them.
    2. Their records come from the index. A pin that was deleted or taken down since, or that shows the query's own
       picture, is left out, and the next one that people keep with the query takes its place.
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

from discovery.candidates import Partial, in_rounds
from discovery.filters import Filters
from discovery.ports import Found, Index
from discovery.related.dominant import dominant_object
from discovery.related.features import Pair, feature_rows, side_of
from discovery.related.model import CONTROL, LinearModel, Variant, columns_of
from discovery.rerank import Ranked, Weights, grouped
from discovery.subjects import Query, Subject
from dotstream.clock import Clock
from dotstream.errors import DotstreamError
from indexer.cooccurrence import Together
from indexer.records_pb2 import DetectedObject, ObjectRecord

log = logging.getLogger(__name__)

CANDIDATES = 100
IDF_KEPT_S = 60.0
IDF_MAX = 100_000
Source = Literal["co_occurrence", "visual"]


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
class Candidate:
    """A pin that may be answered, as `Related` describes it."""

    record: ObjectRecord
    together: Together | None = None
    duplicates: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Related:
    """One related pin.

    Attributes:
        record: of the pin.
        score: of the model.
        together: what co-occurrence knows; None for a visual neighbour.
        features: feature name -> value.
        duplicates: of a visual neighbour, pins with nearly the same picture, nearest first.
    """

    record: ObjectRecord
    score: float
    together: Together | None
    features: Mapping[str, float]
    duplicates: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RelatedAnswer:
    """The related pins of one query, best first.

    Attributes:
        results: at most k.
        source: where all candidates come from.
        dominant: the query's dominant object; None without one.
        variant: which was applied.
        degraded: why co-occurrence could not be asked; empty when it was.
        partial: why a visual neighbour that fits may be missing; None when nothing is.
    """

    results: Sequence[Related]
    source: Source
    dominant: DetectedObject | None
    variant: Variant
    degraded: str = ""
    partial: Partial | None = None


class RelatedPins:
    """Answers queries. Thread-safe.

    Args:
        index: a reader of the active generation.
        together: co-occurrence.
        model: what re-ranks; without a trained one the control, which keeps the order of co-occurrence.
        clock: for ages of saves.
        candidates: so many are re-ranked.
        weights: `near_duplicate` is taken from them.
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
        weights: Weights | None = None,
        limit_s: float = 2.0,
    ) -> None:
        self.model = model
        self._index = index
        self._together = together
        self._clock = clock
        self._candidates = candidates
        self._near_duplicate = (weights or Weights()).near_duplicate
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
        partial: Partial | None = None
        if not found:
            found, partial = self._neighbours(query, on_object, k)
        ranked = self._ranked(query, found, on_object, k, boosted=variant.boosted and dominant is not None)
        return RelatedAnswer(ranked, source, dominant, variant, degraded, partial)

    def _kept_together(self, query: ObjectRecord) -> tuple[list[Candidate], str]:
        """The best that stand of all that are kept with the query; the index is asked about each of them once."""
        known: dict[str, Found | None] = {}
        now_ms, limit = self._clock.now_ms(), self._candidates
        while True:
            try:
                if not known:
                    self._together.refresh()
                kept = self._together.candidates(query.pin_id, now_ms, limit)
            except DotstreamError as error:
                log.warning("co-occurrence cannot be asked: %s", error)
                return [], str(error)
            new = [one.pin_id for one in kept if one.pin_id not in known]
            known.update(zip(new, self._index.pins(new), strict=True))
            standing = [
                Candidate(entry.record, one)
                for one in kept
                if (entry := known[one.pin_id]) is not None and _stands(entry.record, query)
            ]
            if len(standing) >= self._candidates or len(kept) < limit:
                return standing[: self._candidates], ""
            limit *= 4

    def _neighbours(
        self, query: ObjectRecord, item: DetectedObject | None, k: int
    ) -> tuple[list[Candidate], Partial | None]:
        """The visual neighbours, near-copies named by the nearest of them, k or more where there are so many."""
        codes = query.codes if item is None else item.codes
        if not codes:
            return [], None
        asked = Query(query.pin_id, None if item is None else item.index, None, None, None, False)
        standing: list[Ranked] = []
        partial: Partial | None = None
        for found in in_rounds(
            self._index,
            Subject(asked, codes[0].bits, query),
            codes[0].bits,
            wanted=self._candidates,
            scope="images",
            filters=Filters(),
            limit_s=self._limit_s,
        ):
            ranked = [Ranked(hit, hit.similarity) for hit in found.hits]
            standing, partial = grouped(ranked, self._candidates, self._near_duplicate), found.partial
            if len(standing) >= k:
                break
        return [Candidate(one.hit.record, None, one.duplicates) for one in standing], partial

    def _ranked(
        self,
        query: ObjectRecord,
        found: Sequence[Candidate],
        item: DetectedObject | None,
        k: int,
        *,
        boosted: bool,
    ) -> list[Related]:
        """The k best."""
        model, names = self.model, columns_of(self.model)
        pairs = [Pair(side_of(one.record, model.threshold), one.together) for one in found]
        rows = feature_rows(side_of(query, model.threshold, item), pairs, self._idf.of, model.categories)
        scores = model.scores(rows, names, boosted=boosted)
        visual = rows[:, names.index("visual")]
        order = sorted(range(len(found)), key=lambda at: (-scores[at], -visual[at], found[at].record.pin_id))
        return [
            Related(
                found[at].record,
                float(scores[at]),
                found[at].together,
                dict(zip(names, rows[at].tolist(), strict=True)),
                found[at].duplicates,
            )
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
