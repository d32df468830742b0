"""A trained detector as one ONNX graph with the served tensors, and the check that it answers as torch does.

Torch's exporter writes the network; suppression, and for Faster R-CNN the way from proposals to the second stage, are
added as in the ported detector (triton_models/onnx_suppression.py), since torch's own suppression does not export for
batches. Faster R-CNN's second stage sees as many regions as the first lets through, so that a smaller `proposals` or a
higher `objectness` saves work in the served file too. Both are fixed when it is exported.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dotstream.errors import Misconfigured
from triton_models.detectors.detector import Detector
from triton_models.detectors.faster_rcnn import REGION_NMS_IOU, SAMPLING_RATIO, STRIDE, FasterRcnn
from triton_models.detectors.ssd import Ssd
from triton_models.onnx_graph import BATCH, OPSET, UINT8, GraphBuilder
from triton_models.onnx_suppression import MAX_DETECTIONS, OUTPUTS, suppress, suppress_by_class

MOST_PIXELS = 1.0
MOST_SCORE = 0.01
LEAST_MATCHED = 0.99

Raw = tuple[NDArray[np.float32], NDArray[Any], NDArray[np.float32]]


class ExportDiffers(Misconfigured):
    """The exported graph answers otherwise than torch; nothing was written."""


def to_onnx(detector: Detector, name: str) -> bytes:
    """The ONNX file of a detector in evaluation mode.

    Input `image` uint8 [N, S, S, 3] RGB. Outputs as triton_models/onnx_suppression.py.

    Raises:
        Misconfigured: torch's exporter cannot write it.
    """
    graph = GraphBuilder()
    if isinstance(detector, Ssd):
        _ssd(graph, detector)
    elif isinstance(detector, FasterRcnn):
        _faster_rcnn(graph, detector)
    else:
        raise Misconfigured(f"{type(detector).__name__} has no export")
    size = detector.spec.size
    return graph.model(name, {"image": (UINT8, (BATCH, size, size, 3))}, OUTPUTS)


def _ssd(graph: GraphBuilder, detector: Ssd) -> None:
    spec = detector.spec
    part = _exported(detector, [_blank(spec.size)], ["image"], ["boxes", "scores"])
    boxes, scores = graph.include(part, "n_", image="image")
    count = len(detector.anchors)
    suppress(graph, boxes, scores, candidates=count, nms_iou=spec.nms_iou, floor=spec.score_floor)


def _faster_rcnn(graph: GraphBuilder, detector: FasterRcnn) -> None:
    """Numbered as the detector does it: 1 propose, 2 choose, 3 cut out, 4 judge, 5 place, 6 suppress."""
    spec = detector.spec
    blank = _blank(spec.size)
    with torch.inference_mode():
        features, regions, _ = detector.propose(blank)
    candidates, channels = regions.shape[1], features.shape[1]
    first = _exported(_FirstStage(detector), [blank], ["image"], ["features", "regions", "objectness"])
    maps, regions_name, objectness = graph.include(first, "n_", image="image")
    # 2: rows (picture, 0, candidate) of the regions that are looked at, [M, 3]
    alone = graph.node("Unsqueeze", objectness, graph.constant([1], "int64"))
    limits = (graph.constant([spec.proposals], "int64"), graph.constant([REGION_NMS_IOU], "float32"))
    chosen = graph.node("NonMaxSuppression", regions_name, alone, *limits, graph.constant([0.0], "float32"))
    places = graph.node("Gather", chosen, graph.constant([0, 2], "int64"), axis=1)
    picture = graph.node("Gather", chosen, graph.constant(0, "int64"), axis=1)
    looked = graph.node("GatherND", regions_name, places)
    side = detector.second.box_roi_pool.output_size[0]
    pooled = graph.node(
        "RoiAlign",
        maps,
        looked,
        picture,
        output_height=side,
        output_width=side,
        sampling_ratio=SAMPLING_RATIO,
        spatial_scale=1.0 / STRIDE,
        coordinate_transformation_mode="output_half_pixel",
    )
    example = [torch.zeros((3, channels, side, side)), torch.zeros((3, 4))]
    second = _exported(_SecondStage(detector), example, ["pooled", "looked"], ["boxes", "scores"])
    boxes, scores = graph.include(second, "s_", pooled=pooled, looked=looked)
    # 5: back to every candidate, those that were not looked at score 0: [N, P, C, 4] and [N, P, C]
    classes = len(spec.labels)
    count = graph.node("Shape", objectness)
    of_class = graph.constant([classes], "int64")
    shape = graph.node("Concat", count, of_class, axis=0)
    wide = graph.node("Concat", count, of_class, graph.constant([4], "int64"), axis=0)
    all_scores = graph.node("ScatterND", _zeros(graph, shape), places, scores)
    all_boxes = graph.node("ScatterND", _zeros(graph, wide), places, boxes)
    suppress_by_class(
        graph,
        graph.node("Transpose", all_boxes, perm=[0, 2, 1, 3]),
        graph.node("Transpose", all_scores, perm=[0, 2, 1]),
        classes=classes,
        candidates=candidates,
        nms_iou=spec.nms_iou,
        floor=spec.score_floor,
    )


class _FirstStage(nn.Module):
    def __init__(self, detector: FasterRcnn) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.detector.propose(image)


class _SecondStage(nn.Module):
    def __init__(self, detector: FasterRcnn) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pooled: Tensor, looked: Tensor) -> tuple[Tensor, Tensor]:
        scores, deltas = self.detector.judge(pooled)
        return self.detector.placed(looked, deltas), scores


def _blank(size: int) -> Tensor:
    return torch.zeros((2, size, size, 3), dtype=torch.uint8)


def _zeros(graph: GraphBuilder, shape: str) -> str:
    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.FLOAT, [1], [0.0])
    return graph.node("ConstantOfShape", shape, value=zero)


def _exported(module: nn.Module, example: Sequence[Tensor], inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """What torch's exporter makes of a module, its first axes free."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The exporter warns about its own internals; what it wrote is compared with torch before anybody uses it.
        warnings.simplefilter("ignore")
        rows = torch.export.Dim(BATCH, min=1, max=4096)
        program = torch.onnx.export(
            module.eval(),
            tuple(example),
            dynamo=True,
            verbose=False,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=tuple({0: rows} for _ in inputs),
            opset_version=OPSET,
        )
        if program is None:
            raise Misconfigured("torch's exporter wrote no program; use the torch version of the lock file")
        path = Path(folder) / "part.onnx"
        program.save(path, external_data=False)
        return onnx.load(path)


@dataclass(frozen=True)
class Agreement:
    """How an export compares with torch on a sample, all detections above a score of 0 included.

    Attributes:
        compared: detections of torch.
        matched: share of them with a partner of the same class, within a pixel and 0.01 of score.
        pixels: largest difference of a corner between partners, in pixels of the detector's picture.
        score: largest difference of score between partners.
    """

    compared: int
    matched: float
    pixels: float
    score: float

    def require(self, name: str) -> None:
        """Raises ExportDiffers beyond the tolerance."""
        if not self.compared or self.matched < LEAST_MATCHED:
            raise ExportDiffers(
                f"{name}: of {self.compared} detections of torch {self.matched:.1%} come out of the export within "
                f"{MOST_PIXELS:.0f} pixel and {MOST_SCORE} of score, at least {LEAST_MATCHED:.0%} must: not written"
            )


def agreement(detector: Detector, sample: NDArray[np.uint8], data: bytes | None = None) -> Agreement:
    """Compares a detector with its export on pictures uint8 [n, S, S, 3].

    Args:
        detector: in evaluation mode. Its score floor is lowered to 0 meanwhile, so that also a detector that is sure of
            nothing on these pictures is compared by a hundred detections each.
        sample: pictures.
        data: the export to compare, made with a score floor of 0; None makes it.
    """
    spec = detector.spec
    detector.spec = replace(spec, score_floor=0.0)
    try:
        session = onnxruntime.InferenceSession(data or to_onnx(detector, "check"), providers=["CPUExecutionProvider"])
        with torch.inference_mode():
            found = detector.detect(torch.from_numpy(sample))
    finally:
        detector.spec = spec
    ours = (found.boxes.numpy(), found.labels.numpy(), found.scores.numpy())
    theirs = session.run(["boxes", "labels", "scores"], {"image": sample})
    rows = [_partners(*(part[n] for part in (*ours, *theirs)), size=spec.size) for n in range(len(sample))]
    pixels = [value for row in rows for value in row[1]]
    scores = [value for row in rows for value in row[2]]
    compared = sum(row[0] for row in rows)
    return Agreement(
        compared, len(pixels) / compared if compared else 0.0, max(pixels, default=0.0), max(scores, default=0.0)
    )


def _partners(*parts: NDArray[Any], size: int) -> tuple[int, list[float], list[float]]:
    """How many detections of the first are asked about, and the differences of those that have a partner.

    Whether the last of a full hundred is in or out hangs on the last bit of its score, so it is not asked about.
    """
    boxes, labels, scores, other_boxes, other_labels, other_scores = parts
    last = float(scores[MAX_DETECTIONS - 1])
    asked = np.flatnonzero((labels >= 0) & (scores > last + 1e-4 if last > 0 else scores > 0))
    free = other_labels >= 0
    pixels: list[float] = []
    differences: list[float] = []
    for row in asked:
        away = np.abs(other_boxes - boxes[row]).max(axis=1) * size
        apart = np.abs(other_scores - scores[row])
        fits = free & (other_labels == labels[row]) & (away <= MOST_PIXELS) & (apart <= MOST_SCORE)
        if fits.any():
            partner = int(np.argmin(np.where(fits, away, np.inf)))
            free[partner] = False
            pixels.append(float(away[partner]))
            differences.append(float(apart[partner]))
    return len(asked), pixels, differences


def patterns(size: int, count: int = 4) -> NDArray[np.uint8]:
    """Pictures to compare on: coloured boxes and discs over waves and grain."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0:size, 0:size] / size
    pictures = []
    for _ in range(count):
        value = np.sin(rows[..., None] * random.uniform(3, 20, 3) + columns[..., None] * random.uniform(3, 20, 3)) * 60
        for shape in range(5):
            y, x, half = random.uniform(0.1, 0.9), random.uniform(0.1, 0.9), random.uniform(0.05, 0.3)
            away = np.maximum(abs(rows - y), abs(columns - x)) if shape % 2 else np.hypot(rows - y, columns - x)
            value[away < half] = random.uniform(-127, 127, 3)
        pictures.append(np.clip(value + 127 + random.normal(0, 8, (size, size, 3)), 0, 255))
    return np.stack(pictures).astype(np.uint8)
