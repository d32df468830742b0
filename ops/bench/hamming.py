"""`dotstream bench hamming`: the exact scan beside faiss, usearch and a plain read of the same bytes, in one run.

Random codes of 4,096 and of 1,280 bits, 1,048,576 of each, in mapped segments, k = 10; random codes are good for speed
only. Everything is measured in turn, round by round, so that a busy moment meets all alike, and told as medians in
milliseconds: of CPU for what runs on one thread, which other work on the machine disturbs least, else of the clock on
the wall, with a row of one thread by that clock beside it. Libraries run on one thread, over a copy in one piece.
Before the rounds, all have to find the same distances. Growth: one query over 65,536 to 5,242,880 codes.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from indexer.asks import Ask
from indexer.crew import ALONE, Crew
from indexer.errors import Damaged
from indexer.search import nearest
from indexer.view import View
from ops.bench._codes import LABEL_SHARES, SEGMENT_SLOTS, Corpus, read
from ops.bench._hamming_peers import peers
from ops.bench._hamming_plot import draw
from ops.bench._report import Figure, Report, machine
from ops.commands.options import say

WIDTHS = (4096, 1280)
SEGMENTS = 16
GROWTH = (1, 2, 4, 8, 16, 32, 80)
BATCHES = (1, 16, 256)
ROUNDS = {1: 15, 16: 5, 256: 1}
K = 10
THREADS = 2
Work = dict[str, Callable[[], object]]
Times = dict[str, float]


def main(*, as_json: bool, plot: Path | None) -> None:
    """Runs the benchmark, prints its report, and draws it."""
    report = Report("hamming", machine() | {"codes": f"{SEGMENTS * SEGMENT_SLOTS} random ones of each width", "k": K})
    for bits in WIDTHS:
        with _corpus(bits) as corpus:
            _measure(corpus, report)
    report.show(as_json=as_json)
    if plot is not None:
        draw(report, plot)


@contextmanager
def _corpus(bits: int) -> Iterator[Corpus]:
    with tempfile.TemporaryDirectory(prefix="dotstream-bench-") as folder:
        say(f"writing {max(GROWTH) * SEGMENT_SLOTS} codes of {bits} bits")
        corpus = Corpus(Path(folder) / "segments", bits, max(GROWTH))
        try:
            yield corpus
        finally:
            corpus.close()
            gc.collect()


def _measure(corpus: Corpus, report: Report) -> None:
    bits, crew = corpus.bits, Crew(THREADS)
    say(f"{bits} bits: lone queries, threads, tombstones, filters")
    for name, figure in _alone(corpus, crew).items():
        report.figures[f"{bits} bits, {name}"] = figure
    say(f"{bits} bits: batches, beside faiss and usearch")
    for name, figure in _beside_peers(corpus, crew).items():
        report.figures[f"{bits} bits, {name}"] = figure
    say(f"{bits} bits: growth")
    ask = corpus.asks(1, K)
    for segments in GROWTH:
        view = corpus.view(segments)
        times = _rounds({"query": partial(search, view, ask), "read": partial(read, view)}, ROUNDS[1])
        name = f"{bits} bits, growth, {segments * SEGMENT_SLOTS} codes"
        report.figures[name] = Figure(times["query"], "ms", limit=times["read"])
    crew.close()


def _alone(corpus: Corpus, crew: Crew) -> dict[str, Figure]:
    """One query: against the read of the same bytes, on two threads, with tombstones and filters."""
    view, ask = corpus.view(SEGMENTS), corpus.asks(1, K)
    work: Work = {
        "read": partial(read, view),
        "read, wall": partial(read, view),
        "read, 2 threads, wall": _read_by_two(view),
        "1 query": partial(search, view, ask),
        "1 query, 2 threads, wall": partial(search, view, ask, crew),
        "1 query, wall": partial(search, view, ask),
        "1 query, 10 % dead": partial(search, corpus.view(SEGMENTS, tombstones=True), ask),
    }
    for label, share in LABEL_SHARES.items():
        asks = corpus.asks(1, K, label)
        work[f"1 query, filter that keeps {share:.0%}"] = partial(search, view, asks)
    times = _rounds(work, ROUNDS[1])
    limits = dict.fromkeys(times, times["1 query"]) | {
        "read": None,
        "read, wall": None,
        "read, 2 threads, wall": times["read, wall"],
        "1 query": times["read"],
        "1 query, wall": times["read, wall"],
        "1 query, 2 threads, wall": times["1 query, wall"],
    }
    return {name: Figure(value, "ms", limit=limits[name]) for name, value in times.items()}


def _beside_peers(corpus: Corpus, crew: Crew) -> dict[str, Figure]:
    view, figures = corpus.view(SEGMENTS), {}
    others = peers(corpus.plain(SEGMENTS))
    for size in BATCHES:
        asks, queries = corpus.asks(size, K), corpus.queries[:size]
        expected = search(view, asks)
        work: Work = {"dotstream": partial(search, view, asks)}
        if size > 1:
            work["dotstream, wall"] = partial(search, view, asks)
            work["dotstream, 2 threads, wall"] = partial(search, view, asks, crew)
        for name, other in others.items():
            if size < max(BATCHES) and not np.array_equal(other(queries, K), expected):
                raise Damaged(f"{name} and dotstream disagree about the {K} nearest of {size} queries")
            work[name] = partial(other, queries, K)
        times = _rounds(work, ROUNDS[size])
        for name, value in times.items():
            figures[f"batch of {size}, {name}"] = Figure(value, "ms", peer=times["dotstream"])
    return figures


def search(view: View, asks: Sequence[Ask], crew: Crew = ALONE) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """The k smallest distances of each query, int64 [nq, k]."""
    found = nearest([view], asks, crew=crew, checkpoint=lambda: None)
    return np.stack([one.distances[:K] for (one,) in found])


def _read_by_two(view: View) -> Callable[[], object]:
    """A read shared out as evenly as two threads can."""
    pool = ThreadPoolExecutor(THREADS)
    halves = [View(0, 0, view.segments[n::THREADS]) for n in range(THREADS)]
    return lambda: list(pool.map(read, halves))


def _rounds(work: Work, rounds: int) -> Times:
    """Median milliseconds of each, taken in turn; one round before is not counted where several are."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + (rounds > 1)):
        for name, do in work.items():
            clock = time.perf_counter if name.endswith("wall") else time.process_time
            started = clock()
            do()
            if number or rounds == 1:
                times[name].append((clock() - started) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}
