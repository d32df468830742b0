"""What the re-ranking model sees of a query pin and a candidate (paper, section 6).

| feature | formula for query q and candidate c | range |
| --- | --- | --- |
| co_occurrence | ln(1 + co_occurrence(q, c)), indexer/cooccurrence.py | 0.. |
| board_overlap | shared boards / sqrt(boards of q * boards of c), indexer/cooccurrence.py | 0..1 |
| same_board | 1 when both pins' own board_id is the same and not empty | 0, 1 |
| category_overlap | cosine of the two category vectors | 0..1 |
| annotation_cosine | sum of idf(a)^2 over common a / (|q| |c|), with |x|^2 the sum of idf(a)^2 over those of x | 0..1 |
| visual | 1 - distance / bits of the searched codes of the pictures (fc6-like) | 0..1 |
| visual_missing | 1 when either has no such code; visual is 0 then | 0, 1 |
| class | the same of the first further code that both have of one feature (fc8-like) | 0..1 |
| class_missing | 1 when there is none; class is 0 then | 0, 1 |
| cross:<category> | v_k(q) * visual, for each of up to 32 site categories k | 0..1 |

A category vector v is the pin's weights divided by their sum, entries below a threshold (0.1 unless the model says
otherwise) set to 0, so that it is sparse. idf(a) = ln((1 + N) / (1 + df(a))), N live pins with annotations, df(a) of
them with a. With the paper's variants A and B the query's codes are those of its dominant object; candidates are always
whole pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from indexer.cooccurrence import Together
from indexer.records_pb2 import Code, DetectedObject, ObjectRecord

BASE = (
    "co_occurrence",
    "board_overlap",
    "same_board",
    "category_overlap",
    "annotation_cosine",
    "visual",
    "visual_missing",
    "class",
    "class_missing",
)
CROSS = "cross:"
MAX_CATEGORIES = 32
THRESHOLD = 0.1

Idf = Callable[[Sequence[str]], Mapping[str, float]]
"""Annotations -> idf of each."""
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Side:
    """One pin as features see it.

    Attributes:
        pin_id: its id.
        board_id: the board of its own event.
        categories: its sparse category vector.
        annotations: its keywords.
        code: the searched code of the picture, or of the object that stands for it; empty for none.
        others: feature name -> further codes.
    """

    pin_id: str
    board_id: str
    categories: Mapping[str, float]
    annotations: frozenset[str]
    code: bytes
    others: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Pair:
    """A candidate, with what co-occurrence knows of it and the query; None for one that was found otherwise."""

    side: Side
    together: Together | None = None


def side_of(record: ObjectRecord, threshold: float = THRESHOLD, item: DetectedObject | None = None) -> Side:
    """A record as features see it; `item` is the object whose codes stand for the picture's."""
    codes: Sequence[Code] = record.codes if item is None else item.codes
    return Side(
        record.pin_id,
        record.board_id,
        category_vector(record.category_weights, threshold),
        frozenset(record.annotations),
        codes[0].bits if codes else b"",
        {code.feature: code.bits for code in codes[1:]},
    )


def category_vector(weights: Mapping[str, float], threshold: float) -> dict[str, float]:
    """Weights divided by their sum, those below the threshold left out."""
    total = sum(weights.values())
    if total <= 0:
        return {}
    return {name: weight / total for name, weight in weights.items() if weight / total >= threshold}


def feature_names(categories: Sequence[str]) -> tuple[str, ...]:
    """The columns of `feature_rows` for these categories, at most 32."""
    if len(categories) > MAX_CATEGORIES:
        raise ValueError(f"{len(categories)} categories, {MAX_CATEGORIES} at most")
    return (*BASE, *(CROSS + name for name in categories))


def feature_rows(query: Side, pairs: Sequence[Pair], idf: Idf, categories: Sequence[str]) -> Matrix:
    """The features of candidates, one row each, float64, columns as `feature_names` says."""
    rows = np.zeros((len(pairs), len(feature_names(categories))))
    if not pairs:
        return rows
    sides = [pair.side for pair in pairs]
    visual, missing = _similarities(query.code, [side.code for side in sides])
    classes, class_missing = _class_similarities(query, sides)
    together = [pair.together for pair in pairs]
    rows[:, 0] = [0.0 if one is None else math.log1p(one.weight) for one in together]
    rows[:, 1] = [0.0 if one is None else one.overlap for one in together]
    rows[:, 2] = [bool(query.board_id) and side.board_id == query.board_id for side in sides]
    rows[:, 3] = _cosines(query.categories, [side.categories for side in sides])
    rows[:, 4] = _annotation_cosines(query, sides, idf)
    rows[:, 5], rows[:, 6], rows[:, 7], rows[:, 8] = visual, missing, classes, class_missing
    for column, name in enumerate(categories, len(BASE)):
        rows[:, column] = query.categories.get(name, 0.0) * visual
    return rows


def _similarities(code: bytes, others: Sequence[bytes]) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    """(1 - distance / bits for each, or 0; where there is nothing to compare)."""
    known = np.array([bool(code) and len(other) == len(code) for other in others])
    found = np.zeros(len(others))
    if known.any():
        codes = np.frombuffer(b"".join(o for o, k in zip(others, known, strict=True) if k), np.uint8)
        differing = np.bitwise_xor(codes.reshape(-1, len(code)), np.frombuffer(code, np.uint8))
        found[known] = 1 - np.bitwise_count(differing).sum(axis=1) / (8 * len(code))
    return found, ~known


def _class_similarities(query: Side, sides: Sequence[Side]) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    found, missing = np.zeros(len(sides)), np.ones(len(sides), bool)
    for feature, code in query.others.items():
        values, absent = _similarities(code, [side.others.get(feature, b"") for side in sides])
        take = missing & ~absent
        found[take], missing[take] = values[take], False
    return found, missing


def _annotation_cosines(query: Side, sides: Sequence[Side], idf: Idf) -> list[float]:
    weights = idf(sorted(query.annotations.union(*(side.annotations for side in sides))))
    squares = {name: weight * weight for name, weight in weights.items()}
    own = _total(squares, query.annotations)
    return [
        _quotient(_total(squares, query.annotations & side.annotations), own * _total(squares, side.annotations))
        for side in sides
    ]


def _total(squares: Mapping[str, float], names: Iterable[str]) -> float:
    return sum([squares.get(name, 0.0) for name in names])


def _cosines(one: Mapping[str, float], others: Sequence[Mapping[str, float]]) -> list[float]:
    """Of one sparse vector with each of the others; 0 where one is empty."""
    own = _square(one)
    return [
        _quotient(sum([v * other[name] for name, v in one.items() if name in other]), own * _square(other))
        for other in others
    ]


def _square(vector: Mapping[str, float]) -> float:
    return sum([v * v for v in vector.values()])


def _quotient(product: float, squares: float) -> float:
    return product / math.sqrt(squares) if squares else 0.0
