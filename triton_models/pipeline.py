"""From decoded pictures to what is in them: detect, choose, crop, embed.

On a pin's way this stands between triton_models/pictures.py, which decodes its picture, and the vision worker, which
publishes the result. It is the paper's object-detection and feature path (sections 3.2 and 4.1): the detector looks at
the whole picture, each object that is good enough is cut out of the full-resolution picture, and the embedder turns the
whole picture and every crop into binary codes. Decoding and cropping stay on this side and the server gets two plain
model calls, which measured better than an ensemble inside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dotstream.errors import Misconfigured
from triton_models.outputs import Detections
from triton_models.pictures import Picture, crop_resize, resize, salient_colours
from triton_models.seen import Box, Seen, SeenObject

PIPELINE_VERSION = 1
"""Rises with every change of this code or of the decoder that changes what is seen in a picture."""

Images = npt.NDArray[np.uint8]


class Models(Protocol):
    """The models; triton_models/client.py has them, tests have their own.

    All take uint8 [n, S, S, 3] RGB for any n, S being the settings' size, and may raise Retryable errors. `embed` gives
    the searched codes, uint8 [n, bits / 8]; `codes` gives them and those of each extra feature, in its order.
    """

    def detect(self, images: Images) -> list[Detections]: ...
    def embed(self, images: Images) -> npt.NDArray[np.uint8]: ...
    def codes(self, images: Images) -> Sequence[npt.NDArray[np.uint8]]: ...


@dataclass(frozen=True)
class VisionSettings:
    """What counts as an object and how it is cut out.

    Attributes:
        detection_threshold: least score.
        max_objects: of one picture; the best scores stay.
        min_side: least width and height of an object, in pixels of the upright picture; smaller crops say nothing.
        crop_margin: share of the box's width and height that a crop takes beyond each of its sides.
        same_object_iou: of two boxes that overlap more than this, the one of lower score is left out whatever the
            labels: the detector names one thing twice (Footwear and Boot), and a thing has one dot. None keeps both.
        detector_size: side of the square to which pictures are stretched for the detector, in pixels.
        embedder_size: the same for the embedder.
    """

    detection_threshold: float = 0.3
    max_objects: int = 16
    min_side: float = 16.0
    crop_margin: float = 0.0
    same_object_iou: float | None = 0.7
    detector_size: int = 300
    embedder_size: int = 224

    def __post_init__(self) -> None:
        shares = (self.detection_threshold, 0.0 if self.same_object_iou is None else self.same_object_iou)
        if not all(0 <= share <= 1 for share in shares):
            raise Misconfigured(f"detection_threshold and same_object_iou must be in 0..1: {self}")
        if self.max_objects < 0 or self.min_side < 1 or not 0 <= self.crop_margin <= 1:
            raise Misconfigured(f"max_objects must be >= 0, min_side >= 1 and crop_margin in 0..1: {self}")


@dataclass(frozen=True)
class _Found:
    """An object before its code is known."""

    box: Box
    label: str
    score: float


class Vision:
    """The pipeline over a pair of models. Safe to use from several threads when the models are.

    Args:
        models: detector and embedder.
        settings: what counts as an object.
    """

    def __init__(self, models: Models, settings: VisionSettings) -> None:
        self._models = models
        self._settings = settings

    def see(self, pictures: Sequence[Picture]) -> list[Seen]:
        """What is in each picture, by one detector and one embedder call for all of them.

        Returns: one Seen for each picture, in order.
        Raises: what the models raise; then nothing is known of any of the pictures.
        """
        if not pictures:
            return []
        detections = self._models.detect(
            np.stack([resize(picture.pixels, self._settings.detector_size) for picture in pictures])
        )
        found = [self._choose(seen, picture) for seen, picture in zip(detections, pictures, strict=True)]
        codes = self._models.codes(self._embedder_inputs(pictures, found))
        results = []
        row = 0
        for picture, objects in zip(pictures, found, strict=True):
            own = [codes_at(codes, at) for at in range(row, row + 1 + len(objects))]
            row += len(own)
            results.append(
                Seen(
                    objects=tuple(
                        SeenObject(one.box, one.label, one.score, code=mine[0], extra=mine[1:])
                        for one, mine in zip(objects, own[1:], strict=True)
                    ),
                    code=own[0][0],
                    colours=tuple(salient_colours(picture.pixels)),
                    extra=own[0][1:],
                )
            )
        return results

    def _embedder_inputs(self, pictures: Sequence[Picture], found: Sequence[Sequence[_Found]]) -> Images:
        """For each picture its whole, then its crops: uint8 [n, embedder_size, embedder_size, 3]."""
        side, margin = self._settings.embedder_size, self._settings.crop_margin
        images = np.empty((sum(1 + len(objects) for objects in found), side, side, 3), np.uint8)
        row = 0
        for picture, objects in zip(pictures, found, strict=True):
            images[row] = resize(picture.pixels, side)
            for place, one in enumerate(objects, row + 1):
                images[place] = crop_resize(picture.pixels, widened(one.box, margin), side)
            row += 1 + len(objects)
        return images

    def _choose(self, seen: Detections, picture: Picture) -> list[_Found]:
        """The detections that count as objects, best first."""
        settings = self._settings
        sides = (seen.boxes[:, 2:] - seen.boxes[:, :2]) * (picture.width, picture.height)
        good = (seen.scores >= settings.detection_threshold) & (sides >= settings.min_side).all(axis=1)
        kept: list[int] = []
        for index in np.flatnonzero(good):
            if len(kept) == settings.max_objects:
                break
            if not self._is_seen_already(seen.boxes[index], seen.boxes[kept]):
                kept.append(int(index))
        return [_Found(_box(seen.boxes[i]), seen.labels[i], float(seen.scores[i])) for i in kept]

    def _is_seen_already(self, box: npt.NDArray[np.float32], better: npt.NDArray[np.float32]) -> bool:
        limit = self._settings.same_object_iou
        return limit is not None and bool((overlaps(box, better) > limit).any())


def codes_at(codes: Sequence[npt.NDArray[np.uint8]], row: int) -> tuple[bytes, ...]:
    """The codes of one of the pictures that `Models.codes` was asked about: the searched one, then the extra ones."""
    return tuple(feature[row].tobytes() for feature in codes)


def overlaps(box: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Intersection over union of one box [4] with each of `others` [n, 4]: float32 [n]; 0 where both are empty."""
    corner = np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.clip(np.minimum(box[2:], others[:, 2:]) - corner, 0, None), axis=1)
    union = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - shared
    result: npt.NDArray[np.float32] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def widened(box: Box, margin: float) -> Box:
    """The box with `margin` of its sides added on each side, cut at the picture's edges."""
    x0, y0, x1, y1 = box
    dx, dy = (x1 - x0) * margin, (y1 - y0) * margin
    return max(0.0, x0 - dx), max(0.0, y0 - dy), min(1.0, x1 + dx), min(1.0, y1 + dy)


def fingerprint(model_digests: Mapping[str, str], settings: VisionSettings) -> bytes:
    """What decides the result for a picture, as one value: part of the cache's keys and of a generation's identity.

    Args:
        model_digests: hexadecimal sha256 of every file that decides a model's answers (weights, labels), by a name.
        settings: of the pipeline.

    Returns: sha256 over canonical JSON, 32 bytes.
    """
    values = asdict(settings)
    sizes = [values.pop("detector_size"), values.pop("embedder_size")]
    parts = {"pipeline": PIPELINE_VERSION, "sizes": sizes, "models": dict(model_digests), "settings": values}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).digest()


def _box(corners: npt.NDArray[np.float32]) -> Box:
    x0, y0, x1, y1 = (float(corner) for corner in corners)
    return x0, y0, x1, y1
