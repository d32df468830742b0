"""A figure with its value on each of many draws of pictures: its interval, and its difference to another's.

The draws follow from the number of pictures and the seed alone. So two detectors' figures about the same pictures are
compared draw by draw, and what makes a draw easy or hard for both does not widen the interval of their difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A figure and its resampled values.

    Attributes:
        value: over all pictures; NaN for a share of nothing.
        draws: float64 [RESAMPLES], over each draw; NaN where a draw has nothing to share.
    """

    value: float
    draws: NDArray[np.float64]

    @property
    def interval(self) -> tuple[float, float]:
        """The 2.5th and 97.5th percentile (bootstrap); NaN where no draw has a value."""
        known = self.draws[~np.isnan(self.draws)]
        if not len(known):
            return float("nan"), float("nan")
        low, high = np.percentile(known, (2.5, 97.5))
        return float(low), float(high)

    def minus(self, other: Estimate) -> Estimate:
        """The difference to a figure about the same pictures."""
        return Estimate(self.value - other.value, self.draws - other.draws)


def times_drawn(pictures: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each draw has each picture: int64 [RESAMPLES, pictures]; each row sums to the number of pictures."""
    rows = np.random.default_rng(seed).integers(0, pictures, (RESAMPLES, pictures))
    return np.stack([np.bincount(row, minlength=pictures) for row in rows])
