"""Precision by hand, intervals against known distributions."""

from __future__ import annotations

import numpy as np

from triton_models.retrieval.measure import differences, estimates, hits, numbered


def test_precision_by_hand() -> None:
    """A query of label 7 that finds 7 7 8 7 8 | 8 8 7 8 8, and one that finds nothing behind its third result."""
    gallery = np.array([7, 8, 7, 7, 8, 8, 8, 7, 8, 8])
    found = np.array([[0, 2, 1, 3, 4, 5, 6, 7, 8, 9], [1, 4, 5, -1, -1, -1, -1, -1, -1, -1]])
    seen = hits(found, np.array([7, 8]), gallery)
    np.testing.assert_allclose(seen, [[1.0, 3 / 5, 4 / 10], [1.0, 3 / 5, 3 / 10]])


def test_interval_of_independent_queries_is_that_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    values = (rng.random((1000, 1)) < 0.3).astype(np.float64)
    (one,) = estimates(values, np.arange(1000), 0)
    error = 1.96 * np.sqrt(one.value * (1 - one.value) / 1000)
    assert abs(one.low - (one.value - error)) < 0.006 and abs(one.high - (one.value + error)) < 0.006


def test_views_of_one_object_count_once() -> None:
    """Ten equal views of each of a hundred objects say no more than the objects do."""
    rng = np.random.default_rng(1)
    of_object = (rng.random((100, 1)) < 0.5).astype(np.float64)
    (alone,) = estimates(of_object, np.arange(100), 0)
    (viewed,) = estimates(np.repeat(of_object, 10, axis=0), np.repeat(np.arange(100), 10), 0)
    assert viewed == alone


def test_a_constant_difference_has_no_width() -> None:
    rng = np.random.default_rng(2)
    first = rng.random((50, 2))
    for one in differences(first + 0.25, first, np.arange(50), 0):
        assert abs(one.low - 0.25) < 1e-12 and abs(one.high - 0.25) < 1e-12


def test_equal_names_have_equal_numbers() -> None:
    assert numbered(["b", "a", "b"]).tolist() == [0, 1, 0]
