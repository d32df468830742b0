"""Composites cut-outs over a background into a scene whose boxes are exact: taken from the pixels that stay visible.

An object's box is the bounding box of its visible pixels: what others hide and what lies beyond the picture's edge does
not count, as in COCO. A placement that would hide more than `MAX_HIDDEN` of an earlier object is drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

VISIBLE_ALPHA = 0.1  # from here on a pixel belongs to its object: glass is thin
OPAQUE_ALPHA = 0.5  # from here on it hides what is behind
MAX_HIDDEN = 0.6
MIN_BOX_SIDE = 12
TRIES = 12


@dataclass(frozen=True)
class Placed:
    """An object in a scene.

    Attributes:
        index: which of the cut-outs it is.
        box: (x0, y0, x1, y1) in whole pixels, the last row and column excluded.
        area: visible pixels.
        visible: their share of the pixels that the object would have alone and in the picture.
    """

    index: int
    box: tuple[int, int, int, int]
    area: int
    visible: float


@dataclass
class _Layer:
    index: int
    seen: Mask
    alone: int


def compose(
    rng: np.random.Generator, background: Pixels, cutouts: Sequence[Pixels], sizes: tuple[float, float] = (0.18, 0.7)
) -> tuple[Pixels, list[Placed]]:
    """Lays the cut-outs over the background, the last one in front.

    Args:
        rng: decides sizes, places, mirroring, light and shadows.
        background: uint8 [h, w, 3]; not changed.
        cutouts: uint8 [., ., 4] each, straight alpha.
        sizes: least and greatest longer side of an object, as shares of the picture's shorter side.

    Returns:
        uint8 [h, w, 3], and the objects that found a place, in the order of `cutouts`.
    """
    picture = background.astype(np.float32)
    height, width = background.shape[:2]
    layers: list[_Layer] = []
    for index, cutout in enumerate(cutouts):
        for _ in range(TRIES):
            layer = _sized(rng, cutout, rng.uniform(*sizes) * min(height, width))
            spot = _spot(rng, layer.shape[:2], (height, width))
            alpha = _laid(layer[..., 3], spot, (height, width))
            if _fits(alpha, layers):
                _paint(rng, picture, layer, alpha, spot)
                _hide(layers, alpha)
                seen = alpha >= VISIBLE_ALPHA
                layers.append(_Layer(index, seen, int(seen.sum())))
                break
    placed = [_placed(layer) for layer in layers]
    return np.rint(np.clip(picture, 0, 255)).astype(np.uint8), placed


def box_of(mask: Mask) -> tuple[int, int, int, int]:
    """The bounding box of what is set, (0, 0, 0, 0) where nothing is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _sized(rng: np.random.Generator, cutout: Pixels, longer: float) -> NDArray[np.float32]:
    """The cut-out at its size in the scene, mirrored half of the time: float32 [h, w, 4], alpha in 0..1."""
    height, width = cutout.shape[:2]
    scale = longer / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # Pillow weighs colours by alpha while it resizes RGBA, so that no dark rim appears.
    layer = np.asarray(Image.fromarray(cutout).resize(size, Image.Resampling.BILINEAR), np.float32)
    layer = layer[:, ::-1] if rng.random() < 0.5 else layer
    return np.concatenate([layer[..., :3], layer[..., 3:] / 255], axis=2)


def _spot(rng: np.random.Generator, layer: tuple[int, int], scene: tuple[int, int]) -> tuple[int, int]:
    """Top and left of the layer: up to an eighth of it may lie beyond an edge."""
    spots = []
    for own, whole in zip(layer, scene, strict=True):
        beyond = own // 8
        low, high = -beyond, whole - own + beyond
        spots.append(int(rng.integers(min(low, high), max(low, high) + 1)))
    return spots[0], spots[1]


def _laid(values: NDArray[np.float32], spot: tuple[int, int], scene: tuple[int, int]) -> NDArray[np.float32]:
    """The layer's plane on the scene's grid, zero around it."""
    plane = np.zeros(scene, np.float32)
    target, source = _overlap(values.shape, spot, scene)
    plane[target] = values[source]
    return plane


def _overlap(
    layer: tuple[int, ...], spot: tuple[int, int], scene: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    ranges = [
        (max(start, 0), min(start + own, whole), start) for own, start, whole in zip(layer, spot, scene, strict=True)
    ]
    target = slice(ranges[0][0], ranges[0][1]), slice(ranges[1][0], ranges[1][1])
    source = tuple(slice(low - start, high - start) for low, high, start in ranges)
    return target, (source[0], source[1])


def _fits(alpha: NDArray[np.float32], layers: Sequence[_Layer]) -> bool:
    x0, y0, x1, y1 = box_of(alpha >= VISIBLE_ALPHA)
    if min(x1 - x0, y1 - y0) < MIN_BOX_SIDE:
        return False
    hiding = alpha >= OPAQUE_ALPHA
    for layer in layers:
        left = layer.seen & ~hiding
        x0, y0, x1, y1 = box_of(left)
        if left.sum() < (1 - MAX_HIDDEN) * layer.alone or min(x1 - x0, y1 - y0) < MIN_BOX_SIDE:
            return False
    return True


def _hide(layers: Sequence[_Layer], alpha: NDArray[np.float32]) -> None:
    for layer in layers:
        layer.seen &= alpha < OPAQUE_ALPHA


def _paint(
    rng: np.random.Generator,
    picture: NDArray[np.float32],
    layer: NDArray[np.float32],
    alpha: NDArray[np.float32],
    spot: tuple[int, int],
) -> None:
    """Lays a soft shadow, then the object with its light varied; `picture` is changed."""
    if rng.random() < 0.6:
        _shade(rng, picture, alpha)
    gain, lift = rng.uniform(0.75, 1.2) * rng.uniform(0.88, 1.12, 3), rng.uniform(-15, 15)
    target, source = _overlap(layer.shape[:2], spot, (picture.shape[0], picture.shape[1]))
    part = layer[source]
    weight = part[..., 3:]
    picture[target] = picture[target] * (1 - weight) + np.clip(part[..., :3] * gain + lift, 0, 255) * weight


def _shade(rng: np.random.Generator, picture: NDArray[np.float32], alpha: NDArray[np.float32]) -> None:
    reach = max(2, int(0.04 * min(alpha.shape)))
    offset = int(rng.integers(-reach, reach + 1)), int(rng.integers(0, reach + 1))
    shadow = Image.fromarray(np.rint(alpha * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(reach))
    moved = np.zeros_like(alpha)
    target, source = _overlap(alpha.shape, (offset[1], offset[0]), (alpha.shape[0], alpha.shape[1]))
    moved[target] = np.asarray(shadow, np.float32)[source] / 255
    picture *= 1 - rng.uniform(0.15, 0.45) * moved[..., None]


def _placed(layer: _Layer) -> Placed:
    area = int(layer.seen.sum())
    return Placed(layer.index, box_of(layer.seen), area, round(area / layer.alone, 4))
