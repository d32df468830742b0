"""Flashlight, object search and Shop-the-Look: from a question to similar things in other pins.

Flashlight (section 7 of the paper) answers with what looks alike, whole pictures and objects together, re-ranked
lightly and without near-copies. Object search (section 8) answers with the scenes that hold a similar object, best
object of each scene, and only when the query holds one. Shop-the-Look is Flashlight over buyable pins with experts'
products first. The formulas and defaults stand together in docs/discovery.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

from discovery.candidates import Candidates, Partial, in_rounds, untimed
from discovery.crops import Crops
from discovery.curated import attached
from discovery.filters import Filters
from discovery.ports import Box, Engagement, Hit, Index, NoEngagement, NoTags, Pictures, Tags
from discovery.rerank import Ranked, Weights, grouped, rerank
from discovery.subjects import Kind, Query, Subject, Subjects
from dotstream.errors import Retryable
from indexer.search import Scope
from indexer.signals import related_annotations

__all__ = ["MAX_K", "Answer", "Asked", "Kind", "Query", "Search"]

SCOPES: Mapping[Kind, Scope] = {"flashlight": "all", "objects": "objects"}
MAX_K = 100
MAX_ANNOTATIONS = 12
POOL = 32
"""Pins that are ranked beyond those wanted, so that re-ranking and grouping have something to choose from."""

Duplicates = Literal["group", "keep"]


@dataclass(frozen=True, slots=True)
class Asked:
    """How a subject is searched.

    Attributes:
        k: results wanted, 1 to `MAX_K`.
        filters: what they must be.
        duplicates: whether near-copies are grouped under the best of them.
    """

    k: int = 10
    filters: Filters = field(default_factory=Filters)
    duplicates: Duplicates = "group"


@dataclass(frozen=True, slots=True)
class Answer:
    """Results, best first and one for each pin; annotations with tf-idf scores; and what it all reflects.

    `partial`: why something that fits may be missing; None when nothing is.
    """

    query: Query
    results: Sequence[Ranked]
    annotations: Sequence[tuple[str, float]]
    generation: str
    watermark: Mapping[int, int]
    partial: Partial | None = None


class Search:
    """Answers questions over index, picture store and models. Thread-safe when they are.

    Args:
        crops: over the models.
        tags, engagement: what experts and people said; without them nothing is curated or boosted.
        limit_s: of the scans of one search.
        timed: a context manager for a stage's time: look, scan, rank, annotate.
    """

    def __init__(
        self,
        index: Index,
        pictures: Pictures,
        crops: Crops,
        *,
        tags: Tags | None = None,
        engagement: Engagement | None = None,
        weights: Weights | None = None,
        limit_s: float = 2.0,
        timed: Callable[[str], AbstractContextManager[object]] = untimed,
    ) -> None:
        self._index = index
        self._tags = tags or NoTags()
        self._engagement = engagement or NoEngagement()
        self._weights = weights or Weights()
        self._limit_s = limit_s
        self._timed = timed
        self.subjects = Subjects(index, pictures, crops, timed)

    def by_pin(self, kind: Kind, pin_id: str, object_index: int | None, box: Box | None, asked: Asked) -> Answer:
        """Searches from a pin: a known object, a drawn box, or (neither) its dominant object or whole picture.

        The pin itself and identical pictures are left out.

        Raises:
            Problem: unknown-pin, deleted-pin, unknown-object, bad-field.
            Poison: the stored picture cannot be decoded. Retryable: index, store or Triton are away.
        """
        self._index.refresh()
        return self.answer(kind, self.subjects.of_pin(kind, pin_id, object_index, box), asked)

    def subject(self, kind: Kind, box: Box | None, *, pin_id: str = "", picture: bytes | None = None) -> Subject:
        """What `answer` searches by a box of a pin or, of an uploaded picture, by a box, its dominant object, or as
        `kind` has it. Asks Triton.

        Raises:
            Problem: unknown-pin, deleted-pin.
            Poison: `picture_*`. Retryable: index, store or Triton are away.
        """
        self._index.refresh()
        if picture is not None:
            return self.subjects.of_picture(kind, picture, box)
        return self.subjects.of_pin(kind, pin_id, None, box)

    def answer(self, kind: Kind, subject: Subject, asked: Asked) -> Answer:
        """The results for a subject, and the annotations that narrow them down."""
        if subject.code is None:
            return Answer(subject.query, (), (), self._index.generation, self._index.refresh())
        found, results = self._found(kind, subject, subject.code, asked)
        with self._timed("annotate"):
            hits = [one.hit for one in results]
            annotations = related_annotations(hits, self._index.document_frequency, MAX_ANNOTATIONS)
            chosen = asked.filters.annotations
            narrowing = [(name, score) for name, score in annotations if name not in chosen]
        return Answer(subject.query, results, narrowing, self._index.generation, found.watermark, found.partial)

    def _found(self, kind: Kind, subject: Subject, code: bytes, asked: Asked) -> tuple[Candidates, Sequence[Ranked]]:
        """Candidates and their ranking; where grouping leaves less than is wanted, those of more candidates."""
        rounds = in_rounds(
            self._index,
            subject,
            code,
            wanted=asked.k + POOL,
            scope=SCOPES[kind],
            filters=asked.filters,
            limit_s=self._limit_s,
            timed=self._timed,
        )
        for found in rounds:
            with self._timed("rank"):
                results = self._ranked(kind, subject, found.hits, asked)
            if len(results) >= asked.k:
                break
        return found, results

    def _ranked(self, kind: Kind, subject: Subject, hits: Sequence[Hit], asked: Asked) -> Sequence[Ranked]:
        weights = self._weights
        if kind == "objects":
            # A scene is wanted for the object in it: what surrounds the query says nothing about that.
            ranked = [Ranked(hit, hit.similarity) for hit in hits]
        else:
            ranked = rerank(hits, subject.record, self._engaged(subject, hits), weights, self._index.document_frequency)
        if asked.filters.curated:
            products = attached(self._index, self._tags, subject, asked.filters)
            taken = {hit.pin_id for hit in products}
            own = [Ranked(hit, 1.0 + hit.similarity, curated=True) for hit in products]
            ranked = own + [one for one in ranked if one.hit.pin_id not in taken]
        if asked.duplicates == "keep":
            return ranked[: asked.k]
        return grouped(ranked, asked.k, weights.near_duplicate)

    def _engaged(self, subject: Subject, hits: Sequence[Hit]) -> Mapping[str, float]:
        """What people did with results of this object before; nothing for a crop that is no known object."""
        record, at = subject.record, subject.known_object
        if record is None or (at is None and subject.query.box is not None):
            return {}
        try:
            return self._engagement.of(record.pin_id, at, [hit.pin_id for hit in hits])
        except Retryable:
            return {}  # a boost is no reason to answer nothing
