"""Binarisation (section 4): a feature above its threshold becomes 1; bits are packed most significant first.

The paper's threshold is zero. A layer whose features are nearly all positive then gives codes that say little: its
averaged pool5 is 83.86 % positive and collapses. `statistics` shows this for any sample of features, and `medians`
gives thresholds under which every bit is set for half of the sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]

FIT_INFORMATION = 0.5
"""Bits of information in a bit of the code, on average, below which a layer counts as unfit for binarisation."""


@dataclass(frozen=True)
class BitStatistics:
    """What codes of a sample would be like.

    Attributes:
        positive: share of bits that are set, over all pictures and features (the paper's 83.86 %).
        constant: share of the features whose bit is the same for every picture.
        information: mean over features of the entropy of their bit, in bits; 1 is the most.
    """

    positive: float
    constant: float
    information: float

    @property
    def fit(self) -> bool:
        return self.information >= FIT_INFORMATION

    @property
    def warning(self) -> str:
        """Why the layer is unfit for codes at these thresholds; empty when it is fit."""
        if self.fit:
            return ""
        return (
            f"unfit for codes at these thresholds: {self.positive:.2%} of the bits are set and a bit carries "
            f"{self.information:.2f} bits of information; use median thresholds or another layer"
        )


def medians(features: Floats) -> Floats:
    """Thresholds [d] that each feature of the sample [n, d] exceeds in half of the pictures."""
    return np.median(features, axis=0).astype(np.float32)


def pack(features: Floats, thresholds: Floats | None = None) -> Codes:
    """Codes uint8 [n, ceil(d / 8)] of features [n, d]; thresholds [d], or None for the paper's zero."""
    return np.packbits(features > (0.0 if thresholds is None else thresholds), axis=1)


def statistics(features: Floats, thresholds: Floats | None = None) -> BitStatistics:
    """What binarising a sample [n, d] at the thresholds gives."""
    often = (features > (0.0 if thresholds is None else thresholds)).mean(axis=0)
    inside = often[(often > 0) & (often < 1)]
    entropy = -(inside * np.log2(inside) + (1 - inside) * np.log2(1 - inside)).sum() / len(often)
    return BitStatistics(float(often.mean()), float(1 - len(inside) / len(often)), float(entropy))
