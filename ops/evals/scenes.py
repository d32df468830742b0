"""Labelled scenes as pins: pictures with known objects in COCO's format, as `dotstream data prepare` makes them.

A scene becomes a pin that carries what a catalogue would know of it: the names of what is in it as annotations, and
the groups of these (COCO's `supercategory`) as categories, weighted by area. Where they are is not told to the stream.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dotstream.errors import Misconfigured
from producers.events_pb2 import PinEvent
from producers.rows import image_of

ANNOTATIONS = "annotations.json"
IMAGES = "images"
CATEGORIES = ("group", "label")


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Attributes:
        pin_id: its id in the stream.
        path: the picture.
        boxes: float64 [n, 4], x0, y0, x1, y1 in 0..1.
        labels: of each box.
        groups: of each box.
    """

    pin_id: str
    path: Path
    boxes: npt.NDArray[np.float64]
    labels: tuple[str, ...]
    groups: tuple[str, ...]

    def event(self, categories: str) -> PinEvent:
        """The pin's event, picture included.

        Args:
            categories: whether the pin's categories are the `group`s or the `label`s of its objects.

        Raises:
            Poison: the picture cannot be read.
        """
        names = self.groups if categories == "group" else self.labels
        areas = np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1)
        weights: defaultdict[str, float] = defaultdict(float)
        for name, area in zip(names, areas, strict=True):
            weights[name] += float(area / areas.sum())
        return PinEvent(
            pin_id=self.pin_id,
            kind=PinEvent.KIND_CREATED,
            version=1,
            image=image_of(self.path.name, self.path.parent),
            annotations=sorted(set(self.labels)),
            category_weights=dict(weights),
            event_time=1,
        )

    def known(self, box: Sequence[float], iou_min: float) -> int | None:
        """Place of the known object that overlaps a box most, if by at least `iou_min` (intersection over union)."""
        if not len(self.boxes):
            return None
        one = np.asarray(box, np.float64)
        corner = np.maximum(self.boxes[:, :2], one[:2])
        shared = np.prod(np.clip(np.minimum(self.boxes[:, 2:], one[2:]) - corner, 0, None), axis=1)
        union = np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1) + np.prod(one[2:] - one[:2]) - shared
        overlap = shared / union
        best = int(np.argmax(overlap))
        return best if overlap[best] >= iou_min else None


def read_scenes(data: Path, split: str, most: int | None = None) -> list[Scene]:
    """The scenes of a split, in its order.

    Args:
        data: a folder with <split>/annotations.json and <split>/images/, or an annotations.json beside its images/.
        split: of a folder.
        most: only the first so many.

    Raises:
        Misconfigured: there is no such set, or it is not COCO's format.
    """
    file = data if data.is_file() else data / split / ANNOTATIONS
    try:
        content = json.loads(file.read_text())
        return _scenes(content, file.parent / IMAGES)[:most]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            f"{file} is no set of labelled scenes ({error}): give a folder with {split}/{ANNOTATIONS} in COCO's format"
        ) from error


def _scenes(content: dict[str, Any], images: Path) -> list[Scene]:
    kinds = {one["id"]: (one["name"], one.get("supercategory") or one["name"]) for one in content["categories"]}
    found: defaultdict[int, list[tuple[list[float], str, str]]] = defaultdict(list)
    for one in content["annotations"]:
        if not one.get("iscrowd"):
            found[one["image_id"]].append((one["bbox"], *kinds[one["category_id"]]))
    scenes = []
    for image in content["images"]:
        size = np.array([image["width"], image["height"]] * 2, np.float64)
        own = found[image["id"]]
        boxes = np.array([[x, y, x + w, y + h] for (x, y, w, h), _, _ in own], np.float64).reshape(-1, 4) / size
        name = Path(image["file_name"])
        if own:
            labels, groups = tuple(one[1] for one in own), tuple(one[2] for one in own)
            scenes.append(Scene(f"scene-{name.stem}", images / name, np.clip(boxes, 0, 1), labels, groups))
    return scenes
