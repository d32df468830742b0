"""The packaged light detector's weights, out of its TensorFlow Lite file into the torch network of mobilenet_ssd.py."""

from __future__ import annotations

from pathlib import Path

import torch

from triton_models.anchors import ssd_anchors
from triton_models.detectors.mobilenet_ssd import MobilenetSsd, adapt_classes
from triton_models.detectors.spec import DetectorSpec, WrongCheckpoint
from triton_models.detectors.ssd import Ssd
from triton_models.export import REPOSITORY
from triton_models.fetch import DETECTOR
from triton_models.tflite_graph import TfliteNetwork

NAME = "ssd_mobilenet_v2"


def packaged_labels() -> tuple[str, ...]:
    """The 23 names of Open Images, in the network's order."""
    return tuple((REPOSITORY / NAME / "labels.txt").read_text("utf-8").splitlines())


def packaged_network(tflite_file: Path) -> MobilenetSsd:
    """The network with the file's weights, which are half-precision numbers in single precision.

    Raises:
        WrongCheckpoint: the file holds another network.
    """
    network = MobilenetSsd(len(packaged_labels()))
    convolutions = list(network.convolutions())
    kernels = list(TfliteNetwork(tflite_file.read_bytes()).kernels())
    if len(kernels) != len(convolutions):
        raise WrongCheckpoint(f"{tflite_file} has {len(kernels)} convolutions, SSD-MobileNetV2 {len(convolutions)}")
    with torch.no_grad():
        for layer, (kernel, bias) in zip(convolutions, kernels, strict=True):
            if layer.weight.shape != kernel.shape:
                raise WrongCheckpoint(
                    f"{tflite_file}: a kernel of {kernel.shape}, expected {tuple(layer.weight.shape)}"
                )
            layer.load_state_dict({"weight": torch.from_numpy(kernel), "bias": torch.from_numpy(bias)})
    return network


def packaged_detector(tflite_file: Path) -> Ssd:
    """The packaged detector in torch, as it is served."""
    spec = DetectorSpec(NAME, packaged_labels())
    return Ssd(spec, packaged_network(tflite_file), torch.from_numpy(ssd_anchors()), exclusive=False).eval()


def start_from_packaged(network: MobilenetSsd, labels: tuple[str, ...], tflite_file: Path) -> None:
    """Fills a network of other classes; a class of the same name, whatever its case, starts from the packaged one."""
    source = packaged_network(tflite_file)
    state = {name: value for name, value in source.state_dict().items() if not name.startswith("kinds.")}
    network.load_state_dict(state, strict=False)
    places = {name.lower(): place for place, name in enumerate(packaged_labels())}
    adapt_classes(network, source, [places.get(label.lower()) for label in labels])


PACKAGED_ORIGIN = f"{DETECTOR.registry} {DETECTOR.package} {DETECTOR.version} {DETECTOR.file_name}"
