"""The 1,917 anchor boxes of SSD-MobileNetV2 at 300 x 300, to which the detector's box encodings are relative.

They follow the anchor generator of the TensorFlow Object Detection API with the settings under which the detector
was trained (MediaPipe's `object_detection_oidv4` graphs state the same): six square grids, scales from 0.2 to 0.95,
aspect ratios 1, 2, 1/2, 3, 1/3 and one interpolated square, and only three boxes per cell on the finest grid.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

GRIDS = (19, 10, 5, 3, 2, 1)
SCALES = tuple(0.2 + (0.95 - 0.2) * layer / 5 for layer in range(6))
ASPECTS = (1.0, 2.0, 0.5, 3.0, 0.3333)
FINEST = ((0.1, 1.0), (SCALES[0], 2.0), (SCALES[0], 0.5))


def _shapes(layer: int) -> list[tuple[float, float]]:
    """The (scale, aspect) pairs of one cell of the grid, in the order of the network's channels."""
    if layer == 0:
        return list(FINEST)
    following = SCALES[layer + 1] if layer + 1 < len(SCALES) else 1.0
    return [*((SCALES[layer], aspect) for aspect in ASPECTS), (math.sqrt(SCALES[layer] * following), 1.0)]


def ssd_anchors() -> NDArray[np.float32]:
    """The anchors as [1917, 4] float32: centre y, centre x, height, width, as shares of the picture's sides."""
    rows: list[tuple[float, float, float, float]] = []
    for layer, grid in enumerate(GRIDS):
        sizes = [(scale / math.sqrt(aspect), scale * math.sqrt(aspect)) for scale, aspect in _shapes(layer)]
        for y in range(grid):
            for x in range(grid):
                rows.extend(((y + 0.5) / grid, (x + 0.5) / grid, height, width) for height, width in sizes)
    return np.asarray(rows, dtype=np.float32)
