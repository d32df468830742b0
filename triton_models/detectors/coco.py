"""Reads labels in COCO's format: one JSON file with `images`, `annotations` and `categories`.

Boxes are x, y, width, height in pixels. Pictures lie under a folder, by default that of the file or its `images/`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotstream.errors import Misconfigured
from triton_models.data.problems import Problem
from triton_models.detectors.dataset import DetectionData, Labelling, Sample
from triton_models.detectors.labels import OTHER, LabelMap


def read_coco(path: Path, *, pictures: Path | None = None, labels: LabelMap | None = None) -> DetectionData:
    """Reads a file of COCO labels.

    Args:
        path: the JSON file.
        pictures: folder that the file names are relative to.
        labels: the classes to use, others are reported; None takes the file's own categories, in its order, their
            `supercategory` being the group.

    Raises:
        Misconfigured: the file cannot be read or is no COCO file.
    """
    document = _document(path)
    names = {row.get("id"): str(row.get("name")) for row in document["categories"]}
    known = labels or _own_labels(document["categories"])
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    problems: list[Problem] = []
    keys = {image.get("id") for image in document["images"]}
    for row in document["annotations"]:
        if row.get("image_id") in keys:
            by_image[row["image_id"]].append(row)
        else:
            problems.append(
                Problem(str(path), "picture_missing", f"annotation {row.get('id')} names no picture of the file")
            )
    reader = _Reader(path, names, pictures or _pictures_folder(path, document["images"]), known)
    samples: list[Sample] = []
    for image in document["images"]:
        sample, found = reader.sample(image, by_image[image.get("id")])
        problems += found
        if sample is not None:
            samples.append(sample)
    return DetectionData(str(path), known, tuple(samples), tuple(problems))


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path} cannot be read as COCO labels: {error}") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(document, dict) or not all(_is_rows(document.get(part)) for part in parts):
        raise Misconfigured(f"{path} is no COCO file: it needs lists of objects: {', '.join(parts)}")
    return document


def _is_rows(rows: Any) -> bool:
    return isinstance(rows, list) and all(isinstance(row, dict) for row in rows)


def _own_labels(categories: list[dict[str, Any]]) -> LabelMap:
    groups: dict[str, dict[str, None]] = {}
    for row in categories:
        groups.setdefault(str(row.get("supercategory") or OTHER), {})[str(row.get("name"))] = None
    return LabelMap({group: tuple(names) for group, names in groups.items()})


def _pictures_folder(path: Path, images: list[dict[str, Any]]) -> Path:
    """Beside the file, or in `images/` there: wherever the first picture is."""
    beside = path.parent / "images"
    first = images[0].get("file_name") if images else None
    return beside if isinstance(first, str) and (beside / first).is_file() else path.parent


@dataclass(frozen=True)
class _Reader:
    """What the rows of a file mean: names by category id, the pictures' folder, the known classes."""

    path: Path
    names: Mapping[Any, str]
    folder: Path
    labels: LabelMap

    def sample(self, image: dict[str, Any], rows: list[dict[str, Any]]) -> tuple[Sample | None, list[Problem]]:
        try:
            picture = self.folder / str(image["file_name"])
            width, height = int(image["width"]), int(image["height"])
        except (KeyError, TypeError, ValueError) as error:
            return None, [Problem(str(self.path), "label_corrupt", f"image {image.get('id')}: {error!r}")]
        labelling = Labelling(picture, self.labels)
        for row in rows:
            try:
                x, y, wide, tall = (float(value) for value in row["bbox"])
                name = self.names.get(row["category_id"])
            except (KeyError, TypeError, ValueError) as error:
                labelling.report("label_corrupt", f"annotation {row.get('id')} of {self.path.name}: {error!r}")
                continue
            if name is None:
                labelling.report("unknown_class", f"category {row['category_id']}, not listed in {self.path.name}")
                continue
            labelling.add(name, (x, y, x + wide, y + tall), width, height, crowd=bool(row.get("iscrowd", 0)))
        return labelling.sample(str(image.get("id")), picture, width, height), labelling.problems
