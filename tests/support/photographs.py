"""Real photographs out of installed packages, for tests that must not be content with drawn rectangles."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PACKAGES = {
    "skimage/data": "astronaut.png camera.png chelsea.png coffee.png motorcycle_left.png rocket.jpg",
    "sklearn/datasets/images": "china.jpg flower.jpg",
    "mvtbdata/images": "Image18.png butterfly.jpg castle.png church.jpg eiffel-1.png eiffel-2.png flowers1.png "
    "flowers4.png flowers9.png greenscreen.png image3.jpg notre-dame.png penguins.png road.png street.png tags.png "
    "tomato_54.png yellowtargets.png",
}


@cache
def photographs() -> tuple[Path, ...]:
    """The files, at least twenty of them, in a fixed order."""
    found: list[Path] = []
    for place, names in PACKAGES.items():
        package, _, folder = place.partition("/")
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None, f"{package} is not installed: uv sync"
        found.extend(Path(spec.origin).parent / folder / name for name in names.split())
    return tuple(found)


@cache
def pictures(side: int) -> NDArray[np.uint8]:
    """All photographs stretched to a square, uint8 [n, side, side, 3] RGB, as the models take them."""
    resized = []
    for path in photographs():
        with Image.open(path) as image:
            resized.append(np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)))
    return np.stack(resized)
