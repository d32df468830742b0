"""The Flashlight signals of a list of results (paper section 7): pure functions over hits.

A detection deserves a dot when visual search answers it with confidence. The three signals, in the paper's order:

    similarity           of the nearest result: 1 - Hamming distance / bits, 0..1 (the paper gives the distance)
    annotation score     the best tf-idf score among the results' annotations
    category conformity  the largest share of one category among the results, 0..1

Results are counted by pin: a pin that was found by several of its codes counts once, at its nearest. Over the n pins
with similarities s, the score of an annotation a is

    tf(a)  = sum of s over the pins that carry a / sum of s over all n pins            (0..1)
    idf(a) = ln((1 + N) / (1 + df(a)))       N live pins with annotations, df(a) of them carrying a
    score  = tf(a) * idf(a)                                                            (0..ln(1 + N))

so that it grows with agreement among the nearest pins and with the rarity of the word. It is normalised by n, and its
scale differs from the paper's unpublished one, in which the threshold was 1000.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from indexer.records import top_category
from indexer.records_pb2 import ObjectRecord


class Result(Protocol):
    """What a signal needs of a hit."""

    @property
    def pin_id(self) -> str: ...
    @property
    def similarity(self) -> float: ...
    @property
    def record(self) -> ObjectRecord: ...


DocumentFrequency = Callable[[Sequence[str]], tuple[int, Mapping[str, int]]]
"""Annotations -> (N, annotation -> df); `IndexReader.document_frequency` and `Shard.document_frequency` are such."""

AnyResult = TypeVar("AnyResult", bound=Result)


@dataclass(frozen=True, slots=True)
class Signals:
    """The three signals of one query; all 0 without results.

    Attributes:
        similarity: of the nearest result.
        annotation_score: of the best annotation.
        category_conformity: the largest share of one category.
    """

    similarity: float
    annotation_score: float
    category_conformity: float


def flashlight_signals(hits: Sequence[Result], document_frequency: DocumentFrequency) -> Signals:
    """The signals of a query's hits, nearest first."""
    if not hits:
        return Signals(0.0, 0.0, 0.0)
    scores = annotation_scores(hits, document_frequency)
    return Signals(hits[0].similarity, max(scores.values(), default=0.0), category_conformity(hits))


def by_pin(hits: Sequence[AnyResult]) -> list[AnyResult]:
    """The hits with each pin once, at its nearest; the order stays."""
    nearest: dict[str, AnyResult] = {}
    for hit in hits:
        nearest.setdefault(hit.pin_id, hit)
    return list(nearest.values())


def annotation_scores(hits: Sequence[Result], document_frequency: DocumentFrequency) -> dict[str, float]:
    """The tf-idf score of every annotation among the hits, by the formula above."""
    pins = by_pin(hits)
    total = sum(hit.similarity for hit in pins)
    weights: defaultdict[str, float] = defaultdict(float)
    for hit in pins:
        for annotation in set(hit.record.annotations):
            weights[annotation] += hit.similarity
    if not weights or total <= 0:
        return {}
    documents, frequencies = document_frequency(sorted(weights))
    return {
        annotation: weight / total * math.log((1 + documents) / (1 + min(documents, frequencies.get(annotation, 0))))
        for annotation, weight in weights.items()
    }


def related_annotations(
    hits: Sequence[Result], document_frequency: DocumentFrequency, n: int
) -> list[tuple[str, float]]:
    """The n best annotations of the hits with their scores, best first, ties by name."""
    scores = annotation_scores(hits, document_frequency)
    return sorted(scores.items(), key=lambda each: (-each[1], each[0]))[:n]


def category_conformity(hits: Sequence[Result]) -> float:
    """The largest share of one category among the pins found; a pin without one belongs to none but counts."""
    pins = by_pin(hits)
    counted = Counter(name for hit in pins if (name := top_category(hit.record)) is not None)
    return max(counted.values(), default=0) / len(pins) if pins else 0.0
