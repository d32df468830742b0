"""Puts an embedder into the model repository: ONNX, configuration, README and card, checked against torch first.

Binarisation is in the graph, at the sign or at calibrated thresholds, so that a client sends bytes and gets codes. An
export whose outputs differ from torch's beyond the stated tolerance is refused and nothing is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf import text_format
from numpy.typing import NDArray
from torch import Tensor, nn
from tritonclient.grpc.model_config_pb2 import ModelConfig

from dotstream.errors import Misconfigured
from triton_models.cards import MODEL_FILE, ModelCard
from triton_models.embedders.catalogue import EmbedderSpec, embedder_spec
from triton_models.embedders.networks import Network
from triton_models.embedders.weights import Loaded
from triton_models.files import write_whole
from triton_models.onnx_graph import BATCH, OPSET, finish

LEAST_COSINE = 0.9999
MOST_BITS = 0.001
MAX_BATCH = 32
SAMPLE = 16

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Agreement:
    """How an export compares with torch on a sample.

    Attributes:
        cosine: the smallest between the features of one picture.
        bits: share of bits that differ.
    """

    cosine: float
    bits: float

    def require(self, name: str) -> None:
        """Raises Misconfigured beyond the tolerance."""
        if not (self.cosine >= LEAST_COSINE and self.bits <= MOST_BITS):
            raise Misconfigured(
                f"{name}: the export differs from torch (cosine {self.cosine:.6f}, at least {LEAST_COSINE}; "
                f"{self.bits:.3%} of bits, at most {MOST_BITS:.1%}): not written"
            )


class ServedEmbedder(nn.Module):
    """One layer of a network with its binarisation."""

    places: Tensor
    thresholds: Tensor

    def __init__(self, network: Network, layer: str, thresholds: Tensor) -> None:
        super().__init__()
        self.network, self.layer = network, layer
        self.register_buffer("thresholds", thresholds)
        self.register_buffer("places", 2.0 ** torch.arange(7, -1, -1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Codes uint8 [n, ceil(d / 8)] and features float32 [n, d] of uint8 pictures [n, side, side, 3]."""
        features = self.network.features(image, [self.layer])[self.layer]
        bits = (features > self.thresholds).to(torch.float32)
        bits = nn.functional.pad(bits, (0, -self.thresholds.shape[0] % 8))
        codes = (bits.reshape(bits.shape[0], -1, 8) * self.places).sum(dim=2).to(torch.uint8)
        return codes, features


def export_embedder(
    name: str,
    loaded: Loaded,
    repository: Path,
    *,
    served_as: str | None = None,
    thresholds: NDArray[np.float32] | None = None,
    calibrated_on: str = "",
    sample: Pixels | None = None,
    metrics: dict[str, float] | None = None,
) -> ModelCard:
    """Writes the next version of an embedder into a repository and returns its card.

    Args:
        name: of the catalogue; its network is `loaded`'s.
        loaded: network and where its weights came from.
        repository: the model repository.
        served_as: name of the served model; None takes the catalogue's.
        thresholds: float32 [d]; None takes those stored with the weights, else the sign.
        calibrated_on: what the thresholds were taken from, for the card.
        sample: uint8 [n, side, side, 3] to compare on; None takes generated patterns.
        metrics: for the card.

    Raises:
        Misconfigured: the export differs from torch; the name is taken by a model with other outputs; torch's exporter
            fails.
    """
    spec = embedder_spec(name)
    stored = loaded.thresholds.get(spec.layer)
    limits = torch.from_numpy(thresholds) if thresholds is not None else stored
    said = f"median thresholds ({calibrated_on or 'stored with the weights'})" if limits is not None else "sign"
    dimension = loaded.network.classifier().out_features if spec.values == "linear" else spec.dimension
    module = ServedEmbedder(loaded.network, spec.layer, torch.zeros(dimension) if limits is None else limits).eval()
    data = to_onnx(module, loaded.side)
    agreement(module, data, patterns(loaded.side) if sample is None else sample).require(name)
    title = served_as or name
    config = _config(title, loaded.side, dimension)
    _require_same_contract(repository / title / "config.pbtxt", config)
    version = _next_version(repository / title)
    card = ModelCard(
        name=title,
        version=version,
        sha256=hashlib.sha256(data).hexdigest(),
        recipe=f"{name}, {loaded.side} px, {said}",
        source=loaded.origin.text,
        source_sha256=loaded.origin.sha256,
        licence=loaded.origin.licence,
        run=json.dumps(loaded.about["recipe"]) if "recipe" in loaded.about else "",
        data=str(loaded.about.get("data", "")),
        metrics=dict(metrics or {}),
    )
    _place(repository / title, card, data, config, _readme(spec, card, loaded.side, dimension))
    return card


def to_onnx(module: ServedEmbedder, side: int) -> bytes:
    """The ONNX file: input `image`, outputs `codes` and `features`, any number of rows.

    Raises:
        Misconfigured: torch's exporter cannot write it.
    """
    picture = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The exporter warns about its own internals; what it wrote is compared with torch before it is used.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
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
        path = Path(folder) / MODEL_FILE
        program.save(path, external_data=False)
        return finish(onnx.load(path))


def agreement(module: ServedEmbedder, data: bytes, sample: Pixels) -> Agreement:
    """Compares an ONNX file with its torch module on pictures uint8 [n, side, side, 3]."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    codes, features = session.run(["codes", "features"], {"image": sample})
    with torch.inference_mode():
        true_codes, true_features = (part.numpy() for part in module(torch.from_numpy(sample)))
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(true_features, axis=1)
    cosines = (features * true_features).sum(axis=1) / np.maximum(lengths, 1e-12)
    differing = np.bitwise_count(codes ^ true_codes).sum() / (codes.size * 8)
    return Agreement(float(np.nan_to_num(cosines, nan=-1.0).min()), float(differing))


def patterns(side: int, count: int = SAMPLE) -> Pixels:
    """Pictures to compare on where there is no data: waves, edges and grain."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:side, 0:side] / side
    pictures = []
    for _ in range(count):
        angle, pace, phase = rng.uniform(0, np.pi), rng.uniform(1, 12), rng.uniform(0, 6.3, 3)
        wave = np.sin((np.cos(angle) * rows + np.sin(angle) * columns)[..., None] * pace * 6.3 + phase)
        block = np.where((rows > rng.uniform()) & (columns > rng.uniform()), 60.0, 0.0)[..., None]
        pictures.append(np.clip(127 + 80 * wave + block + rng.normal(0, 10, (side, side, 3)), 0, 255))
    return np.stack(pictures).astype(np.uint8)


def _next_version(folder: Path) -> int:
    taken = [int(path.name) for path in folder.glob("*") if path.is_dir() and path.name.isdecimal()]
    return max(taken, default=0) + 1


def _require_same_contract(path: Path, config: str) -> None:
    if path.is_file() and _tensors(path.read_text()) != _tensors(config):
        raise Misconfigured(f"{path.parent.name} is served with other inputs or outputs: name another with --as")


def _tensors(config: str) -> list[tuple[str, int, list[int]]]:
    try:
        parsed = text_format.Parse(config, ModelConfig())
    except text_format.ParseError as error:
        raise Misconfigured(f"a config.pbtxt in the repository cannot be read: {error}") from error
    return [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in [*parsed.input, *parsed.output]]


def _place(folder: Path, card: ModelCard, data: bytes, config: str, readme: str) -> None:
    """The version's directory appears by one rename, its configuration before it."""
    for name, text in (("config.pbtxt", config), ("README.md", readme)):
        if not (folder / name).is_file():
            write_whole(folder / name, text.encode())
    beside = folder / f".{card.version}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    write_whole(beside / MODEL_FILE, data)
    card.write(beside)
    beside.rename(folder / str(card.version))


def _config(name: str, side: int, dimension: int) -> str:
    return f"""# Written by `dotstream models export`; shapes and meaning in README.md.
name: "{name}"
backend: "onnxruntime"
max_batch_size: {MAX_BATCH}
input [
  {{ name: "image" data_type: TYPE_UINT8 dims: [ {side}, {side}, 3 ] }}
]
output [
  {{ name: "codes" data_type: TYPE_UINT8 dims: [ {-(-dimension // 8)} ] }},
  {{ name: "features" data_type: TYPE_FP32 dims: [ {dimension} ] }}
]
dynamic_batching {{ }}
version_policy {{ latest {{ num_versions: 2 }} }}
instance_group [ {{ count: 2 }} ]
parameters {{ key: "intra_op_thread_count" value: {{ string_value: "1" }} }}
parameters {{ key: "inter_op_thread_count" value: {{ string_value: "1" }} }}
model_warmup [
  {{
    name: "one"
    batch_size: 1
    inputs {{
      key: "image"
      value: {{ data_type: TYPE_UINT8 dims: [ {side}, {side}, 3 ] random_data: true }}
    }}
  }}
]
"""


def _readme(spec: EmbedderSpec, card: ModelCard, side: int, dimension: int) -> str:
    return f"""# {card.name}

Turns a picture or a crop into a binary code: {spec.architecture}, layer {spec.layer} ({spec.values}).

| | name | type | shape | meaning |
| --- | --- | --- | --- | --- |
| input | `image` | UINT8 | [N, {side}, {side}, 3] | RGB, stretched (Pillow's BILINEAR), 0 to 255 |
| output | `codes` | UINT8 | [N, {-(-dimension // 8)}] | {dimension} bits, feature 0 in the highest bit of byte 0 |
| output | `features` | FP32 | [N, {dimension}] | the layer's values |

N is at most {MAX_BATCH}. Each version's `card.json` says where its weights came from and how they were binarised.
"""
