"""From candidates to answers: class by class non-maximum suppression, in tensors of fixed shape.

The served graph applies the same rule (triton_models/onnx_suppression.py), so that a detector in torch and its export
can be compared detection by detection. The threshold of production (0.7 in section 7 of the paper) is applied by
whoever uses the answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms

MAX_DETECTIONS = 100


@dataclass(frozen=True)
class Found:
    """Detections of a batch, best first, padded.

    Attributes:
        boxes: float32 [N, 100, 4], x0, y0, x1, y1 in 0..1; padding 0.
        labels: int64 [N, 100], place in the detector's labels; padding -1.
        scores: float32 [N, 100], falling; padding 0.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor


def suppress(boxes: Tensor, scores: Tensor, *, nms_iou: float, floor: float) -> Found:
    """Keeps, of each picture and class, the best of boxes that overlap by more than `nms_iou`, then the best 100.

    Args:
        boxes: float32 [N, A, 4], one box for each candidate whatever its class, or [N, C, A, 4], one for each class;
            corners as shares of the picture's sides, they may reach beyond it.
        scores: float32 [N, C, A].
        nms_iou: overlap above which the box of lower score goes.
        floor: candidates up to this score are left out.
    """
    of_class = boxes if boxes.ndim == 4 else boxes[:, None].expand(-1, scores.shape[1], -1, -1)
    rows = [_one(corners, values, nms_iou, floor) for corners, values in zip(of_class, scores, strict=True)]
    return Found(*(torch.stack(column) for column in zip(*rows, strict=True)))


def _one(boxes: Tensor, scores: Tensor, nms_iou: float, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    labels, places = torch.nonzero(scores > floor, as_tuple=True)
    corners, values = boxes[labels, places].float(), scores[labels, places].float()
    kept = batched_nms(corners, values, labels, nms_iou)[:MAX_DETECTIONS]
    missing = MAX_DETECTIONS - len(kept)
    return (
        torch.cat([corners[kept].clamp(0, 1), corners.new_zeros((missing, 4))]),
        torch.cat([labels[kept], labels.new_full((missing,), -1)]),
        torch.cat([values[kept], values.new_zeros(missing)]),
    )
