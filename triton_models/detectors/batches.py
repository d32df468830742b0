"""Batches for training: which picture comes when, how it is changed, and the tensors of it.

Everything follows from the seed and the number of the draw: the same step gets the same batch whatever the number of
loader processes, and a training that goes on from a checkpoint meets the pictures that it would have met.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import tv_tensors
from torchvision.transforms import v2

from triton_models.detectors.dataset import Sample
from triton_models.detectors.detector import Truth
from triton_models.pixels import resize

LEAST_SIDE = 0.01  # of the picture; what a crop leaves thinner is no object any more


@dataclass(frozen=True)
class Batch:
    """Pictures uint8 [N, S, S, 3] and what is in each."""

    images: Tensor
    truths: tuple[Truth, ...]


class Draws(Dataset[tuple[Tensor, Truth]]):
    """Training's pictures by the number of the draw: every epoch is a new permutation of the set.

    Args:
        samples: the set.
        size: side of the picture that the detector takes.
        seed: of order and changes.
        augment: zoom out, cut out, mirror and recolour at random, as SSD's training does; else pictures as they are.
    """

    def __init__(self, samples: Sequence[Sample], size: int, *, seed: int, augment: bool) -> None:
        self._samples = samples
        self._size = size
        self._seed = seed
        self._change = _changes() if augment else v2.Identity()
        self._epoch = (-1, np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, draw: int) -> tuple[Tensor, Truth]:
        sample = self._samples[self.chosen(draw)]
        pixels = torch.from_numpy(np.array(sample.pixels())).permute(2, 0, 1)
        kept = torch.from_numpy(~sample.crowd)
        boxes, labels = torch.from_numpy(sample.boxes)[kept], torch.from_numpy(sample.labels)[kept]
        pixels, boxes, labels = self._changed(pixels, boxes, labels, draw)
        height, width = pixels.shape[1:]
        image = torch.from_numpy(np.array(resize(np.ascontiguousarray(pixels.permute(1, 2, 0)), self._size)))
        shares = boxes.float() / torch.tensor([width, height, width, height])
        large = ((shares[:, 2:] - shares[:, :2]) >= LEAST_SIDE).all(dim=1)
        return image, Truth(shares[large], labels[large])

    def chosen(self, draw: int) -> int:
        """The sample of a draw."""
        epoch, place = divmod(draw, len(self._samples))
        if self._epoch[0] != epoch:
            self._epoch = (epoch, np.random.default_rng((self._seed, epoch)).permutation(len(self._samples)))
        return int(self._epoch[1][place])

    def _changed(self, pixels: Tensor, boxes: Tensor, labels: Tensor, draw: int) -> tuple[Tensor, Tensor, Tensor]:
        height, width = int(pixels.shape[1]), int(pixels.shape[2])
        marked = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.default_rng((self._seed, 1, draw)).integers(2**62)))
            image, boxes, labels = self._change(tv_tensors.Image(pixels), marked, labels)
        return image.as_subclass(Tensor), boxes.as_subclass(Tensor), labels


def _changes() -> v2.Transform:
    return v2.Compose(
        [
            v2.RandomPhotometricDistort(p=0.5),
            v2.RandomZoomOut(fill=[124.0, 116.0, 104.0], side_range=(1.0, 2.5), p=0.3),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(),
            v2.SanitizeBoundingBoxes(labels_getter=lambda parts: parts[2]),
        ]
    )


class _Order(Sampler[list[int]]):
    """The numbers of the draws of each step, from a step on."""

    def __init__(self, first: int, steps: int, batch: int) -> None:
        self._range = range(first, steps)
        self._batch = batch

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._range:
            yield list(range(step * self._batch, (step + 1) * self._batch))

    def __len__(self) -> int:
        return len(self._range)


def batches(draws: Draws, *, first: int, steps: int, batch: int, workers: int) -> DataLoader[Any]:
    """The `Batch`es of steps `first` to `steps` - 1, loaded by `workers` processes (0: by this one)."""
    return DataLoader(
        draws,
        batch_sampler=_Order(first, steps, batch),
        num_workers=workers,
        collate_fn=_collated,
        generator=torch.Generator(),  # else the loader draws from the training's, and going on would differ
    )


def _collated(rows: list[tuple[Tensor, Truth]]) -> Batch:
    return Batch(torch.stack([image for image, _ in rows]), tuple(truth for _, truth in rows))
