"""`dotstream bench hamming`: search, beside a plain read, faiss, usearch and the stores that people use, in one run.

The scan: random codes of 4,096 and of 1,280 bits, 1,048,576 of each, in mapped segments, k = 10; random codes are good
for speed only. Everything is measured in turn, round by round, so that a busy moment meets all alike, and told as
medians in milliseconds: of CPU for what runs on one thread, which other work on the machine disturbs least, else of the
clock on the wall, with a row of one thread by that clock beside it. Libraries run on one thread, over a copy in one
piece, which the system may lay into larger pages than files: a lone query is shown over that too. Before the rounds,
all have to find the same distances. Growth: one query over 65,536 to 5,242,880 codes, and the memory of a process that
opens and searches so many. Stores: see _stores.py.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from indexer.asks import Ask
from indexer.crew import ALONE, Crew
from indexer.errors import Damaged
from indexer.scan import Codes, Ints, Stored, Sweep
from indexer.search import nearest
from indexer.view import View
from ops.bench._codes import LABEL_SHARES, SEGMENT_SLOTS, Corpus, read, read_codes
from ops.bench._hamming_memory import memory
from ops.bench._hamming_peers import peers
from ops.bench._hamming_plot import draw
from ops.bench._report import Figure, Report, machine
from ops.bench._stores import compare, versions
from ops.commands.options import say

WIDTHS = (4096, 1280)
BATCHES = (1, 16, 256)
K = 10
THREADS = 2
_MANY = 5
Work = dict[str, Callable[[], object]]
Times = dict[str, float]


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        segments: of `SEGMENT_SLOTS` codes, that are scanned.
        growth: numbers of such segments, ascending.
        rounds: size of a batch -> how often it is measured.
        stored: codes in each store.
        asked: queries, appends and durable appends to each store.
    """

    segments: int
    growth: tuple[int, ...]
    rounds: dict[int, int]
    stored: int
    asked: int


WHOLE = Extent(16, (1, 2, 4, 8, 16, 32, 80), {1: 21, 16: 7, 256: 3}, 216_000, 31)
SHORT = Extent(4, (1, 2, 4, 8), {1: 11, 16: 5, 256: 1}, 40_000, 11)


def main(*, as_json: bool, plot: Path | None, short: bool) -> None:
    """Runs the benchmark, prints its report, and draws it."""
    report = measure(SHORT if short else WHOLE)
    report.show(as_json=as_json)
    if plot is not None:
        draw(report, plot)


def measure(extent: Extent) -> Report:
    """Runs it to this extent."""
    codes = f"{extent.segments * SEGMENT_SLOTS} random ones of each width"
    conditions = {"codes": codes, "k": K, "stores": f"{extent.stored} clustered codes", "beside": versions()}
    report = Report("hamming", machine() | conditions)
    for bits in WIDTHS:
        with _corpus(bits, extent) as corpus:
            _measure(corpus, extent, report)
    with tempfile.TemporaryDirectory(prefix="dotstream-bench-") as folder:
        report.figures |= compare(Path(folder), extent.stored, extent.asked)
    return report


@contextmanager
def _corpus(bits: int, extent: Extent) -> Iterator[Corpus]:
    with tempfile.TemporaryDirectory(prefix="dotstream-bench-") as folder:
        say(f"writing {max(extent.growth) * SEGMENT_SLOTS} codes of {bits} bits")
        corpus = Corpus(Path(folder) / "segments", bits, max(extent.growth))
        try:
            yield corpus
        finally:
            corpus.close()
            gc.collect()


def _measure(corpus: Corpus, extent: Extent, report: Report) -> None:
    bits, crew = corpus.bits, Crew(THREADS)
    say(f"{bits} bits: lone queries, threads, tombstones, filters")
    figures = _alone(corpus, extent, crew)
    say(f"{bits} bits: batches, beside faiss and usearch")
    figures |= _beside_peers(corpus, extent, crew)
    say(f"{bits} bits: growth")
    ask = corpus.asks(1, K)
    for segments in extent.growth:
        view = corpus.view(segments)
        times = _rounds({"query": partial(search, view, ask), "read": partial(read, view)}, extent.rounds[1])
        figures[f"growth, {segments * SEGMENT_SLOTS} codes"] = Figure(times["query"], "ms", limit=times["read"])
    for segments, used in zip(extent.growth, memory(corpus, extent.growth), strict=True):
        codes = segments * SEGMENT_SLOTS
        figures[f"memory, {codes} codes"] = Figure(used.private, "MiB")
        figures[f"mapped, {codes} codes"] = Figure(used.mapped, "MiB", limit=codes * bits / 8 / 2**20)
    crew.close()
    report.figures |= {f"{bits} bits, {name}": figure for name, figure in figures.items()}


def _alone(corpus: Corpus, extent: Extent, crew: Crew) -> dict[str, Figure]:
    """One query: against the read of the same bytes, on two threads, with tombstones and filters."""
    view, ask = corpus.view(extent.segments), corpus.asks(1, K)
    work: Work = {
        "read": partial(read, view),
        "read, wall": partial(read, view),
        "read, 2 threads, wall": _read_by_two(view),
        "1 query": partial(search, view, ask),
        "1 query, 2 threads, wall": partial(search, view, ask, crew),
        "1 query, wall": partial(search, view, ask),
        "1 query, 10 % dead": partial(search, corpus.view(extent.segments, tombstones=True), ask),
    }
    for label, share in LABEL_SHARES.items():
        asks = corpus.asks(1, K, label)
        work[f"1 query, filter that keeps {share:.0%}"] = partial(search, view, asks)
    times = _rounds(work, extent.rounds[1])
    limits = dict.fromkeys(times, times["1 query"]) | {
        "read": None,
        "read, wall": None,
        "read, 2 threads, wall": times["read, wall"],
        "1 query": times["read"],
        "1 query, wall": times["read, wall"],
        "1 query, 2 threads, wall": times["1 query, wall"],
    }
    return {name: Figure(value, "ms", limit=limits[name]) for name, value in times.items()}


def _beside_peers(corpus: Corpus, extent: Extent, crew: Crew) -> dict[str, Figure]:
    view, figures = corpus.view(extent.segments), {}
    codes = corpus.plain(extent.segments)
    for size in BATCHES:
        asks, queries = corpus.asks(size, K), corpus.queries[:size]
        expected = search(view, asks)
        work: Work = {"dotstream": partial(search, view, asks)}
        if size == 1:
            work["dotstream, over their copy"] = partial(_scan, codes, queries)
            work["read of their copy"] = partial(read_codes, [codes])
        else:
            work["dotstream, wall"] = partial(search, view, asks)
            work["dotstream, 2 threads, wall"] = partial(search, view, asks, crew)
        for name, other in peers(codes, queries).items():
            if size < max(BATCHES) and not np.array_equal(other(queries, K), expected):
                raise Damaged(f"{name} and dotstream disagree about the {K} nearest of {size} queries")
            work[name] = partial(other, queries, K)
        times = _rounds(work, extent.rounds[size])
        for name, value in times.items():
            figures[f"batch of {size}, {name}"] = Figure(value, "ms", peer=times["dotstream"])
    return figures


def search(view: View, asks: Sequence[Ask], crew: Crew = ALONE) -> Ints:
    """The k smallest distances of each query, int64 [nq, k]."""
    found = nearest([view], asks, crew=crew, checkpoint=lambda: None)
    return np.stack([one.distances[:K] for (one,) in found])


def _scan(codes: Codes, queries: Codes) -> Sweep:
    """The kernel alone, over codes in one piece."""
    sweep = Sweep(queries, np.full(len(queries), K), np.full(len(queries), codes.shape[1] * 8))
    sweep.scan(Stored(codes), 0, len(codes))
    return sweep


def _read_by_two(view: View) -> Callable[[], object]:
    """A read shared out as evenly as two threads can."""
    pool = ThreadPoolExecutor(THREADS)
    halves = [View(0, 0, view.segments[n::THREADS]) for n in range(THREADS)]
    return lambda: list(pool.map(read, halves))


def _rounds(work: Work, rounds: int) -> Times:
    """Median milliseconds of each, taken in turn; one round before is not counted where many are."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(-1 if rounds >= _MANY else 0, rounds):
        for name, do in work.items():
            clock = time.perf_counter if name.endswith("wall") else time.process_time
            started = clock()
            do()
            if number >= 0:
                times[name].append((clock() - started) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}
