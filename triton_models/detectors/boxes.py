"""Boxes and anchors of the single-shot detectors: overlap, encoding, decoding, matching.

Two forms occur. Corners: x0, y0, x1, y1. Anchors: centre y, centre x, height, width, as triton_models/anchors.py gives
them. Both are shares of the picture's sides. Encodings are (dy, dx, dh, dw) relative to an anchor, scaled by 10 and 5,
Faster R-CNN's coder as the TensorFlow Object Detection API and the original SSD scale it (variances 0.1 and 0.2).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

CENTRE_SCALE = 10.0
SIDE_SCALE = 5.0
_SMALLEST = 1e-6


def corners_of(anchors: Tensor) -> Tensor:
    """Anchors [A, 4] as corners [A, 4]."""
    cy, cx, height, width = anchors.unbind(-1)
    return torch.stack([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2], dim=-1)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Corners [..., 4] relative to their anchors [..., 4], as encodings."""
    centre_x, centre_y = (boxes[..., 0] + boxes[..., 2]) / 2, (boxes[..., 1] + boxes[..., 3]) / 2
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=_SMALLEST)
    cy, cx, height, width = anchors.unbind(-1)
    return torch.stack(
        [
            (centre_y - cy) / height * CENTRE_SCALE,
            (centre_x - cx) / width * CENTRE_SCALE,
            torch.log(sides[..., 1] / height) * SIDE_SCALE,
            torch.log(sides[..., 0] / width) * SIDE_SCALE,
        ],
        dim=-1,
    )


def decode(encodings: Tensor, anchors: Tensor) -> Tensor:
    """Encodings [N, A, 4] against anchors [A, 4]: corners [N, A, 4], not cut at the picture's edges."""
    dy, dx, dh, dw = encodings.unbind(-1)
    cy, cx, height, width = anchors.unbind(-1)
    centre_y, centre_x = dy / CENTRE_SCALE * height + cy, dx / CENTRE_SCALE * width + cx
    half_height, half_width = torch.exp(dh / SIDE_SCALE) * height / 2, torch.exp(dw / SIDE_SCALE) * width / 2
    return torch.stack(
        [centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height], dim=-1
    )


def match(boxes: Tensor, anchors: Tensor, limit: float) -> Tensor:
    """Which object each anchor learns.

    An anchor takes the object that it overlaps most, if by at least `limit` (0.7 in the paper's section 5.1, 0.5 in the
    original). Besides, every object has the anchor that overlaps it most, whatever the overlap, so that none is
    without one; where two objects have the same best anchor, the one of larger overlap takes it.

    Args:
        boxes: corners [m, 4] of the picture's objects; m may be 0.
        anchors: [A, 4].
        limit: least overlap, 0..1.

    Returns:
        int64 [A]: the object's row in `boxes`, or -1 for background.
    """
    if len(boxes) == 0:
        return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
    overlaps = box_iou(boxes, corners_of(anchors))
    best, taken = overlaps.max(dim=0)
    taken = torch.where(best >= limit, taken, -1)
    own_overlap, own_anchor = overlaps.max(dim=1)
    for row in own_overlap.argsort().tolist():
        taken[own_anchor[row]] = row
    return taken
