"""Boxes of composited scenes, against a reading of the finished picture's colours."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_models.data.backgrounds import background
from triton_models.data.compose import MAX_HIDDEN, MIN_BOX_SIDE, box_of, compose
from triton_models.data.seeds import generator

DARK = np.zeros((160, 200, 3), np.uint8)


def shape(channel: int, kind: str) -> np.ndarray:
    """An opaque figure in one pure colour: a bar, an ellipse or a triangle, cut to its extent."""
    rows, columns = np.mgrid[0:60, 0:90]
    inside = {
        "bar": np.ones((60, 90), bool),
        "ellipse": ((rows - 29.5) / 30) ** 2 + ((columns - 44.5) / 45) ** 2 <= 1,
        "triangle": columns <= rows * 1.5,
    }[kind]
    cutout = np.zeros((60, 90, 4), np.uint8)
    cutout[inside, channel] = 255
    cutout[inside, 3] = 255
    return cutout


@given(st.integers(0, 10_000), st.lists(st.sampled_from(["bar", "ellipse", "triangle"]), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_boxes_are_those_of_the_visible_colours(seed: int, kinds: list[str]) -> None:
    cutouts = [shape(channel, kind) for channel, kind in enumerate(kinds)]
    picture, placed = compose(generator(seed), DARK, cutouts)
    assert picture.shape == DARK.shape
    for one in placed:
        seen = box_of(picture[..., one.index] > 60)
        # An object's soft rim of a pixel may count as its own and yet be too dark to see here.
        assert np.abs(np.subtract(seen, one.box)).max() <= 2
        assert min(one.box[2] - one.box[0], one.box[3] - one.box[1]) >= MIN_BOX_SIDE
        assert one.box[0] >= 0 and one.box[2] <= 200 and one.box[3] <= 160
        assert 1 - MAX_HIDDEN <= one.visible <= 1


def test_the_last_cutout_is_in_front() -> None:
    cutouts = [shape(0, "bar"), shape(1, "bar")]
    for seed in range(40):
        picture, placed = compose(generator(seed), DARK, cutouts, sizes=(0.9, 0.95))
        if len(placed) == 2 and placed[0].visible < 1:
            assert placed[1].visible == 1.0
            x0, y0, x1, y1 = placed[1].box
            assert (picture[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2, 1] > 60).all()
            return
    raise AssertionError("no two of forty scenes overlap")


def test_backgrounds_have_the_size_that_was_asked_for_and_depend_on_the_seed_alone() -> None:
    for seed in range(12):
        first, second = (background(generator(seed, "b"), 70, 40, ()) for _ in range(2))
        assert first.shape == (40, 70, 3) and first.dtype == np.uint8
        np.testing.assert_array_equal(first, second)
