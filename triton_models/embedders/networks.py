"""The networks as torch modules with one interface: bytes of pictures in, features of any of their layers out.

AlexNet, GoogLeNet, VGG16 and the ResNets are torchvision's; EfficientNet-Lite0 is its PyPI package's. Normalisation is
inside, so that training, evaluation and the served file take the same bytes: uint8 RGB, stretched to a square.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from dotstream.errors import Misconfigured
from triton_models.detectors.mobilenet_ssd import MobilenetSsd
from triton_models.detectors.packaged import packaged_labels
from triton_models.embedders.catalogue import ARCHITECTURES, specs_of

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_SPREAD = (58.395, 57.12, 57.375)
IMAGENET_CLASSES = 1000


class Network(nn.Module):
    """A classifier whose layers give features.

    Args:
        architecture: one of the catalogue's.
        classes: of its last layer.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, architecture: str, classes: int = IMAGENET_CLASSES) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise Misconfigured(f"no architecture {architecture!r}; there are {', '.join(ARCHITECTURES)}")
        self.architecture = architecture
        self.classes = classes
        self.body: Any = _body(architecture, classes)
        light = architecture == "efficientnet_lite0"
        self.register_buffer("mean", torch.tensor((127.0,) * 3 if light else IMAGENET_MEAN), persistent=False)
        self.register_buffer("spread", torch.tensor((128.0,) * 3 if light else IMAGENET_SPREAD), persistent=False)

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(spec.layer for spec in specs_of(self.architecture))

    def forward(self, image: Tensor) -> Tensor:
        """Scores float32 [n, classes] of uint8 pictures [n, side, side, 3]; what training uses, dropout included."""
        scores: Tensor = self.body(self._planes(image))
        return scores

    def features(self, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Features float32 [n, dimension] of each of the layers, by one pass. Call it in evaluation mode.

        Args:
            image: uint8 [n, side, side, 3], RGB.
            layers: of this network.
        """
        planes = self._planes(image)
        if self.architecture in {"alexnet", "vgg16"}:
            found = self._fully_connected(planes)
        elif self.architecture == "googlenet":
            found = {"loss3": self.body(planes)}
        elif self.architecture == "mobilenet_v2":
            found = {"pooled": self.body.maps(image)[TRUNK_END].mean(dim=(2, 3))}
        elif self.architecture == "efficientnet_lite0":
            pooled = self.body.extract_features(planes).mean(dim=(2, 3))
            found = {"pooled": pooled, "fc1000": self.classifier()(pooled)}
        else:
            found = self._residual(planes)
        return {layer: found[layer] for layer in layers}

    def classifier(self) -> nn.Linear:
        """The last layer, which fine-tuning replaces.

        Raises:
            Misconfigured: the network is no classifier.
        """
        if self.architecture not in CLASSIFIER:
            raise Misconfigured(f"{self.architecture} is no classifier: it cannot be fine-tuned as one")
        layer = self.body.get_submodule(CLASSIFIER[self.architecture])
        assert isinstance(layer, nn.Linear)  # noqa: S101  by construction
        return layer

    def _planes(self, image: Tensor) -> Tensor:
        return ((image.to(torch.float32) - self.mean) / self.spread).permute(0, 3, 1, 2)

    def _fully_connected(self, planes: Tensor) -> dict[str, Tensor]:
        body = self.body
        first, second, third = (layer for layer in body.classifier if isinstance(layer, nn.Linear))
        fc6 = first(torch.flatten(body.avgpool(body.features(planes)), 1))
        fc7 = second(torch.relu(fc6))
        return {"fc6": fc6, "fc7": fc7, "fc8": third(torch.relu(fc7))}

    def _residual(self, planes: Tensor) -> dict[str, Tensor]:
        body = self.body
        maps = body.maxpool(body.relu(body.bn1(body.conv1(planes))))
        for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
            maps = stage(maps)
        pool5 = torch.flatten(body.avgpool(maps), 1)
        return {"pool5": pool5, "fc1000": body.fc(pool5)}


TRUNK_END = 1
"""Which feature map of the packaged detector ends its trunk."""
CLASSIFIER = {
    "alexnet": "classifier.6",
    "googlenet": "fc",
    "vgg16": "classifier.6",
    "resnet101": "fc",
    "resnet152": "fc",
    "efficientnet_lite0": "_fc",
}
"""Architecture -> name of its last layer in its body."""


def _body(architecture: str, classes: int) -> Any:
    if architecture == "efficientnet_lite0":
        return _efficientnet(classes)
    if architecture == "mobilenet_v2":
        return MobilenetSsd(len(packaged_labels()))
    if architecture == "googlenet":
        # The published weights were trained with this further scaling of their input, so it is part of the network.
        return models.googlenet(
            weights=None, num_classes=classes, aux_logits=False, transform_input=True, init_weights=True
        )
    build = {
        "alexnet": models.alexnet,
        "vgg16": models.vgg16,
        "resnet101": models.resnet101,
        "resnet152": models.resnet152,
    }[architecture]
    return build(weights=None, num_classes=classes)


def _efficientnet(classes: int) -> Any:
    try:
        from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415  belongs to an optional group
    except ModuleNotFoundError as error:
        raise Misconfigured("EfficientNet-Lite0 needs its package: uv sync --group models") from error
    with contextlib.redirect_stdout(io.StringIO()):  # the package talks
        return EfficientNet.from_name("efficientnet-lite0", num_classes=classes)
