"""Puts a trained detector into the model repository: ONNX, configuration, labels, README and card, checked first.

A version's directory appears by one rename, after everything that belongs to it, so that a serving Triton never meets
half a model. A name keeps its tensors and labels over all its versions, since clients pin them once; a detector with
other ones needs another name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotstream.errors import Misconfigured
from triton_models.cards import MODEL_FILE, ModelCard
from triton_models.detectors.checkpoints import Checkpoint
from triton_models.detectors.detector import Detector
from triton_models.detectors.export import agreement, patterns, to_onnx
from triton_models.detectors.spec import DetectorSpec
from triton_models.files import sha256_of, write_whole
from triton_models.onnx_suppression import MAX_DETECTIONS

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
    spec, folder = detector.spec, repository / about.name
    files = {
        "config.pbtxt": _config(about.name, spec.size),
        "labels.txt": "".join(f"{label}\n" for label in spec.labels),
        "README.md": _readme(about.name, spec),
    }
    _demand_same(folder, files)
    agreement(detector, patterns(spec.size)).require(about.name)
    data = to_onnx(detector, about.name)
    card = ModelCard(
        name=about.name,
        version=_next_version(folder),
        sha256=hashlib.sha256(data).hexdigest(),
        recipe=_recipe(spec),
        source=f"{checkpoint.path.name} of {checkpoint.step} steps, begun from {checkpoint.origin.text}",
        source_sha256=sha256_of(checkpoint.path),
        licence=about.licence,
        run=f"{checkpoint.path.parent.name}: {_said(checkpoint.settings)}",
        data=checkpoint.data,
        metrics=dict(about.metrics),
    )
    for name, text in files.items():
        if not (folder / name).is_file():
            write_whole(folder / name, text.encode())
    beside = folder / f".{card.version}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    write_whole(beside / MODEL_FILE, data)
    card.write(beside)
    beside.rename(folder / str(card.version))
    return card


def _demand_same(folder: Path, files: Mapping[str, str]) -> None:
    for name in ("config.pbtxt", "labels.txt"):
        path = folder / name
        if path.is_file() and _meant(path.read_text("utf-8")) != _meant(files[name]):
            raise Misconfigured(f"{path} is that of another detector: export under another name")


def _meant(text: str) -> list[str]:
    """What clients rely on of a configuration (names and shapes of tensors) or of a list of labels."""
    lines = [line.strip().rstrip(",") for line in text.splitlines()]
    return [line for line in lines if "dims:" in line and "key" not in line] or lines


def _next_version(folder: Path) -> int:
    taken = [int(path.name) for path in folder.glob("*") if path.is_dir() and path.name.isdecimal()]
    return max(taken, default=0) + 1


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
