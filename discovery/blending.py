"""Lens, second layer: which sources answer, in which ratio, and one diverse list from them (section 8 of the paper).

    source     what it answers                        runs when                         raw weight
    visual     what looks alike, by Flashlight        always                            1
    semantic   pins about the query's annotations     confidence >= SEMANTIC_MIN        min(1, 2 * confidence)
    scenes     scenes that hold the query's object    an object scores >= OBJECT_MIN    min(1, 2 * its score)

A ratio is a raw weight's share of those that run and found something. Each place of the answer goes to the source that
is furthest behind its ratio, and within it to the candidate of the greatest marginal relevance,

    MMR(i) = rank * (1 - rank(i) / n) - likeness * max over chosen j of likeness(i, j) + agreement * A(i) + news * N(i)
    likeness = max(0, 2 * similarity of the whole pictures' codes - 1)
    A(i)     = the greatest confidence(a) of the annotations a that pin i carries                      0..1
    N(i)     = sum over them of confidence(a) / 2^(chosen pins that carry a), over sum of confidence   0..1

with the weights of `Choice` and the query's annotations as understanding.py guesses them. So a pin that is about what
the picture is about comes before one that only looks like it, what is not shown yet before what is (as in xQuAD:
Santos, Macdonald and Ounis, 2010), and near-copies of what is chosen already late; those within the near-duplicate
limit never come, and are named by the one that they copy. Weights and limits are ours: the paper says that ratios
follow the query and that annotation search is left out at low confidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from discovery.rerank import DUPLICATES_NAMED, Ranked, differing_bits, whole_codes
from discovery.understanding import Guess, Understanding

Source = Literal["visual", "semantic", "scenes"]
SOURCES: tuple[Source, ...] = ("visual", "semantic", "scenes")
SEMANTIC_MIN = 0.25
OBJECT_MIN = 0.3


@dataclass(frozen=True, slots=True)
class Choice:
    """How much each part of the marginal relevance counts; chosen on validation scenes (docs/results/discovery.md).

    Attributes:
        rank: the candidate's place in its source.
        likeness: to what is chosen already.
        agreement: with what the picture is about.
        news: of what it is about, as far as that is not shown yet.
    """

    rank: float = 0.7
    likeness: float = 0.3
    agreement: float = 1.0
    news: float = 2.0


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
        plans.append(Plan("semantic", min(1.0, 2 * confidence), f"annotation confidence {confidence:.2f}"))
    else:
        plans.append(Plan("semantic", 0.0, f"annotation confidence {confidence:.2f} is below {SEMANTIC_MIN}"))
    if score >= OBJECT_MIN:
        plans.append(Plan("scenes", min(1.0, 2 * score), f"an object with score {score:.2f}"))
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
    about: tuple[str, ...]
    agreement: float
    likeness: float = 0.0
    copies: list[str] = field(default_factory=list)


def blend(
    found: Mapping[Source, Sequence[Ranked]],
    shares: Mapping[Source, float],
    k: int,
    *,
    near_duplicate: float,
    guesses: Sequence[Guess] = (),
    choice: Choice | None = None,
) -> list[Blended]:
    """The k results of the sources, in their ratios, each pin once and no two near-copies.

    Args:
        found: source -> its results, best first.
        shares: source -> ratio, from `ratios`.
        k: at most so many.
        near_duplicate: share of the bits in which whole pictures differ at most to be near-copies.
        guesses: what the query is about.
        choice: weights within a source.
    """
    choice = choice or Choice()
    left = {guess.annotation: guess.confidence for guess in guesses}
    total = sum(left.values()) or 1.0
    waiting = {source: _candidates(found.get(source, ()), dict(left)) for source in SOURCES}

    def marginal(one: _Candidate) -> tuple[float, int, str]:
        news = sum(left[name] for name in one.about) / total
        alike = choice.rank * one.relevance - choice.likeness * one.likeness
        return (
            alike + choice.agreement * one.agreement + choice.news * news,
            -one.ranked.hit.distance,
            one.ranked.hit.pin_id,
        )

    taken = dict.fromkeys(SOURCES, 0)
    chosen: list[tuple[_Candidate, Source]] = []
    while len(chosen) < k and any(waiting[source] for source in SOURCES if shares.get(source)):
        source = _due(waiting, shares, taken, len(chosen) + 1)
        best = max(waiting[source], key=marginal)
        chosen.append((best, source))
        taken[source] += 1
        for name in best.about:
            left[name] /= 2
        for each in SOURCES:
            waiting[each] = _left(waiting[each], best, near_duplicate)
    return [Blended(_with_copies(one), source) for one, source in chosen]


def _candidates(results: Sequence[Ranked], confidence: Mapping[str, float]) -> list[_Candidate]:
    if not results:
        return []
    codes = whole_codes([one.hit.record for one in results])
    candidates: list[_Candidate] = []
    for rank, (one, code) in enumerate(zip(results, codes, strict=True)):
        carried = set(one.hit.record.annotations)
        about = tuple(name for name in confidence if name in carried)
        agreement = max((confidence[name] for name in about), default=0.0)
        candidates.append(_Candidate(one, 1 - rank / len(results), code, about, agreement))
    return candidates


def _due(
    waiting: Mapping[Source, Sequence[_Candidate]],
    shares: Mapping[Source, float],
    taken: Mapping[Source, int],
    place: int,
) -> Source:
    """The source that is furthest behind its ratio; ties in the order of `SOURCES`."""
    able = [source for source in SOURCES if waiting[source] and shares.get(source)]
    return max(able, key=lambda source: shares[source] * place - taken[source])


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
