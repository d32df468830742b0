"""Exhaustive nearest neighbours by L2, L1 and Hamming distance, in blocks that keep memory bounded.

Ranking is total: by distance, then by place in the gallery. L2 is computed in float64 by one matrix product for each
block, L1 as a plain sum of differences, Hamming by counting bits of 64-bit words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Distance = Literal["L2", "L1", "Hamming"]
Block = Callable[[NDArray[Any]], NDArray[Any]]

BLOCK_BYTES = 64 << 20
CACHED_BYTES = 1 << 20
"""Of the gallery that L1 takes at once: it stays in a core's cache while the queries go over it, three times faster."""


def nearest(  # noqa: PLR0917  both sides with their objects
    queries: NDArray[Any],
    gallery: NDArray[Any],
    distance: Distance,
    k: int,
    query_objects: NDArray[np.int64],
    gallery_objects: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Places in the gallery of the k nearest of each query, without its own object.

    Args:
        queries: [q, d]: float32 features, or uint8 codes with "Hamming".
        gallery: [n, d], the same.
        distance: which.
        k: results; fewer where the gallery without the object has fewer, then the rest is -1.
        query_objects: number of each query's object.
        gallery_objects: number of each gallery picture's object.

    Returns:
        int64 [q, k], nearest first.
    """
    rows = []
    start = 0
    for block in _blocks(queries, gallery, distance):
        own = query_objects[start : start + len(block), None] == gallery_objects[None, :]
        for away, mine in zip(block, own, strict=True):
            rows.append(_first(away, mine, k))
        start += len(block)
    return np.array(rows, np.int64).reshape(len(queries), k)


def pairwise(queries: NDArray[Any], gallery: NDArray[Any], distance: Distance) -> NDArray[Any]:
    """All distances, [q, n]; L2 squared."""
    return np.concatenate(list(_blocks(queries, gallery, distance)))


def _first(away: NDArray[Any], mine: NDArray[np.bool_], k: int) -> NDArray[np.int64]:
    allowed = np.flatnonzero(~mine)
    values = away[allowed]
    if len(values) > k:
        limit = np.partition(values, k - 1)[k - 1]
        inside = values <= limit
        allowed, values = allowed[inside], values[inside]
    found = allowed[np.argsort(values, kind="stable")][:k]
    return np.concatenate([found, np.full(k - len(found), -1, np.int64)])


def _blocks(queries: NDArray[Any], gallery: NDArray[Any], distance: Distance) -> Iterator[NDArray[Any]]:
    measure = {"L2": _l2, "L1": _l1, "Hamming": _hamming}[distance](gallery)
    step = max(1, BLOCK_BYTES // (8 * len(gallery)))
    for start in range(0, len(queries), step):
        yield measure(queries[start : start + step])


def _l2(gallery: NDArray[Any]) -> Block:
    wide = gallery.astype(np.float64)
    squares = (wide * wide).sum(axis=1)

    def measure(queries: NDArray[Any]) -> NDArray[Any]:
        own = queries.astype(np.float64)
        squared = (own * own).sum(axis=1)[:, None] + squares - 2.0 * (own @ wide.T)
        return np.asarray(np.maximum(squared, 0.0))

    return measure


def _l1(gallery: NDArray[Any]) -> Block:
    step = max(1, CACHED_BYTES // (4 * gallery.shape[1]))

    def measure(queries: NDArray[Any]) -> NDArray[Any]:
        rows = np.empty((len(queries), len(gallery)), np.float32)
        for start in range(0, len(gallery), step):
            part = gallery[start : start + step]
            for place, query in enumerate(queries):
                np.abs(part - query).sum(axis=1, out=rows[place, start : start + step])
        return rows

    return measure


def _hamming(gallery: NDArray[Any]) -> Block:
    words = _words(gallery)

    def measure(queries: NDArray[Any]) -> NDArray[Any]:
        return np.stack([np.bitwise_count(words ^ query).sum(axis=1, dtype=np.int32) for query in _words(queries)])

    return measure


def _words(codes: NDArray[Any]) -> NDArray[np.uint64]:
    padded = np.zeros((len(codes), -(-codes.shape[1] // 8) * 8), np.uint8)
    padded[:, : codes.shape[1]] = codes
    return padded.view(np.uint64)
