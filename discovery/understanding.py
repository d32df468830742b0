"""Lens, first layer: what a picture is about (section 8 of the paper, query understanding).

The picture is looked at as the stream looks at pins: objects, codes, salient colours. Its annotations and categories
are those of its visual neighbours, each pin with a vote that grows with its likeness. Over pins with similarities s,

    v(i)          = (max(0, s(i) - FLOOR) / (1 - FLOOR)) ^ 3    a pin no nearer than chance says nothing
    confidence(a) = sum of v over the pins that carry a / (sum of v + PRIOR)                        0..1
    category(c)   = sum of v(i) * share of c in pin i / (sum of v + PRIOR)                          0..1

so that an annotation is certain only when near pins agree, and few weak votes are no certainty. Neighbours are those of
the whole picture and of its most certain objects, because a scene's objects are seldom all in one other scene. Floor,
power and prior are ours, chosen on labelled scenes (docs/results/discovery.md); the paper names the features and no
formula.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from discovery import boxes
from discovery.ports import Hit, Sight
from indexer.signals import DocumentFrequency, by_pin

FLOOR = 0.6
PRIOR = 0.1
POWER = 3
OBJECTS = 4
NEIGHBOURS = 40
MAX_ANNOTATIONS = 12
MAX_CATEGORIES = 8


@dataclass(frozen=True, slots=True)
class Guess:
    """An annotation that the picture probably deserves.

    Attributes:
        confidence: by the formula above, 0..1.
        score: confidence * idf, what guesses are ordered by.
    """

    annotation: str
    confidence: float
    score: float


@dataclass(frozen=True, slots=True)
class Understanding:
    """What is known of a query picture.

    Attributes:
        sight: objects, most certain first, and salient colours.
        dominant: place of the dominant object among the objects; None without one.
        annotations: best first.
        categories: name -> weight, greatest first.
    """

    sight: Sight
    dominant: int | None
    annotations: Sequence[Guess]
    categories: Mapping[str, float]

    @property
    def confidence(self) -> float:
        """Of the most certain annotation; 0 without any."""
        return max((guess.confidence for guess in self.annotations), default=0.0)

    @property
    def object_score(self) -> float:
        """The detector's, of the dominant or else the most certain object; 0 without any."""
        at = self.dominant or 0
        return self.sight.objects[at].score if self.sight.objects else 0.0


def understand(sight: Sight, neighbours: Sequence[Hit], document_frequency: DocumentFrequency) -> Understanding:
    """What a picture is about, from its nearest codes."""
    pins = by_pin(neighbours)
    votes = [(max(0.0, hit.similarity - FLOOR) / (1 - FLOOR)) ** POWER for hit in pins]
    total = sum(votes) + PRIOR
    dominant = boxes.dominant([(seen.box, seen.score) for seen in sight.objects])
    return Understanding(
        sight, dominant, _annotations(pins, votes, total, document_frequency), _categories(pins, votes, total)
    )


def _annotations(
    pins: Sequence[Hit], votes: Sequence[float], total: float, document_frequency: DocumentFrequency
) -> list[Guess]:
    weights: defaultdict[str, float] = defaultdict(float)
    for hit, vote in zip(pins, votes, strict=True):
        for annotation in set(hit.record.annotations) if vote else ():
            weights[annotation] += vote
    if not weights:
        return []
    documents, frequencies = document_frequency(sorted(weights))
    guesses = [
        Guess(name, weight / total, weight / total * _idf(documents, frequencies.get(name, 0)))
        for name, weight in weights.items()
    ]
    return sorted(guesses, key=lambda guess: (-guess.score, guess.annotation))[:MAX_ANNOTATIONS]


def _idf(documents: int, frequency: int) -> float:
    return math.log((1 + documents) / (1 + min(documents, frequency)))


def _categories(pins: Sequence[Hit], votes: Sequence[float], total: float) -> dict[str, float]:
    weights: defaultdict[str, float] = defaultdict(float)
    for hit, vote in zip(pins, votes, strict=True):
        own = hit.record.category_weights
        whole = sum(own.values())
        if whole > 0:
            for name, weight in own.items():
                weights[name] += vote * weight / whole / total
    ranked = sorted(((n, w) for n, w in weights.items() if w > 0), key=lambda each: (-each[1], each[0]))
    return dict(ranked[:MAX_CATEGORIES])
