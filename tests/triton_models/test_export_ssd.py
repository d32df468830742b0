"""The exported detector against the original TensorFlow Lite file run by its own interpreter, on real photographs."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tflite
from numpy.typing import NDArray

from dotstream.errors import Misconfigured
from tests.support.photographs import photographs, pictures
from triton_models.anchors import ssd_anchors
from triton_models.export_ssd import IOU_LIMIT, SCORE_FLOOR, candidates, detector
from triton_models.fetch import Weights
from triton_models.onnx_suppression import MAX_DETECTIONS
from triton_models.tflite_graph import same_padding

Floats = NDArray[np.float32]
PIXEL = 1 / 300
SCORE_TOLERANCE = 0.01


def reference_anchors() -> NDArray[np.float64]:
    """Anchors as MediaPipe's SsdAnchorsCalculator makes them from its options, written after its loops."""
    rows = []
    scales = [0.2 + 0.75 * layer / 5 for layer in range(6)]
    for layer, stride in enumerate((16, 32, 64, 128, 256, 512)):
        if layer == 0:
            kinds = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        else:
            kinds = [(scales[layer], ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)]
            kinds.append((math.sqrt(scales[layer] * [*scales, 1.0][layer + 1]), 1.0))
        grid = math.ceil(300 / stride)
        for cell in range(grid * grid):
            for scale, ratio in kinds:
                root = math.sqrt(ratio)
                rows.append(((cell % grid + 0.5) / grid, (cell // grid + 0.5) / grid, scale * root, scale / root))
    return np.asarray(rows)


@cache
def original(tflite_file: Path) -> tuple[Floats, Floats]:
    """What the original says about all photographs: boxes [n, 1917, 4] as x0, y0, x1, y1 and scores [n, 1917, 23]."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(tflite_file))
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    encodings, logits = (detail["index"] for detail in interpreter.get_output_details())
    x, y, width, height = reference_anchors().T
    boxes, scores = [], []
    for picture in pictures(300):
        interpreter.set_tensor(source, (picture.astype(np.float32) / 127.5 - 1.0)[None])
        interpreter.invoke()
        dy, dx, dh, dw = interpreter.get_tensor(encodings)[0].astype(np.float64).T
        cx, cy = dx / 10 * width + x, dy / 10 * height + y
        w, h = np.exp(dw / 5) * width, np.exp(dh / 5) * height
        boxes.append(np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], axis=1))
        scores.append(1 / (1 + np.exp(-interpreter.get_tensor(logits)[0, :, 1:].astype(np.float64))))
    return np.stack(boxes).astype(np.float32), np.stack(scores).astype(np.float32)


def run(model: bytes, outputs: list[str], batch: NDArray[np.uint8]) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return list(session.run(outputs, {"image": batch}))


@cache
def exported(tflite_file: Path) -> bytes:
    return detector(tflite_file)


def suppressed(boxes: Floats, scores: Floats, limit: float, floor: float) -> list[tuple[int, float, Floats]]:
    """Plain class-wise greedy suppression of one picture, best first: (label, score, box)."""
    kept = []
    for label in range(scores.shape[1]):
        survivors: list[int] = []
        for index in np.argsort(-scores[:, label], kind="stable"):
            if scores[index, label] <= floor:
                break
            if all(iou(boxes[index], boxes[other]) <= limit for other in survivors):
                survivors.append(int(index))
        kept += [(label, float(scores[index, label]), np.clip(boxes[index], 0, 1)) for index in survivors]
    return sorted(kept, key=lambda found: -found[1])[:MAX_DETECTIONS]


def iou(a: Floats, b: Floats) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))


def test_there_are_at_least_twenty_photographs() -> None:
    assert len(photographs()) >= 20


def test_anchors_are_those_of_the_original_graph() -> None:
    x, y, width, height = reference_anchors().T
    assert ssd_anchors().shape == (1917, 4)
    np.testing.assert_allclose(ssd_anchors(), np.stack([y, x, height, width], axis=1), atol=1e-6)


@pytest.mark.parametrize(("size", "pads"), [(300, (0, 1)), (150, (0, 1)), (75, (1, 1)), (19, (1, 1))])
def test_same_padding_at_stride_two(size: int, pads: tuple[int, int]) -> None:
    assert same_padding(size, 3, 2) == pads


def test_every_candidate_agrees_with_the_original(weights: Weights) -> None:
    boxes, scores = original(weights.detector)
    ours = run(candidates(weights.detector), ["boxes", "scores"], pictures(300))
    assert np.abs(ours[0] - boxes).max() <= PIXEL
    assert np.abs(ours[1].transpose(0, 2, 1) - scores).max() <= SCORE_TOLERANCE


def test_detections_agree_with_the_original_after_suppression(weights: Weights) -> None:
    """One to one: every detection of the original has a partner of its label within a pixel and 0.01, and none is left.

    Detections within the tolerance of the floor, and pairs within it of the overlap limit, may fall on either side.
    """
    boxes, scores = original(weights.detector)
    found = run(exported(weights.detector), ["boxes", "labels", "scores"], pictures(300))
    matched = 0
    for picture in range(len(boxes)):
        ours = list(zip(*(output[picture] for output in found), strict=True))
        ours = [one for one in ours if one[1] >= 0]
        theirs = suppressed(boxes[picture], scores[picture], IOU_LIMIT, SCORE_FLOOR)
        for label, score, box in theirs:
            partner = next((one for one in ours if agrees(one, label, score, box)), None)
            assert partner is not None or score < SCORE_FLOOR + SCORE_TOLERANCE, (photographs()[picture], label, score)
            if partner is not None:
                ours.remove(partner)
                matched += 1
        assert all(one[2] < SCORE_FLOOR + SCORE_TOLERANCE for one in ours), photographs()[picture]
    assert matched > 100


def agrees(one: tuple[Floats, np.int32, np.float32], label: int, score: float, box: Floats) -> bool:
    same = int(one[1]) == label and abs(float(one[2]) - score) <= SCORE_TOLERANCE
    return same and bool(np.abs(one[0] - box).max() <= PIXEL)


def test_outputs_are_sorted_padded_and_inside_the_picture(weights: Weights) -> None:
    batch = np.concatenate([pictures(300)[:4], np.zeros((1, 300, 300, 3), np.uint8)])
    boxes, labels, scores = run(exported(weights.detector), ["boxes", "labels", "scores"], batch)
    assert [output.shape for output in (boxes, labels, scores)] == [(5, 100, 4), (5, 100), (5, 100)]
    assert [output.dtype for output in (boxes, labels, scores)] == [np.float32, np.int32, np.float32]
    padding = labels == -1
    assert padding.any() and not padding.all()
    assert not scores[padding].any() and not boxes[padding].any()
    assert (scores[~padding] > SCORE_FLOOR).all() and (labels[~padding] < 23).all()
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (boxes >= 0).all() and (boxes <= 1).all()
    assert (boxes[~padding][:, 2:] > boxes[~padding][:, :2]).all()


def test_a_picture_is_seen_alike_alone_and_in_a_batch(weights: Weights) -> None:
    batch = pictures(300)[:5]
    together = run(exported(weights.detector), ["boxes", "labels", "scores"], batch)
    for row in range(5):
        alone = run(exported(weights.detector), ["boxes", "labels", "scores"], batch[row : row + 1])
        np.testing.assert_array_equal(alone[1][0], together[1][row])
        np.testing.assert_allclose(alone[0][0], together[0][row], atol=1e-5)
        np.testing.assert_allclose(alone[2][0], together[2][row], atol=1e-5)


def test_it_sees_what_is_there(weights: Weights, exported_repository: Path) -> None:
    names = (exported_repository / "ssd_mobilenet_v2" / "labels.txt").read_text().splitlines()
    _, labels, scores = run(exported(weights.detector), ["boxes", "labels", "scores"], pictures(300))
    best = {path.name: (names[labels[i, 0]], scores[i, 0]) for i, path in enumerate(photographs())}
    for picture, label in (("astronaut.png", "Person"), ("chelsea.png", "Cat"), ("coffee.png", "Coffee cup")):
        assert best[picture][0] == label and best[picture][1] > 0.5


def test_a_network_with_another_operator_is_refused(weights: Weights, tmp_path: Path) -> None:
    """The original file with its convolutions renamed to poolings."""
    data = bytearray(weights.detector.read_bytes())
    model = tflite.Model.GetRootAsModel(data, 0)
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    convolution = next(code for code in codes if code.DeprecatedBuiltinCode() == tflite.BuiltinOperator.CONV_2D)
    for field in (4, 10):  # the operator's code is stored twice, as a byte and as an integer
        if offset := convolution._tab.Offset(field):
            data[convolution._tab.Pos + offset] = tflite.BuiltinOperator.AVERAGE_POOL_2D
    other = tmp_path / "other.tflite"
    other.write_bytes(data)
    with pytest.raises(Misconfigured, match="AVERAGE_POOL_2D"):
        detector(other)
