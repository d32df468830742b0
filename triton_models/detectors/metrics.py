"""Precision and recall of detections at one overlap and one score (section 5 of the paper, Table 3; row P23).

A detection is right when it has the class of an object of the picture that it overlaps by at least the asked share and
that no better detection took. Detections choose best score first, each the free object that it overlaps most. Per group
of classes and overall:

    precision = right detections / detections         recall = found objects / objects

Objects marked as crowd are not asked for, and what falls on them is not counted (COCO's rule: its overlap is the share
of the detection that lies inside).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from triton_models.detectors.dataset import Sample
from triton_models.detectors.labels import LabelMap
from triton_models.detectors.resampling import Estimate, times_drawn

OVERALL = "overall"
_SLACK = 1e-10  # as COCO's evaluation has it, so that an overlap of exactly the limit counts


@dataclass(frozen=True)
class Answer:
    """What a detector said about one picture, best first.

    Attributes:
        boxes: float32 [k, 4], x0, y0, x1, y1 in pixels.
        labels: int64 [k], place in the data's label map.
        scores: float32 [k].
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]

    def above(self, score: float) -> Answer:
        """Only the detections of at least this score."""
        kept = self.scores >= score
        return Answer(self.boxes[kept], self.labels[kept], self.scores[kept])


@dataclass(frozen=True)
class Quality:
    """Precision and recall, and of how many detections and objects. A share of nothing is NaN."""

    precision: Estimate
    recall: Estimate
    detections: int
    objects: int


@dataclass(frozen=True)
class Matches:
    """Of each picture (row) and class (column): right detections, wrong ones, and objects; int64 [n, C] each."""

    right: NDArray[np.int64]
    wrong: NDArray[np.int64]
    objects: NDArray[np.int64]


def matched(samples: Sequence[Sample], answers: Sequence[Answer], *, classes: int, iou: float) -> Matches:
    """Compares answers with what is there.

    Args:
        samples: pictures with their objects.
        answers: about the same pictures.
        classes: C.
        iou: least overlap of a right detection.
    """
    counts = np.zeros((3, len(samples), classes), np.int64)
    for row, (sample, answer) in enumerate(zip(samples, answers, strict=True)):
        for label in np.union1d(sample.labels, answer.labels):
            truth, said = sample.labels == label, answer.labels == label
            counts[:, row, label] = _one(sample.boxes[truth], sample.crowd[truth], answer.boxes[said], iou)
    return Matches(*counts)


def _one(
    truth: NDArray[np.float32], crowd: NDArray[np.bool_], said: NDArray[np.float32], iou: float
) -> tuple[int, int, int]:
    overlaps = overlap(said, truth, crowd)
    free = ~crowd
    right = wrong = 0
    for row in overlaps:  # best score first
        fits = row >= iou - _SLACK
        if (fits & free).any():
            free[np.argmax(np.where(fits & free, row, -1.0))] = False
            right += 1
        elif not (fits & crowd).any():
            wrong += 1
    return right, wrong, int((~crowd).sum())


def overlap(
    boxes: NDArray[np.float32], others: NDArray[np.float32], crowd: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Intersection over union float64 [k, m]; over the area of the first box where the other is a crowd."""
    a, b = boxes.astype(np.float64), others.astype(np.float64)
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    area_a, area_b = np.prod(a[:, 2:] - a[:, :2], axis=1)[:, None], np.prod(b[:, 2:] - b[:, :2], axis=1)[None]
    union = area_a + area_b - shared
    if crowd is not None:
        union = np.where(crowd[None], area_a, union)
    result: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def qualities(matches: Matches, labels: LabelMap, *, seed: int = 0) -> Mapping[str, Quality]:
    """Quality of each group of the label map that has objects or detections, in its order, then overall."""
    groups = {group: [labels.names.index(name) for name in names] for group, names in labels.groups.items()} | {
        OVERALL: list(range(len(labels.names)))
    }
    result: dict[str, Quality] = {}
    for group, columns in groups.items():
        right, wrong, objects = (
            part[:, columns].sum(axis=1) for part in (matches.right, matches.wrong, matches.objects)
        )
        if group == OVERALL or (right + wrong + objects).any():
            result[group] = quality_of(right, wrong, objects, seed=seed)
    return result


def quality_of(
    right: NDArray[np.int64], wrong: NDArray[np.int64], objects: NDArray[np.int64], *, seed: int = 0
) -> Quality:
    """The quality that these counts of each picture make, int64 [n] each."""
    times = times_drawn(len(right), seed)
    said = right + wrong
    rights = times @ right
    return Quality(
        Estimate(float(_share(right.sum(), said.sum())), _share(rights, times @ said)),
        Estimate(float(_share(right.sum(), objects.sum())), _share(rights, times @ objects)),
        int(said.sum()),
        int(objects.sum()),
    )


def _share(part: NDArray[np.int64] | np.int64, whole: NDArray[np.int64] | np.int64) -> NDArray[np.float64]:
    some = np.asarray(whole) > 0
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=some)


def best_threshold(samples: Sequence[Sample], answers: Sequence[Answer], *, labels: LabelMap, iou: float) -> float:
    """The score, in steps of 0.05, at which precision and recall together (F1) are best on these pictures."""
    best = (-1.0, 0.5)
    for step in range(1, 20):
        score = step / 20
        kept = [answer.above(score) for answer in answers]
        counts = matched(samples, kept, classes=len(labels.names), iou=iou)
        right, said, there = counts.right.sum(), (counts.right + counts.wrong).sum(), counts.objects.sum()
        f1 = 2 * right / (said + there) if said + there else 0.0
        best = max(best, (float(f1), score))
    return best[1]
