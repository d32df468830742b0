"""Labelled scenes as pins: pictures with known things in COCO's format, as `dotstream data prepare` makes them.

A scene becomes a pin that carries what a catalogue would know of it: the names of what is in it as annotations, and
the groups of these (COCO's `supercategory`) as categories, weighted by area. Where they are is not told to the stream.
An annotation may name the thing that it shows (`model`), so that another view of the same thing can be told from
another thing of its kind.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discovery import boxes
from discovery.ports import Box
from dotstream.errors import Misconfigured
from producers.events_pb2 import PinEvent
from producers.rows import image_of

ANNOTATIONS = "annotations.json"
IMAGES = "images"
CATEGORIES = ("group", "label")
SEEN_IOU = 0.5
"""A box that overlaps a known thing so much shows it."""


@dataclass(frozen=True)
class Thing:
    """One known thing in a scene.

    Attributes:
        box: x0, y0, x1, y1 in 0..1.
        model: which thing it is; empty when the set does not say.
    """

    box: Box
    label: str
    group: str
    model: str = ""


@dataclass(frozen=True)
class Scene:
    """A picture and the things in it, one at least."""

    pin_id: str
    path: Path
    things: tuple[Thing, ...]

    @property
    def labels(self) -> frozenset[str]:
        """The labels of its things."""
        return frozenset(thing.label for thing in self.things)

    def shown(self, box: Box) -> Thing | None:
        """The thing that a box shows, if any: the one that it overlaps most, by at least `SEEN_IOU`."""
        best = max(self.things, key=lambda thing: boxes.overlap(thing.box, box))
        return best if boxes.overlap(best.box, box) >= SEEN_IOU else None

    def categories(self, of: str = "group") -> dict[str, float]:
        """The `group`s or `label`s of its things by the area that these cover; together 1."""
        areas: defaultdict[str, float] = defaultdict(float)
        for thing in self.things:
            areas[thing.group if of == "group" else thing.label] += boxes.area(thing.box)
        total = sum(areas.values())
        return {name: area / total for name, area in areas.items()}

    def event(self, categories: str) -> PinEvent:
        """The pin's event, picture included.

        Args:
            categories: whether the pin's categories are the `group`s or the `label`s of its things.

        Raises:
            Poison: the picture cannot be read.
        """
        return PinEvent(
            pin_id=self.pin_id,
            kind=PinEvent.KIND_CREATED,
            version=1,
            image=image_of(self.path.name, self.path.parent),
            annotations=sorted(self.labels),
            category_weights=self.categories(categories),
            event_time=1,
        )


def read_scenes(data: Path, split: str, most: int | None = None) -> list[Scene]:
    """The scenes of a split in its order; pictures without a thing that covers some of them are left out.

    Args:
        data: a folder with <split>/annotations.json and <split>/images/, or an annotations.json beside its images/.
        split: of a folder.
        most: only the first so many.

    Raises:
        Misconfigured: there is no such set, it is not COCO's format, or it holds no scene or two of one name.
    """
    file = data if data.is_file() else data / split / ANNOTATIONS
    try:
        scenes = _scenes(json.loads(file.read_text()), file.parent / IMAGES)[:most]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise Misconfigured(
            f"{file} is no set of labelled scenes ({error}): give a folder with {split}/{ANNOTATIONS} in COCO's format"
        ) from error
    if not scenes or len({scene.pin_id for scene in scenes}) < len(scenes):
        raise Misconfigured(f"{file} has {'pictures of the same name' if scenes else 'no picture with known things'}")
    return scenes


def _scenes(content: dict[str, Any], images: Path) -> list[Scene]:
    kinds = {one["id"]: (one["name"], one.get("supercategory") or one["name"]) for one in content["categories"]}
    sizes = {one["id"]: (one["width"], one["height"]) for one in content["images"]}
    things: defaultdict[int, list[Thing]] = defaultdict(list)
    for one in content["annotations"]:
        box = _box(one["bbox"], *sizes[one["image_id"]])
        if not one.get("iscrowd") and boxes.area(box) > 0:
            things[one["image_id"]].append(Thing(box, *kinds[one["category_id"]], str(one.get("model", ""))))
    return [
        Scene(f"scene-{Path(one['file_name']).stem}", images / one["file_name"], tuple(things[one["id"]]))
        for one in content["images"]
        if things[one["id"]]
    ]


def _box(bbox: Sequence[float], width: int, height: int) -> Box:
    x, y, w, h = bbox
    return max(0.0, x / width), max(0.0, y / height), min(1.0, (x + w) / width), min(1.0, (y + h) / height)
