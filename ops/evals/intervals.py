"""Means with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ops.bench._report import Figure

DRAWS = 1_000


def mean(values: Sequence[float], unit: str, peer: float | None = None) -> Figure:
    """The mean of a figure over queries; `peer` is what chance or the plain way gives."""
    return Figure(float(np.mean(values)) if len(values) else 0.0, unit, peer=peer)


def interval(values: Sequence[float]) -> str:
    """The 95 % bootstrap interval of the mean, in words."""
    if not len(values):
        return "no queries"
    drawn = np.random.default_rng(0).choice(np.asarray(values, float), (DRAWS, len(values))).mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return f"{low:.3f} to {high:.3f}"
