"""Median thresholds of a layer from a sample of pictures: every bit is then set for half of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dotstream.errors import Misconfigured
from triton_models.data.manifest import read_labelled
from triton_models.data.problems import summary
from triton_models.data.seeds import shuffled
from triton_models.embedders.codes import medians
from triton_models.embedders.pictures import batches
from triton_models.embedders.weights import Loaded

SAMPLE = 16


@dataclass(frozen=True)
class Calibration:
    """Thresholds, what they were taken from, and a few of the pictures.

    Attributes:
        thresholds: layer -> float32 [d].
        said: for people.
        sample: uint8 [n, side, side, 3].
    """

    thresholds: dict[str, NDArray[np.float32]]
    said: str
    sample: NDArray[np.uint8]


def calibrated(loaded: Loaded, layers: Sequence[str], source: Path, count: int, batch: int = 32) -> Calibration:
    """Takes the medians of each layer over at most `count` pictures, of the split "train" where the data has splits.

    Raises:
        Misconfigured: fewer than two pictures can be used.
    """
    pictures, problems = read_labelled(source)
    if any(picture.split for picture in pictures):
        pictures = [picture for picture in pictures if picture.split == "train"]
    by_path = {str(picture.path): picture for picture in pictures}
    chosen = [by_path[path] for path in shuffled(0, list(by_path), "calibration")[:count]]
    rows: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in layers}
    read = 0
    sample: NDArray[np.uint8] | None = None
    for _, images in batches(chosen, loaded.side, batch, problems):
        sample = images[:SAMPLE] if sample is None else sample
        with torch.inference_mode():
            for layer, values in loaded.network.features(torch.from_numpy(images), layers).items():
                rows[layer].append(values.numpy())
        read += len(images)
    if sample is None or read < 2:
        raise Misconfigured(f"{source}: {read} pictures can be used, two are needed; left out: {summary(problems)}")
    name = "/".join(source.resolve().parts[-2:])
    found = {layer: medians(np.concatenate(parts)) for layer, parts in rows.items()}
    said = f"{read} pictures of {name}" + (f", {len(problems)} left out" if problems else "")
    return Calibration(found, said, sample)
