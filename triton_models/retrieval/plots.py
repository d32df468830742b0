"""The paper's Figures 5 and 6 as pictures: white noise against pictures, and a map of a data set by its codes.

Positions come from scikit-learn's t-SNE over exact distances. Both libraries belong to optional groups.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dotstream.errors import Misconfigured
from triton_models.data.manifest import Labelled
from triton_models.data.seeds import generator
from triton_models.embedders.codes import pack
from triton_models.embedders.pictures import square
from triton_models.retrieval.distances import Distance, pairwise

MAP_SIDE, THUMBNAIL = 1600, 40


@dataclass(frozen=True)
class NoiseSeparation:
    """How well one representation tells white noise from pictures.

    Attributes:
        raw: share of (noise, picture) pairs in which the noise is farther from its nearest picture than the picture is
            from its own nearest; 0.5 is chance, 1 is always (an area under the curve). By L2 over raw features.
        binary: the same by Hamming distance over codes.
    """

    raw: float
    binary: float


def noise_images(count: int, side: int, seed: int) -> NDArray[np.uint8]:
    """White noise: uint8 [count, side, side, 3]."""
    return generator(seed, "noise").integers(0, 256, (count, side, side, 3), np.uint8)


def noise_plot(  # noqa: PLR0917  both sides of the figure
    path: Path,
    title: str,
    features: NDArray[np.float32],
    noise: NDArray[np.float32],
    labels: Sequence[str],
    thresholds: NDArray[np.float32] | None,
) -> NoiseSeparation:
    """Draws Figure 5: raw features on the left, codes on the right, noise in black; and measures what it shows.

    Args:
        path: of the PNG.
        title: says which model, weights and data.
        features: of pictures, [n, d].
        noise: of white noise, [m, d].
        labels: of the pictures.
        thresholds: of the codes; None for the sign.

    Raises:
        Misconfigured: matplotlib or scikit-learn is not installed.
    """
    both = np.concatenate([features, noise])
    codes = pack(both, thresholds)
    away: list[tuple[str, NDArray[Any]]] = [
        ("raw, L2", np.sqrt(pairwise(both, both, "L2"))),
        ("binary, Hamming", pairwise(codes, codes, "Hamming").astype(np.float64)),
    ]
    figure, axes = _figure(title, len(away))
    colours = {label: number for number, label in enumerate(sorted(set(labels)))}
    for axis, (name, distances) in zip(axes, away, strict=True):
        spots = _positions(distances)
        real = spots[: len(features)]
        axis.scatter(real[:, 0], real[:, 1], c=[colours[label] for label in labels], cmap="turbo", s=8)
        axis.scatter(spots[len(features) :, 0], spots[len(features) :, 1], c="black", s=8)
        axis.set_title(f"{name}: noise told apart in {_separation(distances, len(features)):.2f} of pairs")
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(path, dpi=100)
    return NoiseSeparation(*(_separation(distances, len(features)) for _, distances in away))


def embedding_plot(path: Path, pictures: Sequence[Labelled], values: NDArray[Any], distance: Distance) -> int:
    """Draws Figure 6: the pictures themselves, each near the place that t-SNE gives it; returns how many are shown.

    Args:
        path: of the PNG.
        pictures: of the values.
        values: features or codes, [n, d].
        distance: between them.

    Raises:
        Misconfigured: scikit-learn is not installed.
    """
    spots = _positions(pairwise(values, values, distance).astype(np.float64))
    spots = (spots - spots.min(axis=0)) / np.maximum(np.ptp(spots, axis=0), 1e-9)
    cells = MAP_SIDE // THUMBNAIL
    canvas = np.full((MAP_SIDE, MAP_SIDE, 3), 255, np.uint8)
    taken: set[tuple[int, int]] = set()
    for picture, spot in zip(pictures, spots, strict=True):
        column, row = (int(part) for part in np.minimum(spot * cells, cells - 1))
        if (row, column) in taken:
            continue
        taken.add((row, column))
        top, left = row * THUMBNAIL, column * THUMBNAIL
        canvas[top : top + THUMBNAIL, left : left + THUMBNAIL] = square(picture.path, THUMBNAIL)
    Image.fromarray(canvas).save(path)
    return len(taken)


def _separation(distances: NDArray[Any], real: int) -> float:
    """The area under the curve of "farther from the nearest picture means noise"."""
    to_real = distances[:, :real].astype(np.float64).copy()
    to_real[np.arange(real), np.arange(real)] = np.inf
    nearest = to_real.min(axis=1)
    pictures, noise = nearest[:real], nearest[real:]
    above = (noise[:, None] > pictures[None, :]).mean()
    level = (noise[:, None] == pictures[None, :]).mean()
    return float(above + level / 2)


def _positions(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        from sklearn.manifold import TSNE  # noqa: PLC0415  an optional group
    except ModuleNotFoundError as error:
        raise Misconfigured("plots need scikit-learn: uv sync --group demo") from error
    perplexity = max(2.0, min(30.0, (len(distances) - 1) / 3))
    layout = TSNE(metric="precomputed", init="random", random_state=0, perplexity=perplexity, n_jobs=1)
    return np.asarray(layout.fit_transform(distances), np.float64)


def _figure(title: str, panels: int) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  an optional group
    except ModuleNotFoundError as error:
        raise Misconfigured("plots need matplotlib: uv sync --group data") from error
    figure = Figure(figsize=(7 * panels, 7.4), layout="constrained")
    figure.suptitle(textwrap.fill(title, 110))
    return figure, figure.subplots(1, panels)
