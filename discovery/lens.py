"""Lens: from a photograph to a diverse set of results that mean the same (section 8 of the paper).

Query understanding first, then the sources that the query's signals call for, then one blended list. What a source
could not give in its time is left out and said, so that one slow or missing part does not cost the whole answer. Each
source looks until it has as many different pictures as results are wanted, or its bound is reached, which is said too.
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
from discovery.candidates import Partial, in_rounds, nearest_pins, untimed
from discovery.crops import Crops
from discovery.filters import Filters
from discovery.ports import Found, Hit, Index, Sight
from discovery.rerank import Ranked, Weights, grouped
from discovery.subjects import Query, Subject, seen_subject
from discovery.understanding import NEIGHBOURS, OBJECTS, Understanding, understand
from dotstream.errors import Retryable
from indexer.errors import LeaseExpired, SearchTimeout
from indexer.records import top_category
from indexer.records_pb2 import ObjectRecord
from indexer.search import Scope
from indexer.words import POSTINGS, words_of

State = Literal["used", "skipped", "empty", "late", "failed"]
Missing = Partial | Literal["source-missing"]
QUERY_ANNOTATIONS = 5
ABOUT_LIMIT = POSTINGS
"""Pins of annotation search that are looked at. The index reads so many of a word, so that fewer are all there are."""


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

    `partial`: why something that fits may be missing; None when nothing is.
    """

    results: Sequence[Blended]
    known: Understanding
    sources: Sequence[Used]
    watermark: Mapping[int, int]
    partial: Missing | None


@dataclass(frozen=True, slots=True)
class Part:
    """What a source found.

    Attributes:
        results: best first.
        partial: what ended its search before it had enough different results.
        exhausted: there is nothing else that fits.
    """

    results: Sequence[Ranked] = ()
    partial: Partial | None = None
    exhausted: bool = True


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
        known, heard = self._understood(sight, deadline)
        plans = self._plan(known)
        parts, troubles = self._gather(plans, known, k, filters, deadline=deadline)
        found = {source: part.results for source, part in parts.items()}
        shares = blending.ratios(plans, found)
        with self._timed("blend"):
            near, guesses = self._weights.near_duplicate, known.annotations
            results = blending.blend(found, shares, k, near_duplicate=near, guesses=guesses, choice=self._choice)
        sources = [_used(each, shares[each.source], parts, troubles) for each in plans]
        partial = _partial(parts, troubles, heard=heard, short=len(results) < k)
        return LensAnswer(results, known, sources, watermark, partial)

    def _understood(self, sight: Sight, deadline: float) -> tuple[Understanding, bool]:
        """Neighbours of the whole picture and of its objects vote together, each pin at its nearest.

        Objects whose neighbours do not come in time have no vote; then the second value is False.
        """
        hits: list[Hit] = []
        heard = True
        for code in (sight.code, *(seen.code for seen in sight.objects[:OBJECTS])):
            subject = Subject(Query(None, None, None, None, None, True), code)
            try:
                with self._timed("scan"):
                    found = nearest_pins(
                        self._index,
                        subject,
                        code,
                        wanted=NEIGHBOURS,
                        scope="all",
                        filters=Filters(),
                        limit_s=_left(deadline),
                    )
            except SearchTimeout:
                if not hits:
                    raise
                heard = False
                break
            hits += found.hits
            heard &= found.partial != "time-limit"
        hits.sort(key=lambda hit: (hit.distance, hit.pin_id))
        return understand(sight, hits, self._index.document_frequency), heard

    def _gather(
        self, plans: Sequence[Plan], known: Understanding, k: int, filters: Filters, *, deadline: float
    ) -> tuple[dict[Source, Part], dict[Source, State]]:
        """What the sources that are to run found, and those that were late or failed."""
        parts: dict[Source, Part] = {}
        troubles: dict[Source, State] = {}
        for source in (each.source for each in plans if each.weight):
            if time.monotonic() >= deadline:
                troubles[source] = "late"
                continue
            try:
                parts[source] = self._results(source, known, k, filters, deadline=deadline)
            except LeaseExpired:
                raise
            except SearchTimeout:
                troubles[source] = "late"
            except Retryable:
                troubles[source] = "failed"
        return parts, troubles

    def _results(self, source: Source, known: Understanding, k: int, filters: Filters, *, deadline: float) -> Part:
        if source == "semantic":
            with self._timed("words"):
                return self._about(known, k, filters, deadline)
        if source == "visual":
            return self._alike(seen_subject("flashlight", known.sight), k, "all", filters, deadline)
        return self._alike(seen_subject("objects", known.sight), k, "objects", filters, deadline)

    def _alike(self, subject: Subject, k: int, scope: Scope, filters: Filters, deadline: float) -> Part:
        """What is nearest: three times as many as are wanted, more while near-copies leave too few."""
        part = Part()
        if subject.code is None:
            return part
        for found in in_rounds(
            self._index,
            subject,
            subject.code,
            wanted=3 * k,
            scope=scope,
            filters=filters,
            limit_s=_left(deadline),
            timed=self._timed,
        ):
            part = Part([Ranked(hit, hit.similarity) for hit in found.hits], found.partial, found.exhausted)
            if self._differ(part.results, k):
                break
        return part

    def _about(self, known: Understanding, k: int, filters: Filters, deadline: float) -> Part:
        """Annotation search by the words of the most certain guesses, each with its confidence.

        Three times as many as are wanted, more of them looked at while filters or near-copies leave too few.
        """
        words: dict[str, float] = {}
        for guess in sorted(known.annotations, key=lambda each: -each.confidence)[:QUERY_ANNOTATIONS]:
            for word in words_of(guess.annotation):
                words[word] = max(words.get(word, 0.0), guess.confidence)
        wanted = fetch = 3 * k
        while True:
            found = self._index.about(words, fetch)
            hits = [(score, _hit(entry, known.sight.code)) for score, entry in found]
            passing = [Ranked(hit, score) for score, hit in hits if _passes(hit, filters)]
            first = passing[:wanted]
            results = first if self._differ(first, k) else passing
            exhausted = len(found) < fetch
            if exhausted or (len(passing) >= wanted and self._differ(results, k)):
                return Part(results, None, exhausted and len(results) == len(passing))
            if fetch >= ABOUT_LIMIT:
                return Part(results, "candidate-limit", exhausted=False)
            if time.monotonic() >= deadline:
                return Part(results, "time-limit", exhausted=False)
            fetch = min(ABOUT_LIMIT, 4 * fetch)

    def _differ(self, results: Sequence[Ranked], k: int) -> bool:
        """Whether there are k different pictures among these."""
        return len(results) >= k and len(grouped(results, k, self._weights.near_duplicate)) == k


def _left(deadline: float) -> float:
    """Seconds until then, for a search that must have some."""
    return max(0.001, deadline - time.monotonic())


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


def _used(plan: Plan, ratio: float, parts: Mapping[Source, Part], troubles: Mapping[Source, State]) -> Used:
    if plan.source in troubles:
        state = troubles[plan.source]
        return Used(plan.source, state, 0.0, "the time limit passed" if state == "late" else "a part of it is away")
    if not plan.weight:
        return Used(plan.source, "skipped", 0.0, plan.reason)
    part = parts[plan.source]
    if not part.results:
        looked = "it found nothing that passes the filters" + (" among those it looked at" if part.partial else "")
        return Used(plan.source, "empty", 0.0, looked)
    return Used(plan.source, "used", ratio, plan.reason)


def _partial(
    parts: Mapping[Source, Part], troubles: Mapping[Source, State], *, heard: bool, short: bool
) -> Missing | None:
    """The gravest reason why something may be missing. `short`: fewer results than wanted."""
    reasons = {part.partial for part in parts.values()}
    if troubles:
        return "source-missing"
    if not heard or "time-limit" in reasons:
        return "time-limit"
    cut = short and not all(part.exhausted for part in parts.values())
    return "candidate-limit" if cut or "candidate-limit" in reasons else None
