"""Real photographs out of installed packages, for tests that must not be content with drawn rectangles."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PACKAGES = {
    "skimage": ("data/astronaut.png", "data/coffee.png", "data/chelsea.png", "data/rocket.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "mvtbdata": (
        "images/butterfly.jpg",
        "images/church.png",
        "images/eiffel-1.png",
        "images/eiffel-2.png",
        "images/garden-l.jpg",
        "images/lab-scene.png",
        "images/monalisa.png",
        "images/notre-dame.png",
        "images/parks.png",
        "images/roof.png",
        "images/rocks2-l.png",
        "images/tomato_124.png",
        "images/walls-l.png",
        "images/walls-r.png",
        "images/yellowtargets.png",
        "images/greenscreen.png",
        "images/aerialphoto.png",
    ),
}


@cache
def photographs() -> tuple[Path, ...]:
    """The files, at least twenty of them, in a fixed order."""
    found: list[Path] = []
    for package, names in PACKAGES.items():
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None, f"{package} is not installed: uv sync"
        folder = Path(spec.origin).parent
        found.extend(folder / name for name in names)
    return tuple(found)


def pictures(side: int) -> NDArray[np.uint8]:
    """All photographs stretched to a square, uint8 [n, side, side, 3] RGB, as the models take them."""
    resized = []
    for path in photographs():
        with Image.open(path) as image:
            resized.append(np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)))
    return np.stack(resized)
