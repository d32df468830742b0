"""Tiny labelled scenes drawn for tests: coloured shapes on noise, with exact boxes. Nothing but test material."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

NAMES = ("disc", "square")
GROUPS = {"disc": "fashion", "square": "vehicles"}
SIZE = (160, 120)


def draw_scenes(folder: Path, split: str, count: int, *, seed: int = 0) -> Path:
    """Writes `<folder>/<split>/annotations.json` and its pictures; returns the JSON file."""
    random = np.random.default_rng(seed)
    place = folder / split
    (place / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        width, height = SIZE
        picture = Image.fromarray(random.integers(60, 120, (height, width, 3), np.uint8))
        for kind in range(2):
            side = int(random.integers(30, 55))
            x, y = int(random.integers(kind * 80, kind * 80 + 80 - side)), int(random.integers(0, height - side))
            _draw(ImageDraw.Draw(picture), kind, (x, y, x + side - 1, y + side - 1))
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": kind, "bbox": [x, y, side, side]}
            )
        picture.save(place / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"images/{number}.png", "width": width, "height": height})
    categories = [{"id": kind, "name": name, "supercategory": GROUPS[name]} for kind, name in enumerate(NAMES)]
    path = place / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def _draw(canvas: ImageDraw.ImageDraw, kind: int, corners: tuple[int, int, int, int]) -> None:
    if kind == 0:
        canvas.ellipse(corners, fill=(230, 40, 40))
    else:
        canvas.rectangle(corners, fill=(40, 60, 230))
