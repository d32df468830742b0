"""Average precision by the COCO API (pycocotools): the field's measure, and a second opinion on metrics.py."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from triton_models.detectors.dataset import Sample
from triton_models.detectors.metrics import Answer


def average_precision(samples: Sequence[Sample], answers: Sequence[Answer], names: Sequence[str]) -> dict[str, float]:
    """COCO's figures over all detections that were given: `AP` (mean over overlaps .5 to .95), `AP50`, `AP75`, `AR100`.

    Classes without an object take no part; where there is no object at all the figures are NaN.
    """
    evaluation = evaluated(samples, answers, names)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its tables
        evaluation.accumulate()
        evaluation.summarize()
    stats = np.where(np.asarray(evaluation.stats) < 0, np.nan, evaluation.stats)
    return {name: float(stats[place]) for name, place in (("AP", 0), ("AP50", 1), ("AP75", 2), ("AR100", 8))}


def evaluated(
    samples: Sequence[Sample], answers: Sequence[Answer], names: Sequence[str], *, ious: Sequence[float] = ()
) -> Any:
    """The API's evaluation of every picture and class, not yet summed up."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = _truth(samples, names)
        truth.createIndex()
        said = truth.loadRes(_said(answers)) if any(len(answer.labels) for answer in answers) else _nothing(truth)
        evaluation = COCOeval(truth, said, "bbox")
        if ious:
            evaluation.params.iouThrs = np.asarray(ious)
        evaluation.evaluate()
    return evaluation


def _truth(samples: Sequence[Sample], names: Sequence[str]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for number, sample in enumerate(samples, 1):
        for box, label, crowd in zip(sample.boxes, sample.labels, sample.crowd, strict=True):
            x0, y0, x1, y1 = (float(value) for value in box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": int(crowd),
                }
            )
    images = [{"id": n, "width": s.width, "height": s.height} for n, s in enumerate(samples, 1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def _said(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": number,
            "category_id": int(label) + 1,
            "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])],
            "score": float(score),
        }
        for number, answer in enumerate(answers, 1)
        for box, label, score in zip(answer.boxes, answer.labels, answer.scores, strict=True)
    ]


def _nothing(truth: Any) -> Any:
    empty = COCO()
    empty.dataset = {**truth.dataset, "annotations": []}
    empty.createIndex()
    return empty
