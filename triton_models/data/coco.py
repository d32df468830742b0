"""Writes detection data in COCO's format: `images/` and `annotations.json` in one folder for each split.

Boxes are `[x, y, width, height]` in pixels, origin at top left. Beyond COCO's own fields an annotation of a rendered
scene names its 3-D `model` and the `visible` share of it, and the file's `info` says that it is synthetic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triton_models.files import write_whole

ANNOTATIONS_FILE = "annotations.json"
IMAGES = "images"


@dataclass(frozen=True)
class SceneObject:
    """An annotated object: box (x0, y0, x1, y1) in pixels, visible pixels, visible share, label, 3-D model."""

    box: tuple[int, int, int, int]
    area: int
    visible: float
    label: str
    model: str


@dataclass(frozen=True)
class Scene:
    """An annotated picture; `file_name` is relative to `images/`."""

    file_name: str
    width: int
    height: int
    objects: tuple[SceneObject, ...]


def write_coco(folder: Path, scenes: Sequence[Scene], groups: Mapping[str, str], info: Mapping[str, Any]) -> None:
    """Writes `annotations.json` into the folder of a split, whose pictures lie in its `images/`.

    Args:
        folder: of the split.
        scenes: in the order of their image ids, which count from 1.
        groups: label -> group; category ids count from 1 in its order.
        info: goes into `info`.
    """
    ids = {label: number for number, label in enumerate(groups, 1)}
    annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes, 1):
        for one in scene.objects:
            x0, y0, x1, y1 = one.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": ids[one.label],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": one.area,
                    "iscrowd": 0,
                    "segmentation": [],
                    "model": one.model,
                    "visible": one.visible,
                }
            )
    content = {
        "info": dict(info),
        "licenses": [],
        "categories": [{"id": ids[label], "name": label, "supercategory": group} for label, group in groups.items()],
        "images": [
            {"id": number, "file_name": scene.file_name, "width": scene.width, "height": scene.height}
            for number, scene in enumerate(scenes, 1)
        ],
        "annotations": annotations,
    }
    write_whole(folder / ANNOTATIONS_FILE, json.dumps(content, ensure_ascii=False).encode())
