"""Validation of detections: right tensors pass whole, and any broken rule is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_models.outputs import BOX_OVERSHOOT, detections
from triton_models.statuses import BadOutput

LABELS = ["Person", "Chair", "Desk", "Cat"]


@dataclass
class Tensors:
    """The detector's answer for a batch."""

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]


@st.composite
def right(draw: st.DrawFn) -> Tensors:
    """Any answer that keeps every rule."""
    rows, most = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    boxes = np.zeros((rows, most, 4), np.float32)
    labels = np.full((rows, most), -1, np.int32)
    scores = np.zeros((rows, most), np.float32)
    unit = st.floats(0, 1, width=32)
    for row in range(rows):
        count = draw(st.integers(0, most))
        floor = float(np.float32(1e-6))
        scores[row, :count] = sorted(draw(st.lists(st.floats(floor, 1, width=32), min_size=count, max_size=count)))[
            ::-1
        ]
        for place in range(count):
            (x0, x1), (y0, y1) = sorted((draw(unit), draw(unit))), sorted((draw(unit), draw(unit)))
            boxes[row, place] = x0, y0, x1, y1
            labels[row, place] = draw(st.integers(0, len(LABELS) - 1))
    return Tensors(boxes, labels, scores)


def check(tensors: Tensors) -> list[Any]:
    return detections("model", tensors.boxes, tensors.labels, tensors.scores, LABELS)


@settings(deadline=None)
@given(right())
def test_right_answers_pass_unchanged_without_their_padding(tensors: Tensors) -> None:
    for row, one in enumerate(check(tensors)):
        count = int((tensors.labels[row] >= 0).sum())
        np.testing.assert_array_equal(one.boxes, tensors.boxes[row, :count])
        np.testing.assert_array_equal(one.scores, tensors.scores[row, :count])
        assert one.labels == [LABELS[index] for index in tensors.labels[row, :count]]


@settings(deadline=None)
@given(right(), st.data())
def test_one_wrong_value_anywhere_is_found(tensors: Tensors, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(tensors.labels) - 1))
    place = data.draw(st.integers(0, tensors.labels.shape[1] - 1))
    live = bool(tensors.labels[row, place] >= 0)
    corner = data.draw(st.integers(0, 3))
    never = st.sampled_from([np.nan, np.inf, -np.inf])
    wrong_box = (
        st.one_of(never, st.floats(1 + 2 * BOX_OVERSHOOT, 1e6), st.floats(-1e6, -2 * BOX_OVERSHOOT)) if live else never
    )
    where = data.draw(st.sampled_from(["box", "score", "label"]))
    if where == "box":
        tensors.boxes[row, place, corner] = data.draw(wrong_box)
    elif where == "score":
        flipped = st.just(0.0 if live else 0.5)
        tensors.scores[row, place] = data.draw(st.one_of(never, st.sampled_from([-0.1, 1.1]), flipped))
    else:
        flipped = st.just(-1 if live else 0)
        tensors.labels[row, place] = data.draw(st.one_of(st.sampled_from([-2, len(LABELS), 1 << 30]), flipped))
    with pytest.raises(BadOutput):
        check(tensors)


@settings(deadline=None)
@given(right(), st.floats(0, BOX_OVERSHOOT * 0.99), st.booleans())
def test_a_tiny_overshoot_is_cut_at_the_edge(tensors: Tensors, overshoot: float, low: bool) -> None:
    edge = -overshoot if low else 1 + overshoot
    tensors.boxes[..., :2] = edge if low else tensors.boxes[..., :2]
    tensors.boxes[..., 2:] = tensors.boxes[..., 2:] if low else edge
    for one in check(tensors):
        assert ((one.boxes >= 0) & (one.boxes <= 1)).all()


@settings(deadline=None)
@given(right())
def test_swapped_corners_are_found(tensors: Tensors) -> None:
    boxes = tensors.boxes
    inverted = (boxes[..., 0] < boxes[..., 2]) & (tensors.labels >= 0)
    tensors.boxes = boxes[..., [2, 1, 0, 3]]
    if inverted.any():
        with pytest.raises(BadOutput, match="x0 > x1"):
            check(tensors)
    else:
        check(tensors)


@settings(deadline=None)
@given(right())
def test_rising_scores_are_found(tensors: Tensors) -> None:
    tensors.scores = np.ascontiguousarray(tensors.scores[:, ::-1])
    tensors.labels = np.ascontiguousarray(tensors.labels[:, ::-1])
    falling = (tensors.scores[:, :-1] >= tensors.scores[:, 1:]).all()
    if not falling:
        with pytest.raises(BadOutput):
            check(tensors)
    else:
        check(tensors)
