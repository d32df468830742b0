"""Average precision by the COCO API (pycocotools), with intervals: the field's measure, and a check of metrics.py."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from triton_models.detectors.dataset import Sample
from triton_models.detectors.metrics import Answer
from triton_models.detectors.resampling import Estimate, times_drawn

_STATS = {"AP": 0, "AP50": 1, "AP75": 2, "AR100": 8}
"""Figure -> its place in the API's summary."""
_CELLS = 1 << 22
"""Numbers that one block of draws holds at once."""


def average_precision(
    samples: Sequence[Sample], answers: Sequence[Answer], names: Sequence[str], *, seed: int = 0
) -> dict[str, Estimate]:
    """COCO's figures over all detections that were given: `AP` (mean over overlaps .5 to .95), `AP50`, `AP75`, `AR100`.

    Classes without an object take no part, in a draw of pictures neither; where there is no object at all the figures
    are NaN.
    """
    evaluation = evaluated(samples, answers, names)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its tables
        evaluation.accumulate()
        evaluation.summarize()
    stats = np.where(np.asarray(evaluation.stats) < 0, np.nan, evaluation.stats)
    draws = drawn(evaluation, times_drawn(len(samples), seed))
    return {name: Estimate(float(stats[place]), draws[name]) for name, place in _STATS.items()}


def drawn(evaluation: Any, times: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The same figures if each picture were there so many times, without asking the API again: float64 [B] each.

    A class's detections are put in the order of their scores once. Within a draw each then counts as often as its
    picture does, and precision and recall follow from running sums: what the API says of a data set in which the
    pictures are repeated.

    Args:
        evaluation: of `evaluated`, at COCO's own overlaps.
        times: [B, n], how often each of B draws has each of the n pictures.
    """
    precisions, recalls = [], []
    pictures = times.shape[1]
    areas = len(evaluation.params.areaRng)
    for place in range(len(evaluation.params.catIds)):
        first = place * areas * pictures  # the API lists classes, in them areas (the first is any), in them pictures
        seen = [
            (number, one) for number, one in enumerate(evaluation.evalImgs[first : first + pictures]) if one is not None
        ]
        objects = np.zeros(pictures)
        for number, one in seen:
            objects[number] = (np.asarray(one["gtIgnore"]) == 0).sum()
        if objects.any():
            precision, recall = _of_class(evaluation.params, seen, times, times @ objects)
            precisions.append(precision)
            recalls.append(recall)
    if not precisions:
        return {name: np.full(len(times), np.nan) for name in _STATS}
    overlaps, reached = _over_classes(precisions), _over_classes(recalls)
    return {"AP": overlaps.mean(axis=0), "AP50": overlaps[0], "AP75": overlaps[5], "AR100": reached.mean(axis=0)}


def _over_classes(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean of the classes that a draw has objects of, float64 [overlaps, B]; NaN where it has none of any."""
    known = (~np.isnan(values)).sum(axis=0)
    sums, mean = np.nansum(values, axis=0), np.full(known.shape, np.nan)
    mean[known > 0] = sums[known > 0] / known[known > 0]
    return mean


def _of_class(
    params: Any, seen: Sequence[tuple[int, Any]], times: NDArray[np.int64], objects: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average precision and greatest recall of one class, float64 [overlaps, B] each; NaN in draws without any."""
    scores = np.concatenate([one["dtScores"] for _, one in seen])
    order = np.argsort(-scores, kind="stable")
    whose = np.concatenate([np.full(len(one["dtScores"]), number) for number, one in seen])[order]
    hit = np.concatenate([np.asarray(one["dtMatches"]) for _, one in seen], axis=1)[:, order] > 0
    live = ~np.concatenate([np.asarray(one["dtIgnore"]) for _, one in seen], axis=1)[:, order].astype(bool)
    precision = np.full((len(hit), len(times)), np.nan)
    recall = precision.copy()
    step = max(1, _CELLS // max(1, len(order)))
    for start in range(0, len(times), step):
        part = slice(start, start + step)
        counted = times[part][:, whose].astype(np.float64)
        running = np.cumsum(counted, axis=1)
        wanted = np.where(objects[part] > 0, objects[part], np.nan)
        for row in range(len(hit)):
            right = hit[row] & live[row]
            rights = np.cumsum(counted[:, right], axis=1)
            said = running if live[row].all() else np.cumsum(counted * live[row], axis=1)
            precision[row, part], recall[row, part] = _under(rights, said[:, right], wanted, params.recThrs)
    return precision, recall


def _under(
    rights: NDArray[np.float64], said: NDArray[np.float64], objects: NDArray[np.float64], marks: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of the greatest precision at or beyond each mark of recall, and the greatest recall.

    Args:
        rights: [b, m], right detections up to and with each right one.
        said: [b, m], all detections up to there.
        objects: [b]; NaN where there is none.
        marks: of recall, rising.
    """
    if not rights.shape[1]:
        return np.where(np.isnan(objects), np.nan, 0.0), np.where(np.isnan(objects), np.nan, 0.0)
    recall = rights / objects[:, None]
    precision = np.divide(rights, said, out=np.zeros_like(rights), where=said > 0)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    passed = np.searchsorted(marks, recall, side="right")
    fresh = np.diff(passed, axis=1, prepend=0)
    area = (best * fresh).sum(axis=1) / len(marks)
    return np.where(np.isnan(objects), np.nan, area), recall[:, -1]


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
