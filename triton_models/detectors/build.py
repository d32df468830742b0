"""Makes a detector from its spec and the source of its first weights."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from dotstream.errors import Misconfigured
from triton_models.anchors import ssd_anchors
from triton_models.detectors.base_weights import (
    PACKAGED,
    RANDOM,
    TORCHVISION,
    Provenance,
    load_classifier,
    random_weights,
)
from triton_models.detectors.detector import Detector
from triton_models.detectors.faster_rcnn import resnet_faster_rcnn, vgg_faster_rcnn
from triton_models.detectors.mobilenet_ssd import MobilenetSsd
from triton_models.detectors.spec import DetectorSpec
from triton_models.detectors.ssd import Ssd
from triton_models.detectors.vgg_ssd import VggSsd, default_boxes


def default_source(spec: DetectorSpec) -> str:
    """Where the weights begin when nobody says: the package for the light detector, else torchvision."""
    return PACKAGED if spec.architecture == "ssd_mobilenet_v2" else TORCHVISION


def empty(spec: DetectorSpec) -> Detector:
    """The network alone, to be filled from a checkpoint: its weights mean nothing."""
    if spec.architecture == "ssd_mobilenet_v2":
        anchors = torch.from_numpy(ssd_anchors())
        return Ssd(spec, MobilenetSsd(len(spec.labels)), anchors, exclusive=False)
    if spec.architecture == "ssd_vgg16":
        return _vgg_ssd(spec)
    return (vgg_faster_rcnn if spec.architecture == "faster_rcnn_vgg16" else resnet_faster_rcnn)(spec)[0]


def build(
    spec: DetectorSpec, source: str, *, seed: int, tflite_file: Path | None = None
) -> tuple[Detector, Provenance]:
    """A detector with its first weights.

    Args:
        spec: the detector.
        source: "packaged" (ssd_mobilenet_v2), "torchvision" or a file (the others), or "random".
        seed: of what is drawn at random, such as new heads.
        tflite_file: the fetched file of the package, for "packaged".

    Raises:
        Misconfigured: the source does not fit the architecture, or a file cannot be read.
        WrongCheckpoint: a file of another network.
        Unavailable: torchvision's download cannot be reached.
    """
    torch.manual_seed(seed)
    if spec.architecture == "ssd_mobilenet_v2":
        return _light(spec, source, seed, tflite_file)
    if source == PACKAGED:
        raise Misconfigured(f"no package carries weights of {spec.architecture}: {TORCHVISION}, a file, or {RANDOM}")
    if spec.architecture == "ssd_vgg16":
        detector = _vgg_ssd(spec)
        return detector, random_weights(seed) if source == RANDOM else _fill_vgg_ssd(detector, source)
    make = vgg_faster_rcnn if spec.architecture == "faster_rcnn_vgg16" else resnet_faster_rcnn
    region_based, base = make(spec)
    if source != RANDOM:
        return region_based, load_classifier(base, source)
    _free(region_based)
    return region_based, random_weights(seed)


def _free(detector: Detector) -> None:
    """What is frozen because its weights are good has to learn when they are random.

    A frozen normalisation keeps no signal in bounds; the last of each residual block starts near 0 instead.
    """
    detector.requires_grad_(requires_grad=True)
    for name, buffer in detector.named_buffers():
        if name.endswith("bn3.weight"):
            buffer.fill_(0.1)


def _light(spec: DetectorSpec, source: str, seed: int, tflite_file: Path | None) -> tuple[Detector, Provenance]:
    from triton_models.detectors.packaged import PACKAGED_ORIGIN, start_from_packaged  # noqa: PLC0415 - ONNX tools

    detector = empty(spec)
    if source == RANDOM:
        return detector, random_weights(seed)
    if source != PACKAGED or tflite_file is None:
        raise Misconfigured(f"ssd_mobilenet_v2 begins with {PACKAGED} or {RANDOM} weights, not {source!r}")
    start_from_packaged(cast("MobilenetSsd", detector.get_submodule("network")), spec.labels, tflite_file)
    return detector, Provenance(PACKAGED_ORIGIN)


def _vgg_ssd(spec: DetectorSpec) -> Ssd:
    network = VggSsd(len(spec.labels), spec.extra_stride)
    return Ssd(spec, network, default_boxes(spec.size, spec.extra_stride), exclusive=True)


def _fill_vgg_ssd(detector: Ssd, source: str) -> Provenance:
    """VGG16's convolutions as they are; fc6 and fc7 thinned to 3 x 3 x 1024 and 1024, as the original SSD does it."""
    from torchvision.models import vgg16  # noqa: PLC0415 - only here

    base = vgg16()
    origin = load_classifier(base, source)
    network = cast("VggSsd", detector.network)
    layers = [layer for layer in base.features if isinstance(layer, torch.nn.Conv2d)]
    first, second = (base.classifier[place] for place in (0, 3))
    kernel = first.weight.detach().view(4096, 512, 7, 7)[::4, :, ::3, ::3]
    pairs = [(layer.weight.detach(), layer.bias) for layer in layers]
    pairs += [(kernel, first.bias[::4]), (second.weight.detach()[::4, ::4, None, None], second.bias[::4])]
    own = [layer for part in (network.lower, network.upper) for layer in part if isinstance(layer, torch.nn.Conv2d)]
    with torch.no_grad():
        for layer, (weight, bias) in zip(own, pairs, strict=True):
            layer.load_state_dict({"weight": weight, "bias": bias})
    return origin
