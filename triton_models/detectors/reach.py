"""What an SSD's anchors can reach before anything is learnt: the share of objects that some anchor overlaps enough.

An object that no anchor overlaps by the limit learns from its one best anchor alone, and its box has to be moved
further than any of the others. The paper keeps stride 1 in the additional layers to place boxes better (section 5.1):
more cells give more objects an anchor at 0.7 IoU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from triton_models.detectors.boxes import corners_of
from triton_models.detectors.dataset import Sample
from triton_models.detectors.detector import Detector
from triton_models.detectors.metrics import Quality, overlap, quality_of
from triton_models.detectors.ssd import Ssd


def anchors_of(detector: Detector) -> NDArray[np.float32] | None:
    """An SSD's anchors, float32 [A, 4], x0, y0, x1, y1 as shares of the picture; None for a detector without."""
    return corners_of(detector.anchors).cpu().numpy() if isinstance(detector, Ssd) else None


def within_reach(anchors: NDArray[np.float32], samples: Sequence[Sample], iou: float) -> Quality:
    """How many objects have an anchor within reach; `recall` of the result is the share, with its interval.

    Args:
        anchors: float32 [A, 4], x0, y0, x1, y1 as shares of the picture.
        samples: pictures with their objects; crowds are not asked for.
        iou: least overlap.
    """
    reached, objects = [], []
    for sample in samples:
        sides = np.array([sample.width, sample.height] * 2, np.float32)
        boxes: NDArray[np.float32] = np.divide(sample.boxes[~sample.crowd], sides, dtype=np.float32)
        best = overlap(boxes, anchors).max(axis=1, initial=0.0)
        reached.append(int((best >= iou).sum()))
        objects.append(len(boxes))
    none = np.zeros(len(objects), np.int64)
    return quality_of(np.array(reached, np.int64), none, np.array(objects, np.int64))
