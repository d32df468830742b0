"""Means with 95 % intervals that know which observations belong together.

Questions about one scene, or guesses about one photograph, share what makes them easy or hard: as many independent
questions they would give intervals that are too narrow. So whole clusters are drawn (the cluster bootstrap): as many
clusters as there are, with replacement, and the mean is that of all observations in those that were drawn. Where
observations belong together in two ways, such as by the scene that is asked from and by the thing that is asked for,
the wider of the two intervals is given.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from ops.bench._report import Figure

DRAWS = 1_000
Z = 1.96


def mean(values: Sequence[float], unit: str, peer: float | None = None) -> Figure:
    """The mean of a figure over observations; `peer` is what chance or the plain way gives."""
    return Figure(float(np.mean(values)) if len(values) else 0.0, unit, peer=peer)


def interval(values: Sequence[float], *groupings: Sequence[Hashable]) -> str:
    """The 95 % interval of the mean, in words.

    Args:
        values: one for each observation.
        groupings: each gives the cluster of every observation; without any, each observation is one of its own.
    """
    if not len(values):
        return "no queries"
    low, high = max((_drawn(values, each) for each in groupings or (range(len(values)),)), key=lambda at: at[1] - at[0])
    return f"{low:.3f} to {high:.3f}"


def _drawn(values: Sequence[float], clusters: Sequence[Hashable]) -> tuple[float, float]:
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    at = np.array([numbers[cluster] for cluster in clusters])
    sums, counts = np.bincount(at, np.asarray(values, float)), np.bincount(at)
    draws = np.random.default_rng(0).integers(len(numbers), size=(DRAWS, len(numbers)))
    low, high = np.percentile(sums[draws].sum(axis=1) / counts[draws].sum(axis=1), (2.5, 97.5))
    return float(low), float(high)


def share_interval(rights: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> tuple[float, float]:
    """The 95 % interval of a share whose observations come in clusters: Wilson's, with the effective number of them.

    That number is p (1 - p) / v, where v = m / (m - 1) * sum over clusters of (right - p * count)^2 / n^2 is the
    share's variance over m clusters with n observations; n at most. Where all or none are right, and v says nothing,
    it is m: as if a cluster were one observation.

    Args:
        rights: int64 [m], of each cluster.
        counts: int64 [m], its observations.
    """
    n, m = int(counts.sum()), int(np.count_nonzero(counts))
    if not n:
        return 0.0, 1.0
    p = float(rights.sum()) / n
    variance = float(((rights - p * counts) ** 2).sum()) / n**2 * m / max(1, m - 1)
    effective = min(n, p * (1 - p) / variance) if 0 < p < 1 and variance > 0 else m
    middle = (p + Z * Z / (2 * effective)) / (1 + Z * Z / effective)
    reach = Z / (1 + Z * Z / effective) * math.sqrt(p * (1 - p) / effective + Z * Z / (4 * effective**2))
    return middle - reach, middle + reach
