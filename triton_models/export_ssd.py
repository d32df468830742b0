"""Ports the detector: SSD-MobileNetV2 from its TensorFlow Lite file to one ONNX graph that takes uint8 pictures.

The file ends at raw box encodings and class logits, so the graph adds what its users did around it: the
normalisation, the anchors' decoding, the sigmoid and the suppression of overlapping boxes. A picture goes in, at most
100 detections come out, in tensors of fixed shape that Triton can batch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from triton_models.anchors import ssd_anchors
from triton_models.onnx_graph import BATCH, FLOAT, UINT8, GraphBuilder
from triton_models.onnx_suppression import OUTPUTS, suppress
from triton_models.tflite_graph import TfliteNetwork

SIDE = 300
CLASSES = 23
SCORE_FLOOR = 0.1
IOU_LIMIT = 0.5
BOX_SCALES = (10.0, 10.0, 5.0, 5.0)

INPUTS = {"image": (UINT8, (BATCH, SIDE, SIDE, 3))}


def detector(tflite_file: Path) -> bytes:
    """The ONNX file of the detector.

    Input `image` uint8 [N, 300, 300, 3]. Outputs per picture, best first and padded to 100 rows: `boxes` float32
    [N, 100, 4] as x0, y0, x1, y1 in 0..1, `labels` int32 [N, 100] from 0 to 22 (padding -1), `scores` float32 [N, 100]
    (padding 0). Only scores above 0.1 are given; boxes of one class that overlap by more than 0.5 leave the best one.

    Raises:
        Misconfigured: the file is another network than the one that this port knows.
    """
    graph = GraphBuilder()
    boxes, scores = _candidates(graph, tflite_file.read_bytes())
    suppress(graph, boxes, scores, candidates=len(ssd_anchors()), nms_iou=IOU_LIMIT, floor=SCORE_FLOOR)
    return graph.model("ssd_mobilenet_v2", INPUTS, OUTPUTS)


def candidates(tflite_file: Path) -> bytes:
    """The same network before suppression, to compare it with the original candidate by candidate.

    Outputs `boxes` float32 [N, 1917, 4], not cut at the picture's edges, and `scores` float32 [N, 23, 1917].
    """
    graph = GraphBuilder()
    boxes, scores = _candidates(graph, tflite_file.read_bytes())
    graph.node("Identity", boxes, output="boxes")
    graph.node("Identity", scores, output="scores")
    outputs = {"boxes": (FLOAT, (BATCH, 1917, 4)), "scores": (FLOAT, (BATCH, CLASSES, 1917))}
    return graph.model("ssd_mobilenet_v2_candidates", INPUTS, outputs)


def _candidates(graph: GraphBuilder, network: bytes) -> tuple[str, str]:
    """Normalisation, network, decoding: boxes [N, 1917, 4] as x0, y0, x1, y1 and scores [N, 23, 1917]."""
    # Pad pixels are zeros after the normalisation, so it cannot be folded into the first convolution.
    pixels = graph.node("Cast", "image", to=FLOAT)
    scaled = graph.node("Div", pixels, graph.constant(127.5))
    centred = graph.node("Sub", scaled, graph.constant(1.0))
    planes = graph.node("Transpose", centred, perm=[0, 3, 1, 2])
    encodings, logits = TfliteNetwork(network).convert(graph, planes)
    # Class 0 is the background: [N, 1917, 24] -> [N, 1917, 23] -> [N, 23, 1917]
    objects = _slice(graph, logits, axis=2, start=1, end=CLASSES + 1)
    scores = graph.node("Transpose", graph.node("Sigmoid", objects), perm=[0, 2, 1])
    return _decode(graph, encodings), scores


def _decode(graph: GraphBuilder, encodings: str) -> str:
    """Box encodings (y, x, height, width) [N, 1917, 4] to corners x0, y0, x1, y1 [N, 1917, 4], uncut.

    centre = encoding / 10 * anchor's side + anchor's centre; side = exp(encoding / 5) * anchor's side (Faster R-CNN's
    box coder as the TensorFlow Object Detection API scales it).
    """
    anchors = ssd_anchors()
    scaled = graph.node("Div", encodings, graph.constant(np.asarray(BOX_SCALES, dtype=np.float32)))
    swap = graph.constant([1, 0], "int64")
    shift = graph.node("Gather", _slice(graph, scaled, axis=2, start=0, end=2), swap, axis=2)
    growth = graph.node("Gather", _slice(graph, scaled, axis=2, start=2, end=4), swap, axis=2)
    anchor_centres = graph.constant(anchors[:, 1::-1])
    anchor_sides = graph.constant(anchors[:, :1:-1])
    centres = graph.node("Add", graph.node("Mul", shift, anchor_sides), anchor_centres)
    sides = graph.node("Mul", graph.node("Exp", growth), anchor_sides)
    halves = graph.node("Mul", sides, graph.constant(0.5))
    low, high = graph.node("Sub", centres, halves), graph.node("Add", centres, halves)
    return graph.node("Concat", low, high, axis=2)


def _slice(graph: GraphBuilder, value: str, *, axis: int, start: int, end: int) -> str:
    bounds = (graph.constant([number], "int64") for number in (start, end, axis))
    return graph.node("Slice", value, *bounds)
