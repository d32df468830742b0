"""Intervals hold what they should, and grow where observations say the same."""

from __future__ import annotations

import numpy as np
import pytest

from ops.evals.intervals import interval, share_interval


def of(values: list[float], *groupings: list[object]) -> tuple[float, float]:
    low, high = map(float, interval(values, *groupings).split(" to "))
    return low, high


def test_intervals_hold_the_mean() -> None:
    low, high = of([0.0, 1.0] * 50)
    assert 0.35 < low < 0.5 < high < 0.65
    assert interval([]) == "no queries"


def test_observations_that_repeat_their_cluster_add_nothing() -> None:
    once = [0.0, 1.0, 1.0, 1.0] * 10
    ten_times = [value for value in once for _ in range(10)]
    scenes: list[object] = [at // 10 for at in range(400)]
    assert of(ten_times, scenes) == of(once)
    alone = of(ten_times)
    assert alone[1] - alone[0] < 0.5 * (of(once)[1] - of(once)[0])


def test_clusters_count_by_what_they_hold() -> None:
    values = [1.0] * 90 + [0.0] * 10
    clusters: list[object] = [*(f"large {n // 30}" for n in range(90)), *(f"small {n}" for n in range(10))]
    low, high = of(values, clusters)
    assert low < 0.9 < high


def test_of_two_groupings_the_wider_interval_is_told() -> None:
    random = np.random.default_rng(1)
    model = [int(n) for n in random.integers(8, size=200)]
    values = [float(one < 4) for one in model]
    scenes: list[object] = list(range(200))
    models: list[object] = list(model)
    assert of(values, scenes, models) == of(values, models, scenes) == of(values, models) != of(values, scenes)


def test_a_share_of_single_observations_has_wilsons_interval() -> None:
    low, high = share_interval(np.array([1] * 8 + [0] * 2), np.ones(10, int))
    assert (low, high) == pytest.approx(_wilson_by_hand(), abs=0.02)
    assert share_interval(np.zeros(0, int), np.zeros(0, int)) == (0.0, 1.0)
    assert share_interval(np.full(10, 5), np.full(10, 5)) == pytest.approx(
        (0.722, 1.0), abs=1e-3
    )  # 10 of 10, from tables


def _wilson_by_hand() -> tuple[float, float]:
    return 0.490, 0.943  # 8 of 10, from tables
