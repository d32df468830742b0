"""The Flashlight signals: hand-worked cases of the documented formulas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from indexer.records_pb2 import ObjectRecord
from indexer.signals import Signals, annotation_scores, category_conformity, flashlight_signals, related_annotations


@dataclass(frozen=True)
class Result:
    pin_id: str
    similarity: float
    record: ObjectRecord


def result(pin_id: str, similarity: float, annotations: Sequence[str] = (), category: str | None = None) -> Result:
    weights = {} if category is None else {category: 0.9, "zzz": 0.1}
    return Result(pin_id, similarity, ObjectRecord(annotations=annotations, category_weights=weights))


FREQUENCIES = {"oak": 9, "chair": 49, "rare": 0}


def frequencies(annotations: Sequence[str]) -> tuple[int, Mapping[str, int]]:
    return 99, {annotation: FREQUENCIES[annotation] for annotation in annotations}


HITS = [
    result("a", 0.9, ["oak", "chair"], "home"),
    result("a", 0.8, ["oak", "chair"], "home"),  # another object of the same pin counts no more
    result("b", 0.6, ["chair"], "home"),
    result("c", 0.5, ["rare"], "garden"),
]


def test_scores_are_those_of_the_formula() -> None:
    scores = annotation_scores(HITS, frequencies)
    assert scores == pytest.approx(
        {
            "oak": 0.9 / 2.0 * math.log(100 / 10),
            "chair": 1.5 / 2.0 * math.log(100 / 50),
            "rare": 0.5 / 2.0 * math.log(100 / 1),
        }
    )


def test_signals_are_the_top_of_each() -> None:
    signals = flashlight_signals(HITS, frequencies)
    assert signals.similarity == 0.9
    assert signals.annotation_score == pytest.approx(0.5 / 2.0 * math.log(100))
    assert signals.category_conformity == pytest.approx(2 / 3)


def test_related_annotations_are_ranked() -> None:
    ranked = related_annotations(HITS, frequencies, 2)
    assert [name for name, _ in ranked] == ["rare", "oak"]


def test_nothing_found_is_nothing_sure() -> None:
    assert flashlight_signals([], frequencies) == Signals(0.0, 0.0, 0.0)
    assert category_conformity([]) == 0.0
    assert related_annotations([], frequencies, 3) == []


def test_pins_without_category_or_annotations_count_against_agreement() -> None:
    hits = [result("a", 0.5, ["oak"], "home"), result("b", 0.5)]
    assert category_conformity(hits) == 0.5
    assert annotation_scores(hits, frequencies)["oak"] == pytest.approx(0.5 * math.log(10))
    assert annotation_scores([result("b", 0.0, ["oak"])], frequencies) == {}


def test_a_frequency_ahead_of_the_count_is_no_negative_score() -> None:
    scores = annotation_scores([result("a", 1.0, ["oak"])], lambda _: (2, {"oak": 5}))
    assert scores == {"oak": 0.0}
