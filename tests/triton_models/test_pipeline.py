"""The vision pipeline with models made up for the test: what it asks them, what it keeps, what it cuts out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dotstream.errors import Misconfigured, Unavailable
from triton_models.outputs import Detections
from triton_models.pictures import Picture, crop_resize, resize, salient_colours
from triton_models.pipeline import Vision, VisionSettings, fingerprint, overlaps, widened
from triton_models.seen import Box, decode_seen, encode_seen

Found = tuple[Box, str, float]
ALL = VisionSettings(detection_threshold=0.0, max_objects=100, min_side=1, same_object_iou=None)


def picture(seed: int = 0, width: int = 640, height: int = 480) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    pixels = np.ascontiguousarray(pixels.repeat(8, axis=0).repeat(8, axis=1))
    return Picture(pixels, width, height, hashlib.sha256(pixels.tobytes()).digest(), "png")


def code_of(image: npt.NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


class MadeUp:
    """Models that see what the test says, and embed a picture as the digest of its pixels."""

    def __init__(self, *rows: Sequence[Found]) -> None:
        self.rows = rows
        self.detected: list[npt.NDArray[np.uint8]] = []
        self.embedded: list[npt.NDArray[np.uint8]] = []

    def detect(self, images: npt.NDArray[np.uint8]) -> list[Detections]:
        self.detected.append(images)
        return [
            Detections(
                np.array([box for box, _, _ in row], np.float32).reshape(-1, 4),
                [label for _, label, _ in row],
                np.array([score for _, _, score in row], np.float32),
            )
            for row in self.rows
        ]

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return np.stack([np.frombuffer(code_of(image), np.uint8) for image in images])

    def codes(self, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
        """The searched codes, and an extra one of two bytes."""
        self.embedded.append(images)
        codes = self.embed(images)
        return [codes, codes[:, :2]]


CAT: Found = ((0.25, 0.25, 0.75, 0.5), "Cat", 0.9)
DOG: Found = ((0.0, 0.5, 0.125, 1.0), "Dog", 0.6)


def test_each_picture_gets_its_own_objects_codes_and_colours() -> None:
    pictures = [picture(1), picture(2, 320, 800), picture(3)]
    models = MadeUp([CAT, DOG], [], [DOG])
    seen = Vision(models, ALL).see(pictures)
    assert [[one.label for one in each.objects] for each in seen] == [["Cat", "Dog"], [], ["Dog"]]
    assert [each.code for each in seen] == [code_of(resize(one.pixels, 224)) for one in pictures]
    for each, one, found in zip(seen, pictures, models.rows, strict=True):
        assert [made.box for made in each.objects] == [box for box, _, _ in found]
        assert [made.score for made in each.objects] == [float(np.float32(score)) for _, _, score in found]
        assert [made.code for made in each.objects] == [
            code_of(crop_resize(one.pixels, box, 224)) for box, _, _ in found
        ]
        assert each.colours == tuple(salient_colours(one.pixels))
        assert each.extra == (each.code[:2],)
        assert [made.extra for made in each.objects] == [(made.code[:2],) for made in each.objects]
        assert decode_seen(encode_seen(each), 256, [16]) == each


def test_all_pictures_go_in_one_call_to_each_model() -> None:
    pictures = [picture(1), picture(2, 320, 800)]
    models = MadeUp([CAT, DOG], [CAT])
    Vision(models, ALL).see(pictures)
    (detected,) = models.detected
    np.testing.assert_array_equal(detected, np.stack([resize(one.pixels, 300) for one in pictures]))
    (embedded,) = models.embedded
    assert embedded.shape == (5, 224, 224, 3)
    assert embedded.dtype == detected.dtype == np.uint8


def test_no_pictures_no_calls() -> None:
    models = MadeUp()
    assert Vision(models, ALL).see([]) == []
    assert models.detected == models.embedded == []


def test_what_the_models_raise_reaches_the_caller() -> None:
    models = MadeUp([CAT])

    def away(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        raise Unavailable("gone")

    models.embed = away  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        Vision(models, ALL).see([picture()])


def labels(settings: VisionSettings, *found: Found, of: Picture | None = None) -> list[str]:
    (seen,) = Vision(MadeUp(found), settings).see([of or picture()])
    return [one.label for one in seen.objects]


def test_scores_below_the_threshold_are_left_out() -> None:
    assert labels(replace(ALL, detection_threshold=0.7), CAT, DOG) == ["Cat"]
    assert labels(replace(ALL, detection_threshold=0.6), CAT, DOG) == ["Cat", "Dog"], "the threshold itself is in"


def test_the_best_stay_when_there_are_too_many() -> None:
    assert labels(replace(ALL, max_objects=1), CAT, DOG) == ["Cat"]
    assert labels(replace(ALL, max_objects=0), CAT, DOG) == []


def test_objects_of_few_pixels_are_left_out_by_the_picture_they_are_in() -> None:
    settings = replace(ALL, min_side=80)
    assert labels(settings, CAT, DOG, of=picture(0, 640, 480)) == ["Cat", "Dog"]
    assert labels(settings, CAT, DOG, of=picture(0, 632, 480)) == ["Cat"], "the dog is 79 pixels wide"
    assert labels(settings, CAT, of=picture(0, 640, 312)) == [], "the cat is 78 pixels high"
    assert labels(ALL, ((0.5, 0.5, 0.5, 0.9), "line", 0.9)) == [], "a box without area is nothing"


def test_one_thing_seen_twice_is_one_object() -> None:
    boot: Found = ((0.25, 0.26, 0.75, 0.5), "Boot", 0.8)
    assert labels(replace(ALL, same_object_iou=0.7), CAT, boot, DOG) == ["Cat", "Dog"]
    assert labels(ALL, CAT, boot, DOG) == ["Cat", "Boot", "Dog"]
    assert labels(replace(ALL, same_object_iou=0.7, max_objects=2), CAT, boot, DOG) == ["Cat", "Dog"]


@hypothesis_settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 8)] * 4), max_size=8), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_suppression_keeps_what_a_plain_loop_keeps(grid: list[tuple[int, int, int, int]], limit: float) -> None:
    boxes = [(min(a, c) / 9, min(b, d) / 9, (max(a, c) + 1) / 9, (max(b, d) + 1) / 9) for a, b, c, d in grid]
    found: list[Found] = [(box, str(i), 0.9 - i / 100) for i, box in enumerate(boxes)]
    kept: list[Box] = []
    expected = []
    for box, label, _ in found:
        if all(_iou(box, other) <= limit + 1e-6 for other in kept):
            kept.append(box)
            expected.append(label)
        elif any(abs(_iou(box, other) - limit) < 1e-5 for other in kept):
            return  # too near to the limit for float32 to say
    assert labels(replace(ALL, same_object_iou=limit), *found, of=picture(0, 64, 64)) == expected


def _iou(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def test_empty_boxes_overlap_nothing() -> None:
    empty = np.zeros(4, np.float32)
    assert overlaps(empty, np.zeros((2, 4), np.float32)).tolist() == [0, 0]


def test_a_margin_widens_the_crop_and_not_the_box() -> None:
    models = MadeUp([CAT])
    one = picture()
    (seen,) = Vision(models, replace(ALL, crop_margin=0.5)).see([one])
    assert seen.objects[0].box == CAT[0]
    np.testing.assert_array_equal(models.embedded[0][1], crop_resize(one.pixels, (0.0, 0.125, 1.0, 0.625), 224))
    assert widened((0.0, 0.4, 1.0, 0.6), 0.5) == pytest.approx((0.0, 0.3, 1.0, 0.7))


@pytest.mark.parametrize(
    "wrong",
    [
        {"detection_threshold": 1.1},
        {"detection_threshold": float("nan")},
        {"same_object_iou": -0.1},
        {"max_objects": -1},
        {"min_side": 0.5},
        {"crop_margin": -0.1},
    ],
)
def test_settings_that_make_no_sense_are_misconfigured(wrong: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        replace(ALL, **wrong)  # type: ignore[arg-type]


def test_the_fingerprint_follows_everything_that_changes_what_is_seen() -> None:
    digests = {"detector": "aa", "embedder": "bb"}
    seen = {fingerprint(digests, VisionSettings())}
    assert all(len(one) == 32 for one in seen)
    assert fingerprint(dict(reversed(digests.items())), VisionSettings()) in seen, "the order of names says nothing"
    others = [
        fingerprint({**digests, "embedder": "bc"}, VisionSettings()),
        fingerprint({**digests, "labels": "cc"}, VisionSettings()),
        *(
            fingerprint(digests, replace(VisionSettings(), **change))
            for change in (
                {"detection_threshold": 0.31},
                {"max_objects": 15},
                {"min_side": 17.0},
                {"crop_margin": 0.1},
                {"same_object_iou": None},
            )
        ),
    ]
    assert len(seen.union(others)) == len(others) + 1


def test_the_fingerprint_of_a_released_pipeline_stays() -> None:
    value = fingerprint({"detector": "aa", "embedder": "bb"}, VisionSettings())
    assert value.hex() == "e5d2a6a38b550739e947179e0853d7f817bc3d58cfb922405cf4f3f23f6de543"
