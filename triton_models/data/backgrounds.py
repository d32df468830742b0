"""What scenes stand before: plain colours, gradients, simple rooms, and crops of photographs out of installed packages.

The photographs show none of the labels, and those behind training scenes are never behind evaluation scenes.
They are read from the packages of the dependency group `demo` and are no part of dotstream (NOTICE names them).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dotstream.errors import Misconfigured

Pixels = NDArray[np.uint8]

TRAIN_PHOTOGRAPHS = (
    "skimage/data/brick.png",
    "skimage/data/gravel.png",
    "mvtbdata/images/building2-3.png",
    "mvtbdata/images/castle2.png",
    "mvtbdata/images/eiffel-2.png",
    "mvtbdata/images/parks.png",
    "mvtbdata/images/rocks2-l.png",
    "mvtbdata/images/roof.png",
    "mvtbdata/images/walls-l.png",
    "mvtbdata/images/mosaic/aerial-08.png",
)
EVALUATION_PHOTOGRAPHS = (
    "skimage/data/grass.png",
    "sklearn/datasets/images/china.jpg",
    "mvtbdata/images/notre-dame.png",
    "mvtbdata/images/road.png",
    "mvtbdata/images/mosaic/aerial2-001.png",
    "mvtbdata/images/campus/P1070496.png",
)


def photographs(split: str) -> tuple[Path, ...]:
    """The photographs behind scenes of a split.

    Raises:
        Misconfigured: a package that holds them is not installed, or has other files.
    """
    names = TRAIN_PHOTOGRAPHS if split == "train" else EVALUATION_PHOTOGRAPHS
    return tuple(_installed(name) for name in names)


def _installed(name: str) -> Path:
    package, _, inside = name.partition("/")
    spec = find_spec(package)
    path = Path(spec.origin).parent / inside if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise Misconfigured(f"{name} is not installed, and backgrounds are cut from it: uv sync --group demo")
    return path


def background(rng: np.random.Generator, width: int, height: int, photos: Sequence[Path]) -> Pixels:
    """One background, uint8 [height, width, 3]: a photograph in four of ten, if there are any, else drawn."""
    kind = rng.choice(["plain", "gradient", "room", "photograph"], p=[0.2, 0.15, 0.25, 0.4])
    if kind == "photograph" and photos:
        return _photograph(rng, width, height, photos[int(rng.integers(len(photos)))])
    if kind == "room":
        return _room(rng, width, height)
    first, second = _colour(rng), _colour(rng)
    if kind == "plain":
        return np.broadcast_to(np.rint(first).astype(np.uint8), (height, width, 3)).copy()
    slope = np.linspace(0, 1, height)[:, None, None] if rng.random() < 0.5 else np.linspace(0, 1, width)[None, :, None]
    return np.broadcast_to(np.rint(first * (1 - slope) + second * slope).astype(np.uint8), (height, width, 3)).copy()


def _colour(rng: np.random.Generator) -> NDArray[np.float64]:
    """Mostly pale, as walls and studio backgrounds are."""
    return rng.uniform(150, 255, 3) if rng.random() < 0.7 else rng.uniform(20, 200, 3)


def _room(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """A wall above a floor, both slightly shaded and grained."""
    picture = np.empty((height, width, 3))
    edge = int(rng.uniform(0.45, 0.85) * height)
    picture[:edge], picture[edge:] = _colour(rng), rng.uniform(60, 210, 3)
    picture *= np.linspace(1.0, rng.uniform(0.75, 1.0), width)[None, :, None]
    picture += rng.normal(0, rng.uniform(0, 6), (height, width, 1))
    return np.rint(np.clip(picture, 0, 255)).astype(np.uint8)


def _photograph(rng: np.random.Generator, width: int, height: int, path: Path) -> Pixels:
    """A random part of the photograph, mirrored half of the time, out of focus a third of the time."""
    whole = _opened(path)
    scale = rng.uniform(0.35, 1.0) * min(whole.width / width, whole.height / height)
    part_width, part_height = max(1, int(width * scale)), max(1, int(height * scale))
    left = int(rng.integers(whole.width - part_width + 1))
    top = int(rng.integers(whole.height - part_height + 1))
    part = whole.resize(
        (width, height), Image.Resampling.BILINEAR, (left, top, left + part_width, top + part_height), reducing_gap=2.0
    )
    if rng.random() < 0.35:
        part = part.filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 4))))
    pixels = np.asarray(part)
    return np.ascontiguousarray(pixels[:, ::-1] if rng.random() < 0.5 else pixels)


@lru_cache(maxsize=16)
def _opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.thumbnail((1280, 1280))
        return picture.convert("RGB")
