"""Decoding: the corpus gives its reasons, good pictures come out as Pillow sees them, and nothing else ever happens."""

from __future__ import annotations

import hashlib
import io
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from dotstream.errors import Misconfigured, Poison
from tests.poison import build
from tests.poison.build import encode, photo
from tests.poison.corpus import Sample, samples
from tests.support.photographs import photographs
from triton_models.pictures import Picture, PictureLimits, Pixels, decode, inspect

CORPUS = samples()
GOOD = [sample for sample in CORPUS if sample.reason is None]
SECONDS_EACH = 1.0
"""Of the processor, which others use meanwhile."""


def by_pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def name_of(sample: Sample) -> str:
    return sample.name


def test_the_corpus_is_large_enough() -> None:
    assert sum(sample.reason is not None for sample in CORPUS) >= 80
    assert len(GOOD) >= 30


@pytest.mark.parametrize("sample", [s for s in CORPUS if s.reason is not None], ids=name_of)
def test_poison_gives_its_reason_in_time(sample: Sample) -> None:
    started = time.thread_time()
    with pytest.raises(Poison) as caught:
        decode(sample.data)
    assert time.thread_time() - started < SECONDS_EACH
    assert caught.value.reason == sample.reason
    assert caught.value.detail


@pytest.mark.parametrize("sample", GOOD, ids=name_of)
def test_good_pictures_pass_upright(sample: Sample) -> None:
    picture = decode(sample.data)
    assert (picture.width, picture.height) == (sample.width, sample.height)
    assert picture.pixels.shape == (sample.height, sample.width, 3)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    assert not picture.pixels.flags.writeable
    assert picture.sha256 == hashlib.sha256(sample.data).digest()
    if sample.like:
        difference = np.abs(picture.pixels.astype(int) - photo(sample.width, sample.height))
        assert difference.mean() < 8


@pytest.mark.parametrize("sample", [s for s in GOOD if s.name.endswith(".jpg")], ids=name_of)
def test_jpegs_are_bit_for_bit_as_pillow_sees_them(sample: Sample) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about the broken Exif block
        expected = by_pillow(sample.data)
    np.testing.assert_array_equal(decode(sample.data).pixels, expected)


@pytest.mark.parametrize("path", [path for path in photographs() if path.suffix == ".jpg"], ids=lambda path: path.name)
def test_photographs_are_bit_for_bit_as_pillow_sees_them(path: Path) -> None:
    data = path.read_bytes()
    np.testing.assert_array_equal(decode(data).pixels, by_pillow(data))


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(orientation: int, order: str) -> None:
    data = build.insert(build.jpeg(), build.segment(0xE1, b"Exif\0\0" + build.exif(orientation, order)))
    np.testing.assert_array_equal(decode(data).pixels, by_pillow(data))


def test_alpha_lies_over_white() -> None:
    rgba = np.dstack([photo(), np.linspace(0, 255, build.WIDTH * build.HEIGHT).astype(np.uint8).reshape(64, 96)])
    alpha = rgba[..., 3:].astype(float) / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(decode(encode(rgba, "PNG")).pixels - expected).max() <= 1
    assert np.abs(decode(encode(rgba, "WEBP", lossless=True, exact=True)).pixels - expected).max() <= 1


@pytest.mark.parametrize(("depth", "key"), [(1, 1), (2, 2), (4, 9), (8, 77), (16, 30_000)])
def test_the_transparent_grey_is_white_and_no_other(depth: int, key: int) -> None:
    levels = 1 << depth
    values = np.arange(64 * 96).reshape(64, 96) * 11 % levels
    values[3, 4] = key
    data = build.png(values, depth, 0, build.chunk(b"tRNS", key.to_bytes(2, "big")))
    spread = values * 255 // (levels - 1) if depth < 16 else values >> 8
    expected = np.where(values == key, 255, spread)
    np.testing.assert_array_equal(decode(data).pixels, np.dstack([expected] * 3))


def test_palette_alpha_and_key_colour_are_white() -> None:
    pixels = photo()
    key = tuple(int(v) for v in pixels[10, 10])
    data = build.with_chunks(encode(pixels, "PNG"), build.chunk(b"tRNS", b"".join(v.to_bytes(2, "big") for v in key)))
    expected = np.where((pixels == key).all(axis=-1, keepdims=True), 255, pixels)
    np.testing.assert_array_equal(decode(data).pixels, expected)
    palette = Image.fromarray(pixels).quantize(16)
    seen = decode(encode(palette, "PNG", transparency=bytes([0]) * 8 + bytes([255]) * 8)).pixels
    hidden = np.asarray(palette) < 8
    assert (seen[hidden] == 255).all()
    np.testing.assert_array_equal(seen[~hidden], np.asarray(palette.convert("RGB"))[~hidden])


def test_interlaced_rows_are_whole() -> None:
    grey = photo()[..., 0]
    np.testing.assert_array_equal(decode(build.interlaced(grey)).pixels, np.dstack([grey] * 3))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_tall_pictures_are_converted_band_by_band(mode: str) -> None:
    image = Image.fromarray(photo(40, 700)).convert(mode)
    np.testing.assert_array_equal(decode(encode(image, "PNG")).pixels, np.asarray(image.convert("RGB")))


def test_limits_are_inclusive() -> None:
    data = encode(photo(8, 100), "PNG")
    limits = PictureLimits(max_bytes=len(data), max_pixels=800, max_side=100, min_side=8)
    assert decode(data, limits).height == 100
    for tighter in (
        PictureLimits(max_bytes=len(data) - 1),
        PictureLimits(max_pixels=799),
        PictureLimits(max_side=99),
        PictureLimits(min_side=9),
    ):
        with pytest.raises(Poison):
            decode(data, tighter)


def test_100_scans_are_within_the_limit() -> None:
    assert inspect(build.storm_of_scans(100)).scans == 100


def test_limits_beyond_the_decoder_s_own_are_refused() -> None:
    with pytest.raises(Misconfigured):
        PictureLimits(max_pixels=100_000_000)


def test_metadata_never_reaches_the_decoder() -> None:
    secret = b"nobody reads this"
    jpeg = build.insert(build.jpeg(), build.segment(0xED, secret), build.segment(0xFE, secret)) + secret
    png = build.with_chunks(encode(photo(), "PNG"), build.chunk(b"tEXt", b"k\0" + secret)) + secret
    webp = build.riff(build.webp_frame(encode(photo(), "WEBP"))) + secret
    for data in (jpeg, png, webp):
        assert secret in data
        assert secret not in inspect(data).body


def test_threads_decode_alike() -> None:
    expected = {sample.name: decode(sample.data).pixels.tobytes() for sample in GOOD}
    wrong: list[str] = []

    def work() -> None:
        for sample in GOOD:
            if decode(sample.data).pixels.tobytes() != expected[sample.name]:
                wrong.append(sample.name)  # noqa: PERF401  seen by the test as it happens

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


SEEDS = st.sampled_from([sample.data for sample in GOOD if len(sample.data) < 60_000])


def picture_or_poison(data: bytes) -> None:
    try:
        picture = decode(data, PictureLimits(max_pixels=2_000_000))
    except Poison as poison:
        assert poison.reason.startswith("picture_")
    else:
        assert isinstance(picture, Picture)


@settings(max_examples=300, deadline=None)
@given(data=SEEDS, cut=st.floats(0, 1))
def test_any_truncation_gives_a_picture_or_poison(data: bytes, cut: float) -> None:
    picture_or_poison(data[: int(cut * len(data))])


@settings(max_examples=600, deadline=None)
@given(data=SEEDS, flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=12))
def test_any_bit_flips_give_a_picture_or_poison(data: bytes, flips: list[tuple[float, int]]) -> None:
    changed = bytearray(data)
    for where, bits in flips:
        changed[int(where * len(changed))] ^= bits
    picture_or_poison(bytes(changed))


@settings(max_examples=200, deadline=None)
@given(magic=st.sampled_from([b"\xff\xd8\xff", build.PNG_MAGIC, b"RIFF\x40\0\0\0WEBP", b""]), rest=st.binary())
def test_any_bytes_give_a_picture_or_poison(magic: bytes, rest: bytes) -> None:
    picture_or_poison(magic + rest)
