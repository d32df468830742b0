"""`dotstream bench approximate`: recall and speed of searches by inverted lists, on codes of real photographs.

Recall@10: 300 photographs ask for their neighbours among 60,000 others (ops/bench/_fashion.py), against the exact
answer. Speed: one query on one thread over 960,000 codes, each of the 60,000 sixteen times with 2 % of its bits turned
at random, since there are no million photographs at hand; recall is measured among these too. Also ranges: near-
duplicates within 2 % and 10 % of the bits, exact both ways. Beside them faiss's inverted lists (_inverted_lists.py),
which keep a copy of all codes in the order of the lists.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from indexer.asks import Ask, Terms, Wanted
from indexer.crew import ALONE
from indexer.list_search import ListSearch
from indexer.scan import Codes
from indexer.search import Candidates, nearest
from indexer.segments import Segment, SegmentSpec
from indexer.view import View
from ops.bench._approximate_plot import draw
from ops.bench._fashion import TRAINING, fashion_codes
from ops.bench._inverted_lists import PROBED, InvertedLists
from ops.bench._report import Figure, Report, machine
from ops.commands.options import say, settings_of

BITS = 1280
RANGES = (BITS // 50, BITS // 10)
SHARES = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08)
QUERIES, TIMED, ROUNDS, K = 300, 60, 3, 10
COPIES = 16
Search = Callable[[View, list[Ask]], list[Candidates]]


def main(*, as_json: bool, plot: Path | None) -> None:
    """Runs the benchmark, prints its report, and draws it."""
    codes, others = fashion_codes(settings_of().settings.cache_folder, say)
    random = np.random.default_rng(0)
    queries = others[random.choice(len(others), QUERIES, replace=False)]
    report = Report("approximate", machine() | {"codes": "Fashion-MNIST photographs, EfficientNet-Lite0 at 96 pixels"})
    with tempfile.TemporaryDirectory(prefix="dotstream-bench-") as folder:
        few = _segment(Path(folder), 0, codes)
        many = [_segment(Path(folder), 1 + n, _turned(codes, random)) for n in range(COPIES)]
        _measure(_view([few]), _view(many), queries, report)
        say("inverted lists of faiss")
        _measure_lists(_view([few]), _view(many), queries, report)
        for segment in (few, *many):
            segment.close()
    report.show(as_json=as_json)
    if plot is not None:
        draw(report, plot)


def _measure(few: View, many: View, queries: Codes, report: Report) -> None:
    asks = _asks(queries)
    exact_ms = _timed(_exact, many, asks)
    report.figures["exact, 960000 codes"] = Figure(exact_ms, "ms")
    truths = {TRAINING: (few, _ten(_exact(few, asks))), COPIES * TRAINING: (many, _ten(_exact(many, asks)))}
    for codes, (view, truth) in truths.items():
        say(f"inverted lists of {codes} codes")
        search = ListSearch(1.0)
        started = time.thread_time()
        search.make([view])
        report.figures[f"inverted lists of {codes} codes, made"] = Figure(time.thread_time() - started, "s")
        for share in SHARES:
            search.share = share
            name = f"inverted lists, {share:.0%} probed"
            kept = [len(true & some) for true, some in zip(truth, _ten(_by(search)(view, asks)), strict=True)]
            recall = f"{name}, recall@{K}" + (f" of {codes} codes" if view is many else "")
            report.figures[recall] = Figure(sum(kept) / (K * len(kept)), "share")
            if view is many:
                report.figures[f"{name}, time"] = Figure(_timed(_by(search), many, asks), "ms", peer=exact_ms)
        if view is many:
            _measure_ranges(search, many, queries, report)
        search.close()


def _measure_ranges(search: ListSearch, view: View, queries: Codes, report: Report) -> None:
    for within in RANGES:
        asks = _asks(queries, within)
        name = f"within {within} bits, exact"
        exact_ms = _timed(_exact, view, asks)
        report.figures[f"{name}, every code read"] = Figure(exact_ms, "ms")
        report.figures[f"{name}, by inverted lists"] = Figure(_timed(_by(search), view, asks), "ms", peer=exact_ms)


def _measure_lists(few: View, many: View, queries: Codes, report: Report) -> None:
    truth = _ten(_exact(few, _asks(queries)))
    lists = InvertedLists(_plain(few), _plain(many))
    for share in PROBED:
        lists.probe(share)
        kept = sum(
            len(true & set(rows)) for true, rows in zip(truth, lists.among_few(queries, K).tolist(), strict=True)
        )
        taken = _timed(lambda _, asks: lists.among_many(asks[0].code[None], K), many, _asks(queries))
        name = f"inverted lists of faiss, {share:.0%} probed"
        report.figures[f"{name}, recall@{K}"] = Figure(kept / (K * len(truth)), "share")
        report.figures[f"{name}, time"] = Figure(taken, "ms", peer=report.figures["exact, 960000 codes"].value)


def _plain(view: View) -> Codes:
    return np.concatenate([segment.codes[:length] for segment, length in view.segments])


def _asks(queries: Codes, within: int = BITS) -> list[Ask]:
    return [Ask(code, K, within, (Terms(Wanted(), {}),)) for code in queries]


def _exact(view: View, asks: list[Ask]) -> list[Candidates]:
    return [one for (one,) in nearest([view], asks, crew=ALONE, checkpoint=lambda: None)]


def _ten(found: list[Candidates]) -> list[set[int]]:
    return [set(one.slots[:K].tolist()) for one in found]


def _by(search: ListSearch) -> Search:
    """One query at a time: among the 60,000, all codes would be read for queries that come together."""
    return lambda view, asks: [
        one for ask in asks for (one,) in search.nearest([view], [ask], crew=ALONE, checkpoint=lambda: None)
    ]


def _timed(search: Callable[[View, list[Ask]], object], view: View, asks: list[Ask]) -> float:
    """Median milliseconds of CPU of one query at a time; of some rounds the one that others disturbed least."""
    search(view, asks[:1])
    medians = []
    for _ in range(ROUNDS):
        times = []
        for ask in asks[:TIMED]:
            started = time.thread_time()
            search(view, [ask])
            times.append((time.thread_time() - started) * 1000)
        medians.append(float(np.median(times)))
    return min(medians)


def _turned(codes: Codes, random: np.random.Generator) -> Codes:
    """The codes with 2 % of their bits turned."""
    turned = codes.copy()
    for at in range(0, len(codes), 10_000):
        piece = turned[at : at + 10_000]
        piece ^= np.packbits(random.random((len(piece), BITS), np.float32) < 0.02, axis=1)
    return turned


def _segment(folder: Path, number: int, codes: Codes) -> Segment:
    segment = Segment.create(folder, SegmentSpec("bench", 0, BITS, TRAINING + TRAINING % 8, bytes(16)), number)
    segment.codes[: len(codes)] = codes
    return segment


def _view(segments: list[Segment]) -> View:
    return View(0, 0, tuple((segment, TRAINING) for segment in segments))
