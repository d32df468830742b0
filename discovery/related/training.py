"""Rank-SVM: a linear model from pairs of impressions (paper, section 6).

Of two pins in the same answer, the one on which people did more (examples.py, GRADES) should score higher. Each such
pair gives the difference of its features; a linear SVM without intercept (scikit-learn's LinearSVC with squared hinge
loss, solved in the primal) separates the differences from their negatives, which is Rank-SVM. Differences are divided
by their standard deviation first, and the weights afterwards, so that regularisation treats all features alike. Each
answer counts the same, however many pairs it gives; of an answer with very many a fixed number is drawn.

Pins that stood above others were seen more. Pairs do not correct for that: train on answers in random order, or on a
share of them shown so, where the order of the log should not be learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from discovery.related.examples import Example, Requests, matrix
from discovery.related.features import BASE, CROSS, Matrix
from discovery.related.model import LinearModel
from dotstream.errors import Misconfigured

MAX_ITERATIONS = 2_000


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How the ranker is trained.

    Attributes:
        c: of the SVM; greater fits the pairs closer.
        pairs_max: drawn from one answer.
        seed: of drawing.
        without: feature names left out, or "cross:" for all cross features; for ablations.
    """

    c: float = 1.0
    pairs_max: int = 50
    seed: int = 0
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trained:
    """A model, and how many pairs of the training log it orders as people did, 0..1."""

    model: LinearModel
    pairs: int
    agreement: float


def train(requests: Requests, settings: TrainingSettings | None = None) -> Trained:
    """Trains on the pairs of logged answers.

    Raises:
        Misconfigured: no answer holds two pins on which people did different things.
    """
    try:
        from sklearn.svm import LinearSVC  # noqa: PLC0415  only who trains waits for it
    except ImportError as error:
        raise Misconfigured("training needs scikit-learn: install it beside dotstream") from error
    chosen = settings or TrainingSettings()
    names = _names(requests, chosen.without)
    differences, weights = pair_differences(requests, names, chosen)
    if not len(differences):
        raise Misconfigured("no answer of the log holds two pins on which people did different things")
    scale = differences.std(axis=0)
    scale[scale == 0] = 1.0
    signs = np.where(np.arange(len(differences)) % 2, 1.0, -1.0)
    solver = LinearSVC(
        C=chosen.c,
        loss="squared_hinge",
        fit_intercept=False,
        dual=False,
        max_iter=MAX_ITERATIONS,
    )
    solver.fit(differences / scale * signs[:, None], signs, sample_weight=weights)
    found = solver.coef_[0] / scale
    agreement = float(((differences @ found) > 0).mean())
    examples = sum(map(len, requests.values()))
    synthetic = any(one.synthetic for seen in requests.values() for one in seen)
    made = {
        "by": "Rank-SVM (LinearSVC, squared hinge)",
        "synthetic": synthetic,
        "answers": len(requests),
        "examples": examples,
        "pairs": len(differences),
        "c": chosen.c,
        "without": list(chosen.without),
        "agreement": round(agreement, 4),
    }
    model = LinearModel(dict(zip(names, found.tolist(), strict=True)), trained=made)
    return Trained(model, len(differences), agreement)


def pair_differences(
    requests: Requests, names: Sequence[str], settings: TrainingSettings
) -> tuple[Matrix, npt.NDArray[np.float64]]:
    """(features of the better less those of the other, one row for each pair; its weight, 1 on average)."""
    draw = np.random.default_rng(settings.seed)
    rows: list[Matrix] = []
    weights: list[npt.NDArray[np.float64]] = []
    for request_id in sorted(requests):
        better, worse = _pairs(requests[request_id])
        if not len(better):
            continue
        if len(better) > settings.pairs_max:
            kept = draw.choice(len(better), settings.pairs_max, replace=False)
            better, worse = better[kept], worse[kept]
        features = matrix(requests[request_id], names)
        rows.append(features[better] - features[worse])
        weights.append(np.full(len(better), 1 / len(better)))
    if not rows:
        return np.zeros((0, len(names))), np.zeros(0)
    joined = np.concatenate(weights)
    return np.concatenate(rows), joined / joined.mean()


def _pairs(seen: Sequence[Example]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    grades = np.array([one.grade for one in seen])
    better, worse = np.nonzero(grades[:, None] > grades[None, :])
    return better, worse


def _names(requests: Requests, without: Sequence[str]) -> tuple[str, ...]:
    """The features of the log, base ones first, cross ones by name."""
    logged = {name for seen in requests.values() for one in seen for name in one.features}
    crosses = sorted(name for name in logged if name.startswith(CROSS))
    left_out = {name for name in without if name != CROSS}
    names = [name for name in BASE if name not in left_out]
    return (*names, *([] if CROSS in without else [name for name in crosses if name not in left_out]))
