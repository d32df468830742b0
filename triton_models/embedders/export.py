"""Puts an embedder into the model repository: ONNX, configuration, README and card, checked against torch first.

Binarisation is in the graph, at the sign or at calibrated thresholds, so that a client sends bytes and gets codes.
Further layers of the same network may come with it, each with codes of its own out of the same pass: fc8 beside fc6. An
export whose outputs differ from torch's beyond the stated tolerance is refused and nothing is written.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dotstream.errors import Misconfigured
from triton_models.cards import MODEL_FILE, ModelCard
from triton_models.embedders.catalogue import EmbedderSpec, embedder_spec, specs_of
from triton_models.embedders.networks import Network
from triton_models.embedders.weights import Loaded
from triton_models.onnx_graph import BATCH, OPSET, finish
from triton_models.versions import CONFIG_FILE, add_version, demand_same

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
        bits: share of bits that differ, of the codes that differ most.
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
    """A layer of a network with its binarisation, and the codes of extra layers beside it.

    Args:
        network: in evaluation mode.
        layer: whose codes are searched, and whose features are given.
        thresholds: float32 [d] of it.
        extra: further layers -> their thresholds.
    """

    places: Tensor
    thresholds: Tensor

    def __init__(
        self, network: Network, layer: str, thresholds: Tensor, extra: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.network, self.layer, self.extra = network, layer, tuple(extra or {})
        self.register_buffer("thresholds", thresholds)
        self.register_buffer("places", 2.0 ** torch.arange(7, -1, -1))
        for name, limits in (extra or {}).items():
            self.register_buffer(f"thresholds_{name}", limits)

    @property
    def outputs(self) -> list[str]:
        """Names of what `forward` gives."""
        return ["codes", "features", *map(code_output, self.extra)]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """What `outputs` names of uint8 pictures [n, side, side, 3].

        Codes are uint8 [n, ceil(d / 8)], features float32 [n, d].
        """
        found = self.network.features(image, [self.layer, *self.extra])
        extra = [self._packed(found[name], self.get_buffer(f"thresholds_{name}")) for name in self.extra]
        return (self._packed(found[self.layer], self.thresholds), found[self.layer], *extra)

    def _packed(self, features: Tensor, thresholds: Tensor) -> Tensor:
        bits = (features > thresholds).to(torch.float32)
        bits = nn.functional.pad(bits, (0, -thresholds.shape[0] % 8))
        return (bits.reshape(bits.shape[0], -1, 8) * self.places).sum(dim=2).to(torch.uint8)


def code_output(layer: str) -> str:
    """The output with the codes of an extra layer."""
    return f"codes_{layer}"


def export_embedder(
    name: str,
    loaded: Loaded,
    repository: Path,
    *,
    served_as: str | None = None,
    extra: Sequence[str] = (),
    thresholds: Mapping[str, NDArray[np.float32]] | None = None,
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
        extra: further layers of the network, whose codes come as outputs of their own (`code_output`).
        thresholds: layer -> float32 [d]; a layer without takes those stored with the weights, else the sign.
        calibrated_on: what the thresholds were taken from, for the card.
        sample: uint8 [n, side, side, 3] to compare on; None takes generated patterns.
        metrics: for the card.

    Raises:
        Misconfigured: the export differs from torch; the name is taken by a model with other outputs; torch's exporter
            fails.
    """
    spec = embedder_spec(name)
    given = {layer: torch.from_numpy(values) for layer, values in (thresholds or {}).items()}
    known = {**loaded.thresholds, **given}
    said = f"median thresholds ({calibrated_on or 'stored with the weights'})" if spec.layer in known else "sign"
    sizes = {one.layer: dimension_of(loaded.network, one) for one in (spec, *_extra_specs(spec, extra))}
    limits = {layer: known.get(layer, torch.zeros(size)) for layer, size in sizes.items()}
    title = served_as or name
    card = ModelCard(
        name=title,
        version=0,
        sha256="",
        recipe=", ".join([name, *(f"beside it {layer}" for layer in extra), f"{loaded.side} px", said]),
        source=loaded.origin.text,
        source_sha256=loaded.origin.sha256,
        licence=loaded.origin.licence,
        run=json.dumps(loaded.about["recipe"]) if "recipe" in loaded.about else "",
        data=str(loaded.about.get("data", "")),
        metrics=dict(metrics or {}),
    )
    files = {
        CONFIG_FILE: _config(title, loaded.side, sizes),
        "README.md": _readme(spec, title, loaded.side, sizes),
    }
    demand_same(repository / title, files)
    module = ServedEmbedder(loaded.network, spec.layer, limits.pop(spec.layer), limits).eval()
    data = to_onnx(module, loaded.side)
    agreement(module, data, patterns(loaded.side) if sample is None else sample).require(name)
    return add_version(repository, data, card, files)


def dimension_of(network: Network, spec: EmbedderSpec) -> int:
    """Features of a layer of this network; a fine-tuned classifier has its own classes."""
    return network.classifier().out_features if spec.values == "linear" else spec.dimension


def _extra_specs(spec: EmbedderSpec, layers: Sequence[str]) -> list[EmbedderSpec]:
    others = {one.layer: one for one in specs_of(spec.architecture) if one.layer != spec.layer}
    unknown = [layer for layer in layers if layer not in others]
    if unknown or len(set(layers)) < len(layers):
        raise Misconfigured(
            f"beside {spec.name} there can be {', '.join(others) or 'nothing'}, each once, not {', '.join(layers)}"
        )
    return [others[layer] for layer in layers]


def to_onnx(module: ServedEmbedder, side: int) -> bytes:
    """The ONNX file: input `image`, outputs as the module names them, any number of rows.

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
            output_names=module.outputs,
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
    codes, features, *extra = session.run(module.outputs, {"image": sample})
    with torch.inference_mode():
        true_codes, true_features, *true_extra = (part.numpy() for part in module(torch.from_numpy(sample)))
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(true_features, axis=1)
    cosines = (features * true_features).sum(axis=1) / np.maximum(lengths, 1e-12)
    pairs = zip([codes, *extra], [true_codes, *true_extra], strict=True)
    differing = max(np.bitwise_count(one ^ other).sum() / (one.size * 8) for one, other in pairs)
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


def _config(name: str, side: int, sizes: Mapping[str, int]) -> str:
    """`sizes` is layer -> features, the searched layer first."""
    (_, dimension), *others = sizes.items()
    extra = "".join(
        f',\n  {{ name: "{code_output(layer)}" data_type: TYPE_UINT8 dims: [ {-(-size // 8)} ] }}'
        for layer, size in others
    )
    return f"""# Written by `dotstream models export`; shapes and meaning in README.md.
name: "{name}"
backend: "onnxruntime"
max_batch_size: {MAX_BATCH}
input [
  {{ name: "image" data_type: TYPE_UINT8 dims: [ {side}, {side}, 3 ] }}
]
output [
  {{ name: "codes" data_type: TYPE_UINT8 dims: [ {-(-dimension // 8)} ] }},
  {{ name: "features" data_type: TYPE_FP32 dims: [ {dimension} ] }}{extra}
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


def _readme(spec: EmbedderSpec, name: str, side: int, sizes: Mapping[str, int]) -> str:
    (_, dimension), *others = sizes.items()
    extra = "".join(
        f"| output | `{code_output(layer)}` | UINT8 | [N, {-(-size // 8)}] | {size} bits of layer {layer} |\n"
        for layer, size in others
    )
    return f"""# {name}

Turns a picture or a crop into a binary code: {spec.architecture}, layer {spec.layer} ({spec.values}).

| | name | type | shape | meaning |
| --- | --- | --- | --- | --- |
| input | `image` | UINT8 | [N, {side}, {side}, 3] | RGB, stretched (Pillow's BILINEAR), 0 to 255 |
| output | `codes` | UINT8 | [N, {-(-dimension // 8)}] | {dimension} bits, feature 0 in the highest bit of byte 0 |
| output | `features` | FP32 | [N, {dimension}] | the layer's values |
{extra}
N is at most {MAX_BATCH}. Each version's `card.json` says where its weights came from and how they were binarised.
"""
