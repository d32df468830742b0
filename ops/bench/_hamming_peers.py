"""Exact Hamming search by libraries that people use, on one thread: faiss as it comes, faiss at its best, usearch."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dotstream.errors import Misconfigured
from indexer.scan import Codes, Ints

Search = Callable[[Codes, int], Ints]
"""(queries uint8 [nq, bytes], k) -> int64 [nq, k], distances ascending."""
_BLOCK_BYTES = (1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21)
_VARIANTS = ("hc", "mc")
_TRIED_SHARE = 8
"""The best setting is looked for over one in so many of the codes."""


def peers(codes: Codes, queries: Codes) -> dict[str, Search]:
    """Each by its name, over the same codes.

    Args:
        codes: uint8 [n, bytes].
        queries: uint8 [nq, bytes]: what faiss is set for at its best.

    Raises:
        Misconfigured: one of them is not installed.
    """
    try:
        import faiss
        import usearch  # noqa: F401
    except ModuleNotFoundError as error:
        raise Misconfigured(f"{error.name} is not installed; uv sync --group bench installs what is measured") from None
    faiss.omp_set_num_threads(1)
    return {
        "faiss IndexBinaryFlat": _faiss_flat(faiss, codes),
        "faiss, best setting": _faiss_best(faiss, codes, queries),
        "usearch exact": _usearch(codes),
    }


def _faiss_flat(faiss: Any, codes: Codes) -> Search:
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(codes)

    def search(queries: Codes, k: int) -> Ints:
        distances: Ints = index.search(queries, k)[0].astype(np.int64)
        return distances

    return search


def _faiss_best(faiss: Any, codes: Codes, queries: Codes) -> Search:
    """Faiss's kernels over the codes where they lie: of heap and counters, and of block sizes, what is fastest here."""

    def setting(variant: str, block: int) -> Callable[[Codes], Search]:
        def over(codes: Codes) -> Search:
            def search(queries: Codes, k: int) -> Ints:
                usual = faiss.cvar.hamming_batch_size
                faiss.cvar.hamming_batch_size = block
                try:
                    distances: Ints = faiss.knn_hamming(queries, codes, k, variant=variant)[0].astype(np.int64)
                finally:
                    faiss.cvar.hamming_batch_size = usual
                return distances

            return search

        return over

    def trial(setting: Callable[[Codes], Search]) -> float:
        search = setting(codes[: len(codes) // _TRIED_SHARE])
        started = time.process_time()
        search(queries, 10)
        return time.process_time() - started

    settings = [setting(variant, size // codes.shape[1]) for variant in _VARIANTS for size in _BLOCK_BYTES]
    return min(settings, key=trial)(codes)


def _usearch(codes: Codes) -> Search:
    usearch: Any = importlib.import_module("usearch.index")

    def search(queries: Codes, k: int) -> Ints:
        found = usearch.search(codes, queries, k, usearch.MetricKind.Hamming, exact=True, threads=1)
        distances: Ints = np.asarray(found.distances).reshape(len(queries), k).astype(np.int64)
        return distances

    return search
