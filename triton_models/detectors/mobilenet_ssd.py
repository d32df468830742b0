"""SSD on MobileNetV2 at 300 x 300: the packaged light detector as a trainable torch network.

Same architecture as the TensorFlow Lite file that the package carries, whose batch normalisation is folded into the
convolutions: every convolution has a bias and none is normalised. Training goes on from the packaged weights;
without them it would hardly start. Maps of 19, 10, 5, 3, 2 and 1 cells, 1,917 anchors (triton_models/anchors.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from triton_models.detectors.detector import planes_of
from triton_models.detectors.vgg_ssd import rows_of

# One row for each residual block behind the first: channels, stride.
_BLOCKS = (
    *((24, 2), (24, 1)),
    *((32, 2), (32, 1), (32, 1)),
    *((64, 2), (64, 1), (64, 1), (64, 1)),
    *((96, 1), (96, 1), (96, 1)),
    *((160, 2), (160, 1), (160, 1)),
    (320, 1),
)
_FINEST = 12  # the first map is taken inside this block, behind its expansion
_EXTRA = ((256, 512), (128, 256), (128, 256), (64, 128))
_EXPANSION = 6
CHANNELS = (576, 1280, *(wide for _, wide in _EXTRA))
ANCHORS = (3, 6, 6, 6, 6, 6)


class SamePadded(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: the odd pixel goes behind. Followed by ReLU6 where asked."""

    def __init__(
        self, before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True
    ) -> None:
        super().__init__(before, after, kernel, stride=stride, groups=groups)
        self.relu = relu

    def forward(self, value: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads: list[int] = []
        for size in (value.shape[3], value.shape[2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        result = super().forward(functional.pad(value, pads) if any(pads) else value)
        return functional.relu6(result) if self.relu else result


class Block(nn.Module):
    """An inverted residual: widen by six, look around channel by channel, narrow; added to its input where they fit."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        wide = before * _EXPANSION
        self.expand = SamePadded(before, wide, 1)
        self.depthwise = SamePadded(wide, wide, 3, stride=stride, groups=wide)
        self.project = SamePadded(wide, after, 1, relu=False)
        self.adds = stride == 1 and before == after

    def forward(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The block's result, and its widened input, on which the finest head looks."""
        wide = self.expand(value)
        result = self.project(self.depthwise(wide))
        return (value + result if self.adds else result), wide


class MobilenetSsd(nn.Module):
    """uint8 [N, 300, 300, 3] -> encodings [N, 1917, 4] and logits [N, 1917, 1 + C], background first."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.stem = nn.Sequential(
            SamePadded(3, 32, 3, stride=2), SamePadded(32, 32, 3, groups=32), SamePadded(32, 16, 1, relu=False)
        )
        widths = [16, *(after for after, _ in _BLOCKS)]
        self.blocks = nn.ModuleList(
            Block(before, after, stride) for before, (after, stride) in zip(widths, _BLOCKS, strict=False)
        )
        self.last = SamePadded(widths[-1], CHANNELS[1], 1)
        befores = (CHANNELS[1], *(wide for _, wide in _EXTRA[:-1]))
        self.extra = nn.ModuleList(
            nn.Sequential(SamePadded(before, narrow, 1), SamePadded(narrow, wide, 3, stride=2))
            for before, (narrow, wide) in zip(befores, _EXTRA, strict=True)
        )
        pairs = list(zip(CHANNELS, ANCHORS, strict=True))
        self.places = nn.ModuleList(SamePadded(channels, 4 * count, 1, relu=False) for channels, count in pairs)
        self.kinds = nn.ModuleList(
            SamePadded(channels, (1 + classes) * count, 1, relu=False) for channels, count in pairs
        )

    def maps(self, images: Tensor) -> list[Tensor]:
        """The six feature maps, finest first."""
        value = self.stem(planes_of(images) / 127.5 - 1.0)
        maps = []
        for number, block in enumerate(self.blocks):
            value, wide = block(value)
            if number == _FINEST:
                maps.append(wide)
        value = self.last(value)
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

    def convolutions(self) -> Iterator[SamePadded]:
        """Every convolution in the order in which the packaged file runs them: each head behind its map."""
        yield from (module for module in self.stem if isinstance(module, SamePadded))
        for number, block in enumerate(cast("list[Block]", self.blocks)):
            yield block.expand
            if number == _FINEST:
                yield from self._heads(0)
            yield block.depthwise
            yield block.project
        yield self.last
        yield from self._heads(1)
        for number, pair in enumerate(self.extra):
            yield from (module for module in pair.children() if isinstance(module, SamePadded))
            yield from self._heads(number + 2)

    def _heads(self, layer: int) -> Iterator[SamePadded]:
        yield cast("SamePadded", self.places[layer])
        yield cast("SamePadded", self.kinds[layer])


def adapt_classes(network: MobilenetSsd, packaged: MobilenetSsd, sources: list[int | None]) -> None:
    """Fills the class heads of a network of other classes from the packaged one.

    A new class starts from the packaged class named for it (its column) or, where there is none, from the background's
    weights turned round ("something is here"); the background keeps its own. Everything but the class heads must have
    been copied already.

    Args:
        network: takes the weights.
        packaged: with its own classes.
        sources: for each class of `network` the packaged class, or None.
    """
    columns = [0, *(0 if source is None else source + 1 for source in sources)]
    for layer, count in enumerate(ANCHORS):
        ours, theirs = network.kinds[layer], packaged.kinds[layer].state_dict()
        weight = theirs["weight"].view(count, 1 + packaged.classes, -1)[:, columns].clone()
        bias = theirs["bias"].view(count, 1 + packaged.classes)[:, columns].clone()
        for place, source in enumerate(sources, 1):
            if source is None:
                weight[:, place] *= -1.0
                bias[:, place] *= -1.0
        ours.load_state_dict({"weight": weight.flatten(0, 1)[..., None, None], "bias": bias.flatten()})
