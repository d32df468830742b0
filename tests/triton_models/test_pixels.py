"""Stretching, cutting and colours of decoded pixels, against Pillow and plain counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.poison.build import photo
from triton_models.pictures import Pixels, crop_resize, resize, salient_colours


def bilinear(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def test_resize_is_pillow_s_bilinear() -> None:
    pixels = photo(640, 480)
    np.testing.assert_array_equal(resize(pixels, 300), bilinear(pixels, (300, 300)))
    np.testing.assert_array_equal(resize(pixels, 200, 100), bilinear(pixels, (200, 100)))
    assert resize(pixels, 200, 100).shape == (100, 200, 3)


def test_a_box_on_whole_pixels_is_cut_exactly() -> None:
    pixels = photo(100, 50)
    expected = bilinear(np.ascontiguousarray(pixels[10:30, 25:75]), (224, 224))
    np.testing.assert_array_equal(crop_resize(pixels, (0.25, 0.2, 0.75, 0.6), 224), expected)


def test_a_box_takes_in_the_pixels_that_it_touches() -> None:
    pixels = photo(100, 50)
    inner = crop_resize(pixels, (0.255, 0.21, 0.745, 0.59), 64)
    np.testing.assert_array_equal(inner, crop_resize(pixels, (0.25, 0.2, 0.75, 0.6), 64))


BOX = st.tuples(*[st.floats(-0.5, 1.5)] * 4)


@settings(max_examples=200, deadline=None)
@given(box=BOX, width=st.integers(8, 70), height=st.integers(8, 70))
def test_any_box_gives_a_square(box: tuple[float, float, float, float], width: int, height: int) -> None:
    assert crop_resize(photo(width, height), box, 32).shape == (32, 32, 3)


def test_colours_of_a_flag() -> None:
    flag = np.zeros((90, 120, 3), np.uint8)
    flag[:, :60] = (255, 0, 0)
    flag[:, 60:90] = (0, 0, 255)
    flag[:, 90:] = (255, 255, 255)
    colours = salient_colours(flag)
    assert [colour for colour, _ in colours] == [0xFF0000, 0x0000FF, 0xFFFFFF]
    assert [share for _, share in colours] == pytest.approx([0.5, 0.25, 0.25])


def test_one_colour_is_one_entry() -> None:
    assert salient_colours(np.full((8, 8, 3), 17, np.uint8)) == ((0x111111, 1.0),)


@settings(max_examples=50, deadline=None)
@given(width=st.integers(8, 400), height=st.integers(8, 400), seed=st.integers(0, 1000))
def test_colours_are_few_whole_and_the_same_again(width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    colours = salient_colours(pixels)
    shares = [share for _, share in colours]
    assert 1 <= len(colours) <= 5
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)
    assert all(0 <= colour <= 0xFFFFFF for colour, _ in colours)
    assert salient_colours(pixels.copy()) == colours
