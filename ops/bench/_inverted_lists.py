"""Inverted lists, as faiss has them, beside our own in `dotstream bench approximate`.

Codes lie in as many lists as there are centres, each code with the nearest one, copied there; a query looks into the
lists of the centres that are nearest to it.
"""

from __future__ import annotations

from typing import Any

from indexer.scan import Codes, Ints
from ops.bench._index_peers import peer_module

LISTS = 1024
PROBED = (0.01, 0.02, 0.04, 0.08)
"""Shares of the lists that a query looks into."""
_TURNS = 8


class InvertedLists:
    """Two sets of codes in lists about the same centres, which are the first set's, on one thread.

    Args:
        few: uint8 [n, bytes], at least some tens for each list.
        many: uint8 [m, bytes].
    """

    def __init__(self, few: Codes, many: Codes) -> None:
        faiss: Any = peer_module("faiss")
        faiss.omp_set_num_threads(1)
        bits = few.shape[1] * 8
        self._centres = faiss.IndexBinaryFlat(bits)
        self._few, self._many = (faiss.IndexBinaryIVF(self._centres, bits, LISTS) for _ in range(2))
        self._few.cp.niter = _TURNS
        self._few.train(few)
        self._few.add(few)
        self._many.is_trained = True
        self._many.add(many)

    def probe(self, share: float) -> None:
        """How much queries look into from now on."""
        self._few.nprobe = self._many.nprobe = round(share * LISTS)

    def among_few(self, queries: Codes, k: int) -> Ints:
        """Rows of the k nearest that were found among the few, int64 [nq, k]."""
        rows: Ints = self._few.search(queries, k)[1]
        return rows

    def among_many(self, queries: Codes, k: int) -> Ints:
        """The same among the many."""
        rows: Ints = self._many.search(queries, k)[1]
        return rows
