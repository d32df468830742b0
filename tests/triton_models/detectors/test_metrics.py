"""Precision and recall by hand, and against the COCO API on random scenes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.triton_models.detectors.answers import answer, sample
from triton_models.detectors.coco_ap import average_precision, drawn, evaluated
from triton_models.detectors.dataset import Sample
from triton_models.detectors.labels import LabelMap
from triton_models.detectors.metrics import Answer, best_threshold, matched, qualities
from triton_models.detectors.reach import within_reach

LABELS = LabelMap({"fashion": ("bag",), "vehicles": ("car", "bus")})
BAG, CAR, BUS = 0, 1, 2

# One picture by hand. Objects: a bag, a car. Said, best first: the bag exactly (right), the bag again (wrong: taken),
# a bus where the car is (wrong), a car that overlaps the car by 0.6 (wrong at 0.7, right at 0.5).
TRUTH = sample([(0, 0, 10, 10, BAG), (20, 0, 30, 10, CAR)])
SAID = answer([(0, 0, 10, 10, BAG, 0.9), (0, 0, 10, 9, BAG, 0.8), (20, 0, 30, 10, BUS, 0.7), (20, 0, 30, 6, CAR, 0.6)])


@pytest.mark.parametrize(
    ("iou", "score", "expected"),
    [
        (0.7, 0.5, {"fashion": (1 / 2, 1.0), "vehicles": (0.0, 0.0), "overall": (1 / 4, 1 / 2)}),
        (0.5, 0.5, {"fashion": (1 / 2, 1.0), "vehicles": (1 / 2, 1.0), "overall": (2 / 4, 1.0)}),
        (0.7, 0.85, {"fashion": (1.0, 1.0), "vehicles": (math.nan, 0.0), "overall": (1.0, 1 / 2)}),
    ],
)
def test_a_case_worked_by_hand(iou: float, score: float, expected: dict[str, tuple[float, float]]) -> None:
    found = qualities(matched([TRUTH], [SAID.above(score)], classes=3, iou=iou), LABELS)
    assert list(found) == list(expected)
    for group, one in found.items():
        assert (one.precision.value, one.recall.value) == pytest.approx(expected[group], nan_ok=True)


def test_the_better_detection_chooses_first_and_takes_what_it_overlaps_most() -> None:
    truth = sample([(0, 0, 10, 10, BAG), (1, 0, 11, 10, BAG)])
    said = answer([(1, 0, 11, 10, BAG, 0.9), (1, 0, 11, 10, BAG, 0.8)])
    counts = matched([truth], [said], classes=3, iou=0.7)
    assert (counts.right.sum(), counts.wrong.sum()) == (2, 0)


def test_crowds_are_neither_asked_for_nor_held_against_anybody() -> None:
    truth = sample([(0, 0, 50, 50, BAG)], crowd=[True])
    said = answer([(0, 0, 10, 10, BAG, 0.9), (80, 80, 90, 90, BAG, 0.8)])
    counts = matched([truth], [said], classes=3, iou=0.7)
    assert [part.sum() for part in (counts.right, counts.wrong, counts.objects)] == [0, 1, 0]


def test_intervals_hold_the_value_and_shrink_with_more_pictures() -> None:
    some = [answer([(0, 0, 10, 10, BAG, 0.9)]) if n % 2 else answer([]) for n in range(400)]
    truths = [sample([(0, 0, 10, 10, BAG)])] * 400
    wide, tight = (
        qualities(matched(truths[:n], some[:n], classes=3, iou=0.7), LABELS)["overall"].recall.interval
        for n in (20, 400)
    )
    assert wide[0] < tight[0] < 0.5 < tight[1] < wide[1]


def test_the_best_threshold_is_found() -> None:
    said = answer([(0, 0, 10, 10, BAG, 0.42), (50, 50, 60, 60, BAG, 0.38), (20, 0, 30, 10, CAR, 0.41)])
    assert best_threshold([TRUTH], [said], labels=LABELS, iou=0.7) == 0.4


def random_case(seed: int) -> tuple[list[Sample], list[Answer]]:
    random = np.random.default_rng(seed)
    truths, answers = [], []
    for _ in range(6):
        rows = [
            (*corner, *(corner + random.integers(4, 30, 2)), int(random.integers(3)))
            for corner in random.integers(0, 60, (random.integers(0, 6), 2))
        ]
        truths.append(sample(rows, crowd=[bool(random.random() < 0.15) for _ in rows]))
        said = []
        for x0, y0, x1, y1, label in rows:
            for _ in range(random.integers(0, 3)):
                shift = random.integers(-3, 4, 4)
                wrong = int(random.integers(3)) if random.random() < 0.2 else label
                said.append((x0 + shift[0], y0 + shift[1], x1 + shift[2] + 4, y1 + shift[3] + 4, wrong))
        scores = random.permutation(len(said)) / 100 + 0.1
        answers.append(answer([(*row, float(score)) for row, score in zip(said, scores, strict=True)]))
    return truths, answers


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from((0.5, 0.7)))
def test_counts_are_those_of_the_coco_api(seed: int, iou: float) -> None:
    truths, answers = random_case(seed)
    ours = matched(truths, answers, classes=3, iou=iou)
    evaluation = evaluated(truths, answers, LABELS.names, ious=[iou])
    theirs = np.zeros((3, 6, 3), np.int64)
    whole_range = evaluation.params.areaRng[0]
    for one in evaluation.evalImgs:
        if one is None or list(one["aRng"]) != list(whole_range):
            continue
        live = ~one["dtIgnore"][0].astype(bool)
        hit = one["dtMatches"][0] > 0
        place = (one["image_id"] - 1, one["category_id"] - 1)
        theirs[(0, *place)], theirs[(1, *place)] = (hit & live).sum(), (~hit & live).sum()
        theirs[(2, *place)] = (np.asarray(one["gtIgnore"]) == 0).sum()
    for part, wanted in zip((ours.right, ours.wrong, ours.objects), theirs, strict=True):
        np.testing.assert_array_equal(part, wanted)


def test_average_precision_of_perfect_and_of_no_answers() -> None:
    perfect = [answer([(0, 0, 10, 10, BAG, 0.9), (20, 0, 30, 10, CAR, 0.8)])]
    assert average_precision([TRUTH], perfect, LABELS.names)["AP"].value == pytest.approx(1.0)
    assert average_precision([TRUTH], [answer([])], LABELS.names)["AP50"].value == pytest.approx(0.0)
    assert math.isnan(average_precision([sample([])], perfect, LABELS.names)["AP"].value)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_resampled_figures_are_those_of_the_coco_api_on_repeated_pictures(seed: int) -> None:
    truths, answers = random_case(seed)
    times = np.random.default_rng(seed).integers(0, 3, (4, len(truths)))
    found = drawn(evaluated(truths, answers, LABELS.names), times)
    for draw, row in enumerate(times):
        chosen = np.repeat(np.arange(len(truths)), row)
        repeated = average_precision([truths[n] for n in chosen], [answers[n] for n in chosen], LABELS.names)
        for name, values in found.items():
            assert values[draw] == pytest.approx(repeated[name].value, abs=1e-9, nan_ok=True)


def test_the_interval_of_a_difference_is_that_of_the_same_draws() -> None:
    """The second finds all that the first finds, and every third picture's bag as well: never worse in any draw."""
    truths = [sample([(0, 0, 10, 10, BAG)])] * 90
    right = answer([(0, 0, 10, 10, BAG, 0.9)])
    first = [right if n % 3 == 0 else answer([]) for n in range(90)]
    second = [right if n % 3 != 1 else answer([]) for n in range(90)]
    ours, base = (average_precision(truths, said, LABELS.names)["AP"] for said in (second, first))
    difference = ours.minus(base)
    assert 0.1 < difference.interval[0] < difference.value < difference.interval[1]
    assert difference.value == pytest.approx((67 - 34) / 101)  # marks of recall up to 2/3 and up to 1/3
    assert ours.minus(ours).interval == (0.0, 0.0)


def test_the_reach_of_anchors_by_hand() -> None:
    """Objects of 10 x 10 in a picture of 100 x 100; anchors that overlap the first wholly and the second by half."""
    truth = replace(sample([(0, 0, 10, 10, BAG), (40, 0, 50, 10, CAR)]), width=100, height=100)
    anchors = np.array([[0, 0, 0.1, 0.1], [0.4, 0, 0.5, 0.05], [0.7, 0.7, 1, 1]], np.float32)
    nothing = replace(sample([]), width=100, height=100)
    for iou, expected in ((0.7, 0.5), (0.45, 1.0)):
        found = within_reach(anchors, [truth, nothing], iou)
        assert (found.recall.value, found.objects) == (expected, 2)
