"""Binarisation against plain loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from triton_models.embedders.codes import medians, pack, statistics

Features = hnp.arrays(
    np.float32,
    st.tuples(st.integers(2, 20), st.integers(1, 40)),
    elements=st.floats(-4, 4, width=16),
)


@given(Features, st.booleans())
def test_bits_are_set_above_the_threshold_most_significant_first(features: np.ndarray, calibrated: bool) -> None:
    thresholds = medians(features) if calibrated else None
    codes = pack(features, thresholds)
    for row, code in zip(features, codes, strict=True):
        limits = np.zeros(len(row)) if thresholds is None else thresholds
        text = "".join("1" if value > limit else "0" for value, limit in zip(row, limits, strict=True))
        text += "0" * (-len(text) % 8)
        assert code.tobytes() == int(text, 2).to_bytes(len(text) // 8, "big")


def test_4096_features_are_512_bytes() -> None:
    assert pack(np.zeros((3, 4096), np.float32)).shape == (3, 512)


def test_medians_split_distinct_values_in_half() -> None:
    features = np.random.default_rng(0).normal(3.0, 1.0, (101, 16)).astype(np.float32)
    bits = np.unpackbits(pack(features, medians(features)), axis=1)
    assert (bits.sum(axis=0) == 50).all()


def test_a_layer_that_is_nearly_always_positive_is_unfit_and_medians_mend_it() -> None:
    features = np.random.default_rng(0).normal(2.0, 1.0, (500, 64)).astype(np.float32)
    sign = statistics(features)
    assert 0.96 < sign.positive < 0.99 and not sign.fit and "median" in sign.warning
    median = statistics(features, medians(features))
    assert abs(median.positive - 0.5) < 0.01 and median.fit and median.warning == "" and median.information > 0.99


def test_statistics_by_hand() -> None:
    """Bits: always, never, and once in four: information (0 + 0 + 0.811) / 3."""
    features = np.array([[1, -1, 1], [1, -1, -1], [1, -1, -1], [1, -1, -1]], np.float32)
    seen = statistics(features)
    assert seen.positive == (4 + 0 + 1) / 12 and abs(seen.constant - 2 / 3) < 1e-12
    assert abs(seen.information - 0.8112781 / 3) < 1e-6
