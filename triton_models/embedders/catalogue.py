"""Every embedder by name: its network, which of its layers, how many features, and what that layer's values are.

Features of fc6 and fc7 are taken before their ReLU, as section 4 speaks of negative activations; their codes are
the same on either side of it. This module imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dotstream.errors import Misconfigured

Values = Literal["before relu", "averaged relu", "linear"]


@dataclass(frozen=True)
class EmbedderSpec:
    """One feature.

    Attributes:
        name: "<architecture>_<layer>", or the architecture alone where it has one layer; as commands name it.
        architecture: of networks.py.
        layer: the paper's name of the layer.
        dimension: features of a picture.
        side: of the square picture that the published weights were trained on, pixels.
        values: "before relu": what a ReLU gets, of either sign; "averaged relu": means over the picture of what comes
            out of one, never negative; "linear": a classifier's scores.
    """

    name: str
    architecture: str
    layer: str
    dimension: int
    side: int
    values: Values

    @property
    def bits(self) -> int:
        """Of a code: one for each feature."""
        return self.dimension


def _spec(architecture: str, layer: str, dimension: int, values: Values) -> EmbedderSpec:
    return EmbedderSpec(f"{architecture}_{layer}", architecture, layer, dimension, 224, values)


_SPECS = (
    _spec("alexnet", "fc6", 4096, "before relu"),
    _spec("alexnet", "fc7", 4096, "before relu"),
    _spec("alexnet", "fc8", 1000, "linear"),
    _spec("googlenet", "loss3", 1000, "linear"),
    _spec("vgg16", "fc6", 4096, "before relu"),
    _spec("vgg16", "fc7", 4096, "before relu"),
    _spec("vgg16", "fc8", 1000, "linear"),
    _spec("resnet101", "pool5", 2048, "averaged relu"),
    _spec("resnet101", "fc1000", 1000, "linear"),
    _spec("resnet152", "pool5", 2048, "averaged relu"),
    _spec("resnet152", "fc1000", 1000, "linear"),
    EmbedderSpec("efficientnet_lite0", "efficientnet_lite0", "pooled", 1280, 224, "averaged relu"),
    _spec("efficientnet_lite0", "fc1000", 1000, "linear"),
    EmbedderSpec("mobilenet_v2", "mobilenet_v2", "pooled", 1280, 300, "averaged relu"),
)
EMBEDDERS = {spec.name: spec for spec in _SPECS}
"""Name -> embedder, in the order of the paper's Table 1. A fine-tuned network's classifier has its own classes."""

ARCHITECTURES = tuple(dict.fromkeys(spec.architecture for spec in _SPECS))
PACKAGED = ("efficientnet_lite0", "mobilenet_v2")
"""Architectures whose weights a registry package carries. The second is the packaged detector's trunk: it has no
classifier and cannot be fine-tuned here, but shows on real weights what becomes of averages of a ReLU."""


def embedder_spec(name: str) -> EmbedderSpec:
    """The embedder of that name.

    Raises:
        Misconfigured: there is none.
    """
    if name not in EMBEDDERS:
        raise Misconfigured(f"no embedder {name!r}; there are {', '.join(EMBEDDERS)}")
    return EMBEDDERS[name]


def specs_of(architecture: str) -> list[EmbedderSpec]:
    """The embedders that come out of one pass of a network.

    Raises:
        Misconfigured: there is no such network.
    """
    found = [spec for spec in _SPECS if spec.architecture == architecture]
    if not found:
        raise Misconfigured(f"no architecture {architecture!r}; there are {', '.join(ARCHITECTURES)}")
    return found
