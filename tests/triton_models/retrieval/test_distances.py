"""Rankings against a plain second implementation, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_models.embedders.codes import pack
from triton_models.retrieval import distances
from triton_models.retrieval.distances import Distance, nearest, pairwise


def plainly(query: np.ndarray, row: np.ndarray, distance: Distance) -> float:
    if distance == "Hamming":
        return sum(bin(int(a) ^ int(b)).count("1") for a, b in zip(query, row, strict=True))
    steps = [abs(float(a) - float(b)) for a, b in zip(query, row, strict=True)]
    return sum(steps) if distance == "L1" else sum(step * step for step in steps)


@given(st.integers(0, 1000), st.sampled_from(["L2", "L1", "Hamming"]), st.integers(1, 12), st.integers(1, 70))
@settings(max_examples=40, deadline=None)
def test_ranking_equals_sorting_every_pair(seed: int, distance: Distance, k: int, width: int) -> None:
    """Small whole numbers, so that ties are many and every distance is exact."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-2, 3, (30, width)).astype(np.float32)
    rows = pack(values) if distance == "Hamming" else values
    queries, gallery = rows[:9], rows[9:]
    own, theirs = rng.integers(0, 6, 9), rng.integers(0, 6, 21)
    found = nearest(queries, gallery, distance, k, own, theirs)
    for place, query in enumerate(queries):
        away = [
            (plainly(query, row, distance), number)
            for number, row in enumerate(gallery)
            if theirs[number] != own[place]
        ]
        expected = [number for _, number in sorted(away)[:k]]
        assert found[place].tolist() == expected + [-1] * (k - len(expected))


@pytest.mark.parametrize("distance", ["L2", "L1", "Hamming"])
def test_blocks_change_nothing(distance: Distance, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    rows = rng.integers(0, 255, (40, 33), np.uint8) if distance == "Hamming" else rng.normal(size=(40, 33))
    rows = rows if distance == "Hamming" else rows.astype(np.float32)
    whole = pairwise(rows, rows, distance)
    for name in ("BLOCK_BYTES", "CACHED_BYTES"):
        monkeypatch.setattr(distances, name, 700)
    np.testing.assert_allclose(pairwise(rows, rows, distance), whole, rtol=1e-6, atol=1e-9)


def test_close_neighbours_far_from_the_origin_are_told_apart() -> None:
    """What float32 would lose to cancellation."""
    gallery = np.full((2, 64), 1000.0, np.float32)
    gallery[1, 0] += 0.01
    query = gallery[1:2].copy()
    nobody = np.array([-1]), np.array([-2, -3])
    assert nearest(query, gallery, "L2", 1, *nobody).tolist() == [[1]]
