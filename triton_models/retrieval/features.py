"""Features of the pictures of a data set, by networks and by the floor that every network must beat: plain pixels.

One pass of a network gives all of its layers that are asked for. Broken pictures are listed and left out everywhere, so
that every representation is judged on the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triton_models.data.manifest import Labelled
from triton_models.data.problems import Problem
from triton_models.embedders.catalogue import embedder_spec
from triton_models.embedders.pictures import Pixels, batches

Floats = NDArray[np.float32]
Progress = Callable[[str, int, int], None]
PIXELS = "pixels"
PIXEL_SIDE = 32


@dataclass(frozen=True)
class Asked:
    """A representation to evaluate: an embedder of the catalogue, or "pixels", and where its weights come from."""

    name: str
    weights: str = "default"

    @classmethod
    def parse(cls, text: str) -> Asked:
        """As a command line has it: NAME or NAME=WEIGHTS.

        Raises:
            Misconfigured: there is no such embedder.
        """
        name, _, weights = text.partition("=")
        if name != PIXELS:
            embedder_spec(name)
        return cls(name, weights or "default")


@dataclass(frozen=True)
class Extracted:
    """Features of one representation.

    Attributes:
        asked: what it is.
        features: float32 [n, d], of the pictures in order.
        origin: which weights, for people.
        trained: whether somebody trained them.
        thresholds: stored with the weights, or None.
        seconds: that the extraction took, decoding included, its network's other layers too.
    """

    asked: Asked
    features: Floats
    origin: str
    trained: bool
    thresholds: Floats | None
    seconds: float


class Extractor:
    """One network with the layers that are asked for, or the pixels."""

    def __init__(self, asked: Sequence[Asked], cache: Path, seed: int, device: str = "auto") -> None:
        self.asked = list(asked)
        if self.asked[0].name == PIXELS:
            self.side, self.origin, self.trained = PIXEL_SIDE, "no network: 32 x 32 pixels", True
            self._run: Callable[[Pixels], dict[str, Floats]] = _pixels
            self.thresholds: dict[str, Floats] = {}
            return
        self._with_network(cache, seed, device)

    def _with_network(self, cache: Path, seed: int, device: str) -> None:
        import torch  # noqa: PLC0415  takes seconds to import

        from triton_models.embedders.weights import load  # noqa: PLC0415
        from triton_models.training.loop import device_of  # noqa: PLC0415

        specs = [embedder_spec(one.name) for one in self.asked]
        loaded = load(specs[0].architecture, self.asked[0].weights, cache=cache, seed=seed)
        place = device_of(device)
        network = loaded.network.to(place)
        self.side, self.origin, self.trained = loaded.side, loaded.origin.text, loaded.origin.trained
        self.thresholds = {
            spec.name: loaded.thresholds[spec.layer].numpy() for spec in specs if spec.layer in loaded.thresholds
        }

        def run(images: Pixels) -> dict[str, Floats]:
            with torch.inference_mode():
                found = network.features(torch.from_numpy(images).to(place), [spec.layer for spec in specs])
            return {spec.name: found[spec.layer].float().cpu().numpy() for spec in specs}

        self._run = run

    def images(self, images: Pixels, batch: int = 32) -> dict[str, Floats]:
        """Features of uint8 [n, side, side, 3], by name."""
        parts = [self._run(images[start : start + batch]) for start in range(0, len(images), batch)]
        return {one.name: np.concatenate([part[one.name] for part in parts]) for one in self.asked}

    def pictures(
        self, pictures: Sequence[Labelled], batch: int, problems: list[Problem], progress: Progress
    ) -> tuple[dict[str, Floats], list[int]]:
        """Features of a data set's pictures, by name, and the places of those that could be decoded."""
        parts: dict[str, list[Floats]] = {one.name: [] for one in self.asked}
        kept: list[int] = []
        for places, images in batches(pictures, self.side, batch, problems):
            for name, rows in self._run(images).items():
                parts[name].append(rows)
            kept += places
            progress(self.asked[0].name, len(kept), len(pictures))
        return {name: np.concatenate(rows) for name, rows in parts.items()}, kept


def _pixels(images: Pixels) -> dict[str, Floats]:
    return {PIXELS: images.reshape(len(images), -1).astype(np.float32)}


def grouped(asked: Sequence[Asked]) -> list[list[Asked]]:
    """Representations that come out of the same pass: the same architecture with the same weights."""
    groups: dict[tuple[str, str], list[Asked]] = {}
    for one in asked:
        architecture = PIXELS if one.name == PIXELS else embedder_spec(one.name).architecture
        groups.setdefault((architecture, one.weights), []).append(one)
    return list(groups.values())
