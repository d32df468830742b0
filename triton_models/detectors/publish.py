"""Puts a trained detector into the model repository: ONNX, configuration, labels, README and card, checked first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from triton_models.cards import ModelCard
from triton_models.detectors.checkpoints import Checkpoint
from triton_models.detectors.detector import Detector
from triton_models.detectors.export import agreement, patterns, to_onnx
from triton_models.detectors.spec import DetectorSpec
from triton_models.files import sha256_of
from triton_models.onnx_suppression import MAX_DETECTIONS
from triton_models.versions import CONFIG_FILE, LABELS_FILE, add_version, demand_same

MAX_BATCH = 16


@dataclass(frozen=True)
class Publication:
    """What is written beside the network.

    Attributes:
        name: of the served model.
        metrics: measured before, by name (`dotstream eval detection --json`).
        licence: of the weights, for the card; SPDX.
    """

    name: str
    licence: str
    metrics: Mapping[str, float]


def publish(checkpoint: Checkpoint, detector: Detector, repository: Path, about: Publication) -> ModelCard:
    """Writes the next version of a detector into a repository and returns its card.

    Args:
        checkpoint: that it came from.
        detector: of the checkpoint, with the options that it is to be served with.
        repository: the model repository.
        about: its name and what the card says.

    Raises:
        ExportDiffers: the export answers otherwise than torch; nothing was written.
        Misconfigured: the name is taken by a model of other tensors or labels; torch's exporter fails.
    """
    spec = detector.spec
    files = {
        CONFIG_FILE: _config(about.name, spec.size),
        LABELS_FILE: "".join(f"{label}\n" for label in spec.labels),
        "README.md": _readme(about.name, spec),
    }
    demand_same(repository / about.name, files)
    agreement(detector, patterns(spec.size)).require(about.name)
    data = to_onnx(detector, about.name)
    card = ModelCard(
        name=about.name,
        version=0,
        sha256="",
        recipe=_recipe(spec),
        source=f"{checkpoint.path.name} of {checkpoint.step} steps, begun from {checkpoint.origin.text}",
        source_sha256=sha256_of(checkpoint.path),
        licence=about.licence,
        run=f"{checkpoint.path.parent.name}: {_said(checkpoint.settings)}",
        data=checkpoint.data,
        metrics=dict(about.metrics),
    )
    return add_version(repository, data, card, files)


def _recipe(spec: DetectorSpec) -> str:
    parts = f"{spec.architecture} at {spec.size} pixels, nms iou {spec.nms_iou:g}, floor {spec.score_floor:g}"
    if spec.architecture.startswith("faster_rcnn"):
        return f"{parts}, {spec.proposals} proposals, objectness {spec.objectness:g}"
    return f"{parts}, matched at {spec.match_iou:g}, sampling {spec.sampling}"


def _said(settings: Mapping[str, object]) -> str:
    shown = ("steps", "batch", "learning_rate", "seed")
    return ", ".join(f"{name} {settings[name]}" for name in shown if name in settings)


def _config(name: str, size: int) -> str:
    return f"""# Written by `dotstream models export`: shapes and meaning in README.md.
# One file for the official Triton container and for the local server; both read every field.
name: "{name}"
backend: "onnxruntime"
max_batch_size: {MAX_BATCH}
input [
  {{ name: "image" data_type: TYPE_UINT8 dims: [ {size}, {size}, 3 ] }}
]
output [
  {{ name: "boxes" data_type: TYPE_FP32 dims: [ {MAX_DETECTIONS}, 4 ] }},
  {{ name: "labels" data_type: TYPE_INT32 dims: [ {MAX_DETECTIONS} ] }},
  {{ name: "scores" data_type: TYPE_FP32 dims: [ {MAX_DETECTIONS} ] }}
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
    inputs {{ key: "image" value: {{ data_type: TYPE_UINT8 dims: [ {size}, {size}, 3 ] random_data: true }} }}
  }}
]
"""


def _readme(name: str, spec: DetectorSpec) -> str:
    return f"""# {name}

Finds objects: {spec.architecture}, {spec.size} x {spec.size}, {len(spec.labels)} classes (`labels.txt`).

| | name | type | shape | meaning |
| --- | --- | --- | --- | --- |
| input | `image` | UINT8 | [N, {spec.size}, {spec.size}, 3] | RGB, stretched (Pillow's BILINEAR), 0 to 255 |
| output | `boxes` | FP32 | [N, {MAX_DETECTIONS}, 4] | x0, y0, x1, y1 in 0..1 of the picture, origin at top left |
| output | `labels` | INT32 | [N, {MAX_DETECTIONS}] | line of `labels.txt`, from 0; -1 is padding |
| output | `scores` | FP32 | [N, {MAX_DETECTIONS}] | 0..1, falling; 0 is padding |

N is at most {MAX_BATCH}. Each version's `card.json` says which training made it, on what, from which first weights,
what was measured, and with which suppression it answers.
"""
