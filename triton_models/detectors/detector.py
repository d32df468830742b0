"""What every detector is to training, evaluation and export: losses on pictures with truths, answers on pictures.

All take pictures as they are served: uint8 [N, S, S, 3] RGB, 0..255, stretched to the detector's size. Normalisation is
the network's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from triton_models.detectors.spec import DetectorSpec
from triton_models.detectors.suppression import Found


@dataclass(frozen=True)
class Truth:
    """What is in one picture.

    Attributes:
        boxes: float32 [m, 4], x0, y0, x1, y1 in 0..1 of the picture; m may be 0.
        labels: int64 [m], place in the detector's labels.
    """

    boxes: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> Truth:
        """The same on a device."""
        return Truth(self.boxes.to(device), self.labels.to(device))


class Detector(nn.Module):
    """The common face of all architectures. Subclasses give `losses` and `detect`."""

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.spec = spec

    def losses(self, images: Tensor, truths: Sequence[Truth]) -> dict[str, Tensor]:
        """The parts of the loss, by name; their sum is what training minimises. In training mode only."""
        raise NotImplementedError

    def detect(self, images: Tensor) -> Found:
        """What is in the pictures. In evaluation mode, without gradients."""
        raise NotImplementedError


def planes_of(images: Tensor) -> Tensor:
    """uint8 [N, S, S, 3] as float32 [N, 3, S, S], still 0..255."""
    return images.permute(0, 3, 1, 2).float()
