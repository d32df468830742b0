"""Validation of every tensor that Triton sends back, before any value is used.

Triton's clients pass a wrong number of rows, a missing output or NaN in silence. Here each answer is checked for who
computed it, presence, type, shape, length and range; what is wrong raises BadOutput and is never returned.

What cannot be seen in one answer: values that are wrong but lie in their range, such as rows of a batch that the model
returned in another order. `TritonClient.canary` looks for those with pictures whose answers it compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2

from triton_models.served import DTYPES, Served
from triton_models.statuses import BadOutput

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

BOX_OVERSHOOT = 1e-3  # of the picture's side; rounding of float32 arithmetic stays far below, a wrong scale far above


@dataclass(frozen=True)
class Detections:
    """What the detector saw in one picture, best first.

    Attributes:
        boxes: float32 [m, 4], (x0, y0, x1, y1) in 0..1 of the picture, x0 <= x1 and y0 <= y1.
        labels: m names.
        scores: float32 [m] in 0..1, descending.
    """

    boxes: Floats
    labels: list[str]
    scores: Floats


def tensors(
    response: service_pb2.ModelInferResponse, served: Served, request_id: str, rows: int, wanted: Sequence[str]
) -> dict[str, npt.NDArray[Any]]:
    """The wanted outputs as read-only arrays over the response's own bytes.

    Args:
        response: the answer.
        served: the model that was asked.
        request_id: as in the request; Triton repeats it.
        rows: rows that were sent and so must come back.
        wanted: names of outputs of `served`.

    Raises: BadOutput when the answer is not of this model, version and request, or an output is missing, doubled, of
        another type or shape, or not as long as its shape says.
    """
    asked = (served.name, served.version, request_id)
    answered = (response.model_name, response.model_version, response.id)
    if asked != answered:
        raise BadOutput(served.name, f"asked model, version and request {asked}, the answer is of {answered}")
    arrays: dict[str, npt.NDArray[Any]] = {}
    for position, tensor in enumerate(response.outputs):
        if tensor.name not in wanted:
            continue
        if tensor.name in arrays:
            raise BadOutput(served.name, f"output {tensor.name!r} came twice")
        content = response.raw_output_contents[position] if position < len(response.raw_output_contents) else b""
        arrays[tensor.name] = _array(served, tensor, content, rows)
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise BadOutput(
            served.name, f"outputs {missing} are missing, got {[tensor.name for tensor in response.outputs]}"
        )
    return arrays


def _array(
    served: Served, tensor: service_pb2.ModelInferResponse.InferOutputTensor, content: bytes, rows: int
) -> npt.NDArray[Any]:
    spec = served.outputs[tensor.name]
    if tensor.datatype != spec.datatype:
        raise BadOutput(served.name, f"output {tensor.name!r} is {tensor.datatype}, must be {spec.datatype}")
    shape = tuple(tensor.shape)
    if shape[:1] != (rows,):
        raise BadOutput(served.name, f"output {tensor.name!r} has shape {shape}, {rows} rows were sent")
    if shape != (rows, *spec.row):
        raise BadOutput(served.name, f"output {tensor.name!r} has shape {shape}, must be {(rows, *spec.row)}")
    length = rows * spec.row_bytes()
    if len(content) != length:
        raise BadOutput(served.name, f"output {tensor.name!r} has {len(content)} bytes, {shape} takes {length}")
    return np.frombuffer(content, dtype=DTYPES[spec.datatype]).reshape(shape)


def detections(
    model: str, boxes: Floats, indices: npt.NDArray[np.int32], scores: Floats, labels: Sequence[str]
) -> list[Detections]:
    """Checks the detector's tensors of a batch and drops the padding.

    Args:
        model: its name, for errors.
        boxes: float32 [n, k, 4]. A corner outside of 0..1 by at most BOX_OVERSHOOT is moved to the edge.
        indices: int32 [n, k]: position in `labels`, or -1 in the padding behind the last detection.
        scores: float32 [n, k]: descending, in 0..1; above 0 for detections, 0 in the padding.
        labels: the names that `indices` points at.

    Returns: one Detections per row.
    Raises: BadOutput naming the first rule that is broken.
    """
    _demand(model, bool(np.isfinite(boxes).all() and np.isfinite(scores).all()), "boxes or scores are not finite")
    live = indices >= 0
    _demand(model, bool((indices >= -1).all() and (indices < len(labels)).all()), f"label not in -1..{len(labels) - 1}")
    _demand(model, bool((live[:, :-1] >= live[:, 1:]).all()), "a detection behind the padding")
    _demand(model, bool(((scores >= 0) & (scores <= 1)).all()), "score not in 0..1")
    _demand(model, bool((scores[:, :-1] >= scores[:, 1:]).all()), "scores not descending")
    _demand(model, bool(((scores > 0) == live).all()), "score and label disagree on what is padding")
    overshoot = float(np.max(np.abs(boxes - np.clip(boxes, 0, 1)), initial=0, where=live[..., None]))
    _demand(model, overshoot <= BOX_OVERSHOOT, f"box outside of 0..1 by {overshoot:.4g}")
    ordered = (boxes[..., :2] <= boxes[..., 2:]).all(axis=-1)
    _demand(model, bool((ordered | ~live).all()), "box with x0 > x1 or y0 > y1")
    counts = live.sum(axis=1)
    return [
        Detections(np.clip(boxes[i, :m], 0, 1), [labels[j] for j in indices[i, :m]], scores[i, :m].copy())
        for i, m in enumerate(counts)
    ]


def features(model: str, values: Floats) -> Floats:
    """Checks float features [n, d]. Raises: BadOutput unless all are finite."""
    _demand(model, bool(np.isfinite(values).all()), "features are not finite")
    return values


def _demand(model: str, holds: bool, broken: str) -> None:
    if not holds:
        raise BadOutput(model, broken)
