"""Lens: from a photograph to a diverse set of results that mean the same (section 8 of the paper).

Query understanding first, then the sources that the query's signals call for, then one blended list. What a source
could not give in its time is left out and said, so that one slow or missing part does not cost the whole answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import numpy as np

from discovery import blending
from discovery.blending import Blended, Choice, Plan, Source
from discovery.candidates import nearest_pins
from discovery.crops import Crops
from discovery.filters import Filters
from discovery.ports import Found, Hit, Index, Sight
from discovery.rerank import Ranked, Weights
from discovery.search import untimed
from discovery.subjects import Query, Subject, seen_subject
from discovery.understanding import NEIGHBOURS, OBJECTS, Understanding, understand
from dotstream.errors import Retryable
from indexer.errors import LeaseExpired, SearchTimeout
from indexer.records import top_category
from indexer.records_pb2 import ObjectRecord
from indexer.search import Scope
from indexer.words import words_of

State = Literal["used", "skipped", "empty", "late", "failed"]
QUERY_ANNOTATIONS = 5


@dataclass(frozen=True, slots=True)
class Used:
    """What became of a source.

    Attributes:
        state: used; skipped (its signal is low), empty (it found nothing), late or failed (something is missing).
        ratio: its share of the answer.
        reason: why, for a person.
    """

    source: Source
    state: State
    ratio: float
    reason: str


@dataclass(frozen=True, slots=True)
class LensAnswer:
    """Results, what was understood, what became of each source, and what it all reflects.

    `partial`: a source was late or failed.
    """

    results: Sequence[Blended]
    known: Understanding
    sources: Sequence[Used]
    watermark: Mapping[int, int]
    partial: bool


@dataclass(frozen=True, slots=True)
class About:
    """A pin of annotation search as a hit: the code of its whole picture against the query's."""

    pin_id: str
    object_index: int | None
    distance: int
    similarity: float
    record: ObjectRecord


class Lens:
    """Thread-safe when its parts are.

    Args:
        weights: `near_duplicate` is taken from them.
        limit_s: for all sources together; one that would begin later is left out.
        plan: which sources run, and with what raw weight.
        choice: how results are chosen within a source.
        timed: a context manager for a stage's time: look, scan, words, blend.
    """

    def __init__(
        self,
        index: Index,
        crops: Crops,
        *,
        weights: Weights | None = None,
        limit_s: float = 2.0,
        plan: Callable[[Understanding], Sequence[Plan]] = blending.plan,
        choice: Choice | None = None,
        timed: Callable[[str], AbstractContextManager[object]] = untimed,
    ) -> None:
        self._index = index
        self._crops = crops
        self._weights = weights or Weights()
        self._limit_s = limit_s
        self._plan = plan
        self._choice = choice
        self._timed = timed

    def ask(self, picture: bytes, k: int, filters: Filters) -> LensAnswer:
        """The answer to a photograph. Raises as `look` and `answer`."""
        return self.answer(self.look(picture), k, filters)

    def look(self, picture: bytes) -> Sight:
        """What is in a photograph.

        Raises:
            Poison: `picture_*`. Retryable: Triton is away.
        """
        with self._timed("look"):
            return self._crops.sight(picture)

    def answer(self, sight: Sight, k: int, filters: Filters) -> LensAnswer:
        """The answer to what was seen. Raises Retryable when the index is away."""
        watermark = self._index.refresh()
        deadline = time.monotonic() + self._limit_s
        known = self._understood(sight, deadline)
        plans = self._plan(known)
        found, troubles = self._gather(plans, known, 3 * k, filters, deadline=deadline)
        shares = blending.ratios(plans, found)
        with self._timed("blend"):
            near, guesses = self._weights.near_duplicate, known.annotations
            results = blending.blend(found, shares, k, near_duplicate=near, guesses=guesses, choice=self._choice)
        sources = [_used(each, shares[each.source], found, troubles) for each in plans]
        return LensAnswer(results, known, sources, watermark, bool(troubles))

    def _understood(self, sight: Sight, deadline: float) -> Understanding:
        """Neighbours of the whole picture and of its objects vote together, each pin at its nearest.

        Objects whose neighbours do not come in time have no vote.
        """
        hits: list[Hit] = []
        for code in (sight.code, *(seen.code for seen in sight.objects[:OBJECTS])):
            subject = Subject(Query(None, None, None, None, None, True), code)
            try:
                hits += self._nearest(subject, NEIGHBOURS, "all", Filters(), deadline=deadline)
            except SearchTimeout:
                if not hits:
                    raise
                break
        hits.sort(key=lambda hit: (hit.distance, hit.pin_id))
        return understand(sight, hits, self._index.document_frequency)

    def _gather(
        self, plans: Sequence[Plan], known: Understanding, wanted: int, filters: Filters, *, deadline: float
    ) -> tuple[dict[Source, Sequence[Ranked]], dict[Source, State]]:
        """What the sources that are to run found, and those that were late or failed."""
        found: dict[Source, Sequence[Ranked]] = {}
        troubles: dict[Source, State] = {}
        for source in (each.source for each in plans if each.weight):
            if time.monotonic() >= deadline:
                troubles[source] = "late"
                continue
            try:
                found[source] = self._results(source, known, wanted, filters, deadline=deadline)
            except LeaseExpired:
                raise
            except SearchTimeout:
                troubles[source] = "late"
            except Retryable:
                troubles[source] = "failed"
        return found, troubles

    def _results(
        self, source: Source, known: Understanding, wanted: int, filters: Filters, *, deadline: float
    ) -> list[Ranked]:
        if source == "semantic":
            with self._timed("words"):
                return self._about(known, wanted, filters)
        if source == "visual":
            hits = self._nearest(seen_subject("flashlight", known.sight), wanted, "all", filters, deadline=deadline)
        else:
            hits = self._nearest(seen_subject("objects", known.sight), wanted, "objects", filters, deadline=deadline)
        return [Ranked(hit, hit.similarity) for hit in hits]

    def _nearest(self, subject: Subject, wanted: int, scope: Scope, filters: Filters, deadline: float) -> Sequence[Hit]:
        if subject.code is None:
            return []
        left = max(0.001, deadline - time.monotonic())
        with self._timed("scan"):
            return nearest_pins(
                self._index, subject, subject.code, wanted=wanted, scope=scope, filters=filters, limit_s=left
            ).hits

    def _about(self, known: Understanding, wanted: int, filters: Filters) -> list[Ranked]:
        """Annotation search by the words of the most certain guesses, each with its confidence."""
        words: dict[str, float] = {}
        for guess in sorted(known.annotations, key=lambda each: -each.confidence)[:QUERY_ANNOTATIONS]:
            for word in words_of(guess.annotation):
                words[word] = max(words.get(word, 0.0), guess.confidence)
        found = self._index.about(words, 3 * wanted)
        results = [Ranked(_hit(entry, known.sight.code), score) for score, entry in found]
        return [one for one in results if _passes(one.hit, filters)][:wanted]


def _hit(entry: Found, code: bytes) -> About:
    record = entry.record
    own = np.frombuffer(record.codes[0].bits, np.uint8)
    distance = int(np.bitwise_count(own ^ np.frombuffer(code, np.uint8)).sum())
    return About(record.pin_id, None, distance, 1 - distance / (len(code) * 8), record)


def _passes(hit: Hit, filters: Filters) -> bool:
    record = hit.record
    return (
        filters.buyable in {None, record.buyable}
        and filters.category in {None, top_category(record)}
        and filters.passes(hit)
    )


def _used(plan: Plan, ratio: float, found: Mapping[Source, Sequence[Ranked]], troubles: Mapping[Source, State]) -> Used:
    if plan.source in troubles:
        state = troubles[plan.source]
        return Used(plan.source, state, 0.0, "the time limit passed" if state == "late" else "a part of it is away")
    if not plan.weight:
        return Used(plan.source, "skipped", 0.0, plan.reason)
    if not found.get(plan.source):
        return Used(plan.source, "empty", 0.0, "it found nothing that passes the filters")
    return Used(plan.source, "used", ratio, plan.reason)
