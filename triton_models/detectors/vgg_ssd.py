"""SSD on VGG16 at 290 x 290 (section 5 of the paper): the network and its anchors.

Trunk and heads follow the original SSD: conv4_3 with a learned scale of its normalised features, fc6 and fc7 as
convolutions (fc6 dilated by 6), then four blocks of additional layers, six maps in all. The original halves the map in
the additional layers to see large objects; the paper keeps stride 1, which places boxes better at 0.7 IoU. At 290:

    extra_stride   maps (cells on a side)      anchors
    1              36, 18, 18, 18, 16, 14      12,824
    2              36, 18,  9,  5,  3,  1       7,804
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import vgg16

from triton_models.detectors.detector import planes_of

MEAN = (123.675, 116.28, 103.53)
SPREAD = (58.395, 57.12, 57.375)
RATIOS = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))
SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
CHANNELS = (512, 1024, 512, 256, 256, 256)
_CONV4_3 = 23  # layers of torchvision's VGG16 up to the ReLU behind conv4_3


class VggSsd(nn.Module):
    """uint8 [N, S, S, 3] -> encodings [N, A, 4] and logits [N, A, 1 + C].

    Args:
        classes: C, the background not counted.
        extra_stride: 1 or 2.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, classes: int, extra_stride: int) -> None:
        super().__init__()
        layers = list(vgg16().features)
        self.lower = nn.Sequential(*layers[:_CONV4_3])
        self.scale = nn.Parameter(torch.full((512,), 20.0))
        self.upper = nn.Sequential(*layers[_CONV4_3:-1], nn.MaxPool2d(3, stride=1, padding=1), *_fully_connected())
        self.extra = nn.ModuleList(_extra_layers(extra_stride))
        counts = [2 + 2 * len(ratios) for ratios in RATIOS]
        self.places = nn.ModuleList(nn.Conv2d(c, 4 * n, 3, padding=1) for c, n in zip(CHANNELS, counts, strict=True))
        self.kinds = nn.ModuleList(
            nn.Conv2d(c, (1 + classes) * n, 3, padding=1) for c, n in zip(CHANNELS, counts, strict=True)
        )
        self.classes = classes
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(SPREAD).view(1, 3, 1, 1), persistent=False)
        for module in (self.extra, self.places, self.kinds):
            module.apply(_initialise)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The six feature maps, finest first, each [N, channels, cells, cells]."""
        lower = self.lower((planes_of(images) - self.mean) / self.spread)
        maps = [functional.normalize(lower, dim=1) * self.scale.view(1, -1, 1, 1)]
        value = self.upper(lower)
        maps.append(value)
        for block in self.extra:
            value = block(value)
            maps.append(value)
        return maps

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.maps(images)
        places = [rows_of(head(value), 4) for head, value in zip(self.places, maps, strict=True)]
        kinds = [rows_of(head(value), 1 + self.classes) for head, value in zip(self.kinds, maps, strict=True)]
        return torch.cat(places, dim=1), torch.cat(kinds, dim=1)


def rows_of(value: Tensor, columns: int) -> Tensor:
    """A head's map [N, anchors x columns, H, W] as [N, H x W x anchors, columns]."""
    return value.permute(0, 2, 3, 1).reshape(value.shape[0], -1, columns)


def grids(size: int, extra_stride: int) -> tuple[int, ...]:
    """Cells on a side of each map for pictures of `size` pixels."""
    fine = size // 8
    cells = [fine, fine // 2]
    for padding, stride in ((1, extra_stride), (1, extra_stride), (0, 1), (0, 1)):
        cells.append((cells[-1] + 2 * padding - 3) // stride + 1)
    return tuple(cells)


def default_boxes(size: int, extra_stride: int) -> Tensor:
    """The anchors [A, 4] in the order of the heads: centre y, centre x, height, width as shares of the picture.

    Every cell has a square of the map's scale, one between this scale and the next, and two boxes for each ratio.
    """
    rows: list[tuple[float, float, float, float]] = []
    for layer, cells in enumerate(grids(size, extra_stride)):
        scale, between = SCALES[layer], math.sqrt(SCALES[layer] * SCALES[layer + 1])
        sides = [(scale, scale), (between, between)]
        for ratio in RATIOS[layer]:
            long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            sides += [(short, long), (long, short)]
        steps = [(step + 0.5) / cells for step in range(cells)]
        rows += [(y, x, height, width) for y in steps for x in steps for height, width in sides]
    return torch.tensor(rows, dtype=torch.float32)


def _fully_connected() -> list[nn.Module]:
    """fc6 and fc7 as convolutions."""
    return [
        nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
        nn.ReLU(inplace=True),
        nn.Conv2d(1024, 1024, 1),
        nn.ReLU(inplace=True),
    ]


def _extra_layers(stride: int) -> list[nn.Sequential]:
    """Four blocks that narrow and then look around; the last two without padding, as the original."""
    widths = ((1024, 256, 512, stride, 1), (512, 128, 256, stride, 1), (256, 128, 256, 1, 0), (256, 128, 256, 1, 0))
    return [
        nn.Sequential(
            nn.Conv2d(before, narrow, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(narrow, after, 3, stride=step, padding=padding),
            nn.ReLU(inplace=True),
        )
        for before, narrow, after, step, padding in widths
    ]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
