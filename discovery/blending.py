"""Lens, second layer: which sources answer, in which ratio, and one diverse list from them (section 8 of the paper).

    source     what it answers                                   runs when                            raw weight
    visual     what looks alike, by Flashlight                   always                               1
    semantic   pins about the query's annotations                confidence >= SEMANTIC_MIN           2 * confidence
    scenes     scenes that hold the query's object               an object scores >= OBJECT_MIN       its score

A ratio is a raw weight's share of those that run and found something. Each place of the answer goes to the source that
is furthest behind its ratio, and within it to the candidate of the greatest marginal relevance,

    MMR(i) = RELEVANCE * (1 - rank(i) / n) - (1 - RELEVANCE) * max over chosen j of likeness(i, j)
    likeness = max(0, 2 * similarity of the whole pictures' codes - 1)

so that near-copies of what is chosen already come late; those within the near-duplicate limit never come, and are named
by the one that they copy. Weights and limits are ours: the paper says that ratios follow the query and that annotation
search is left out at low confidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from discovery.rerank import DUPLICATES_NAMED, Ranked, differing_bits, whole_codes
from discovery.understanding import Understanding

Source = Literal["visual", "semantic", "scenes"]
SOURCES: tuple[Source, ...] = ("visual", "semantic", "scenes")
SEMANTIC_MIN = 0.25
OBJECT_MIN = 0.5
RELEVANCE = 0.7


@dataclass(frozen=True, slots=True)
class Plan:
    """What a source is to do for a query.

    Attributes:
        weight: raw; 0 when it does not run.
        reason: why it runs or does not, for a person.
    """

    source: Source
    weight: float
    reason: str


def plan(known: Understanding) -> list[Plan]:
    """Which sources run for a query and with what raw weight, by the table above."""
    confidence, score = known.confidence, known.object_score
    plans = [Plan("visual", 1.0, "always")]
    if confidence >= SEMANTIC_MIN:
        plans.append(Plan("semantic", 2 * confidence, f"annotation confidence {confidence:.2f}"))
    else:
        plans.append(Plan("semantic", 0.0, f"annotation confidence {confidence:.2f} is below {SEMANTIC_MIN}"))
    if score >= OBJECT_MIN:
        plans.append(Plan("scenes", score, f"an object with score {score:.2f}"))
    else:
        found = f"the best object scores {score:.2f}, below {OBJECT_MIN}" if score else "no object was detected"
        plans.append(Plan("scenes", 0.0, found))
    return plans


def ratios(plans: Sequence[Plan], found: Mapping[Source, Sequence[Ranked]]) -> dict[Source, float]:
    """Source -> share of the answer, over the sources that run and found something; 0 for the others."""
    raw = {each.source: each.weight if found.get(each.source) else 0.0 for each in plans}
    total = sum(raw.values())
    return {source: weight / total if total else 0.0 for source, weight in raw.items()}


@dataclass(frozen=True, slots=True)
class Blended:
    """One result and the source that it is answered for."""

    ranked: Ranked
    source: Source


@dataclass(slots=True)
class _Candidate:
    """A result of a source that may still be chosen."""

    ranked: Ranked
    relevance: float
    code: npt.NDArray[np.uint8]
    likeness: float = 0.0
    copies: list[str] = field(default_factory=list)


def blend(
    found: Mapping[Source, Sequence[Ranked]], shares: Mapping[Source, float], k: int, near_duplicate: float
) -> list[Blended]:
    """The k results of the sources, in their ratios, each pin once and no two near-copies.

    Args:
        found: source -> its results, best first.
        shares: source -> ratio, from `ratios`.
        k: at most so many.
        near_duplicate: share of the bits in which whole pictures differ at most to be near-copies.
    """
    waiting = {source: _candidates(found.get(source, ())) for source in SOURCES}
    taken = dict.fromkeys(SOURCES, 0)
    chosen: list[tuple[_Candidate, Source]] = []
    while len(chosen) < k and any(waiting[source] for source in SOURCES if shares.get(source)):
        source = _due(waiting, shares, taken, len(chosen) + 1)
        best = max(waiting[source], key=lambda one: (_marginal(one), -one.ranked.hit.distance, one.ranked.hit.pin_id))
        chosen.append((best, source))
        taken[source] += 1
        for each in SOURCES:
            waiting[each] = _left(waiting[each], best, near_duplicate)
    return [Blended(_with_copies(one), source) for one, source in chosen]


def _candidates(results: Sequence[Ranked]) -> list[_Candidate]:
    if not results:
        return []
    codes = whole_codes([one.hit.record for one in results])
    n = len(results)
    return [_Candidate(one, 1 - rank / n, code) for rank, (one, code) in enumerate(zip(results, codes, strict=True))]


def _due(
    waiting: Mapping[Source, Sequence[_Candidate]],
    shares: Mapping[Source, float],
    taken: Mapping[Source, int],
    place: int,
) -> Source:
    """The source that is furthest behind its ratio; ties in the order of `SOURCES`."""
    able = [source for source in SOURCES if waiting[source] and shares.get(source)]
    return max(able, key=lambda source: shares[source] * place - taken[source])


def _marginal(one: _Candidate) -> float:
    return RELEVANCE * one.relevance - (1 - RELEVANCE) * one.likeness


def _left(waiting: Sequence[_Candidate], chosen: _Candidate, near_duplicate: float) -> list[_Candidate]:
    """Who may still be chosen, held against the newest choice; its copies are named by it."""
    if not waiting:
        return []
    distances = differing_bits(np.stack([one.code for one in waiting]), chosen.code)
    bits = len(chosen.code) * 8
    record = chosen.ranked.hit.record
    left: list[_Candidate] = []
    for one, distance in zip(waiting, distances.tolist(), strict=True):
        own = one.ranked.hit.record
        if own.pin_id == record.pin_id:
            continue
        if distance <= near_duplicate * bits or own.image_sha256 == record.image_sha256:
            if own.pin_id not in chosen.copies:
                chosen.copies.append(own.pin_id)
            continue
        one.likeness = max(one.likeness, 1 - 2 * distance / bits)
        left.append(one)
    return left


def _with_copies(one: _Candidate) -> Ranked:
    ranked = one.ranked
    copies = tuple(dict.fromkeys((*ranked.duplicates, *one.copies)))[:DUPLICATES_NAMED]
    return Ranked(ranked.hit, ranked.score, ranked.engagement, ranked.curated, copies)
