"""Precision at K with bootstrap intervals, alone and as the difference of two representations on the same queries.

Views of one object are no independent queries: the bootstrap draws objects, with all queries of each, which makes the
intervals as wide as they must be. Where every picture is its own object this is the ordinary bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from triton_models.data.seeds import generator

DEPTHS = (1, 5, 10)
RESAMPLES = 2000
LEVEL = 0.95

Hits = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def hits(found: NDArray[np.int64], query_labels: NDArray[np.int64], gallery_labels: NDArray[np.int64]) -> Hits:
    """Share of relevant results of each query at each depth: float64 [q, 3] for K of 1, 5 and 10.

    Args:
        found: places in the gallery [q, at least 10], -1 where there is no result (which counts as not relevant).
        query_labels: number of each query's label.
        gallery_labels: number of each gallery picture's label.
    """
    relevant = (found >= 0) & (gallery_labels[found] == query_labels[:, None])
    return np.stack([relevant[:, :depth].mean(axis=1) for depth in DEPTHS], axis=1)


def estimates(values: Hits, objects: NDArray[np.int64], seed: int) -> list[Estimate]:
    """The mean of each column [q, c] with its interval; `objects` [q] says which queries belong together."""
    sums, counts = _by_object(values, objects)
    means = _resampled(sums, counts, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    centre = values.mean(axis=0)
    return [Estimate(float(c), float(a), float(b)) for c, a, b in zip(centre, low, high, strict=True)]


def differences(first: Hits, second: Hits, objects: NDArray[np.int64], seed: int) -> list[Estimate]:
    """First - second, query by query: what the pair has in common does not widen the interval."""
    return estimates(first - second, objects, seed)


def _by_object(values: Hits, objects: NDArray[np.int64]) -> tuple[Hits, Hits]:
    _, place = np.unique(objects, return_inverse=True)
    count = int(place.max()) + 1
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, place, values)
    return sums, np.bincount(place, minlength=count).astype(np.float64)


def _resampled(sums: Hits, counts: Hits, seed: int) -> Hits:
    """Means of RESAMPLES draws of objects with repetition: float64 [RESAMPLES, c]."""
    rng = generator(seed, "bootstrap")
    rows = []
    for _ in range(RESAMPLES):
        times = np.bincount(rng.integers(len(counts), size=len(counts)), minlength=len(counts))
        rows.append((times @ sums) / (times @ counts))
    return np.array(rows)


def numbered(names: Sequence[str]) -> NDArray[np.int64]:
    """Each name as a number; equal names have equal numbers."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)
