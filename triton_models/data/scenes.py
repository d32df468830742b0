"""One scene, or many: which 3-D models stand in it, from which side, before what; its picture and its annotation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triton_models.data.backgrounds import background, photographs
from triton_models.data.coco import IMAGES, Scene, SceneObject
from triton_models.data.compose import compose
from triton_models.data.seeds import generator

SCENE_SIZES = ((480, 360), (360, 480), (400, 400))
OBJECTS_PER_SCENE = (1, 2, 3, 4, 5, 6)
OBJECT_WEIGHTS = (0.18, 0.22, 0.22, 0.18, 0.12, 0.08)


@dataclass(frozen=True)
class Item:
    """A 3-D model that is in the data set, with its label, its split and its rendered views."""

    model: str
    label: str
    split: str
    cutouts: tuple[Path, ...]


@dataclass(frozen=True)
class Order:
    """Scenes `start` to `end` - 1 of a split, from `items`, into `folder`/images."""

    folder: Path
    split: str
    items: tuple[Item, ...]
    seed: int
    start: int
    end: int


def compose_scenes(order: Order) -> list[Scene]:
    """Composes the scenes and saves their pictures; a scene depends on seed, split and number only."""
    photos = photographs(order.split)
    return [
        _scene(order.folder, number, order.items, photos, generator(order.seed, "scene", order.split, number))
        for number in range(order.start, order.end)
    ]


def _scene(folder: Path, number: int, items: Sequence[Item], photos: Sequence[Path], rng: np.random.Generator) -> Scene:
    width, height = SCENE_SIZES[int(rng.integers(len(SCENE_SIZES)))]
    ground = background(rng, width, height, photos)
    wanted = int(rng.choice(OBJECTS_PER_SCENE, p=OBJECT_WEIGHTS))
    picks = [items[place] for place in rng.choice(len(items), size=wanted, p=_weights(items))]
    cutouts = [open_cutout(item.cutouts[int(rng.integers(len(item.cutouts)))]) for item in picks]
    largest = 0.95 if wanted == 1 else 0.75 if wanted == 2 else 0.6
    pixels, placed = compose(rng, ground, cutouts, sizes=(0.18, largest))
    name = f"{number:06}.jpg"
    save(folder / IMAGES / name, pixels)
    objects = tuple(
        SceneObject(one.box, one.area, one.visible, picks[one.index].label, picks[one.index].model) for one in placed
    )
    return Scene(name, width, height, objects)


def _weights(items: Sequence[Item]) -> NDArray[np.float64]:
    """A label's share grows with the root of its models, so that rare labels are seen often enough."""
    counts = Counter(item.label for item in items)
    weights = np.array([counts[item.label] ** -0.5 for item in items])
    return np.asarray(weights / weights.sum(), np.float64)


@lru_cache(maxsize=1024)
def open_cutout(path: Path) -> NDArray[np.uint8]:
    """A rendered view, uint8 [h, w, 4]; the last thousand stay in memory."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGBA"))


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Saves a picture as JPEG, its folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=90)
