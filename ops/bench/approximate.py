"""`dotstream bench approximate`: recall and speed of searches by sketches, on codes of real photographs.

Recall@10: 300 photographs ask for their neighbours among 60,000 others (ops/bench/_fashion.py), against the exact
answer. Speed: one query on one thread over 983,040 codes, each of the 60,000 sixteen times with 2 % of its bits turned
at random, since there are no million photographs at hand; the share of the codes that are ranked is that of the recall,
which a denser million would need less of. Also ranges: near-duplicates within 2 % of the bits, exact both ways. Beside
them faiss's inverted lists (_inverted_lists.py), which keep a copy of all codes in the order of the lists.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from indexer.asks import Ask, Terms, Wanted
from indexer.crew import ALONE
from indexer.scan import Codes
from indexer.search import Candidates, nearest
from indexer.segments import Segment, SegmentSpec
from indexer.sketch_search import SketchSearch
from indexer.view import View
from ops.bench._approximate_plot import draw
from ops.bench._fashion import TRAINING, fashion_codes
from ops.bench._inverted_lists import PROBED, InvertedLists
from ops.bench._report import Figure, Report, machine
from ops.commands.options import say, settings_of

BITS = 1280
SKETCH_BITS = (64, 128, 192, 256, 384)
SHARES = (0.0025, 0.005, 0.01, 0.02, 0.04)
QUERIES, TIMED, K = 300, 60, 10
COPIES = 16
NEAR = BITS // 50
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
        say("inverted lists")
        _measure_lists(_view([few]), _view(many), queries, report)
        for segment in (few, *many):
            segment.close()
    report.show(as_json=as_json)
    if plot is not None:
        draw(report, plot)


def _measure(few: View, many: View, queries: Codes, report: Report) -> None:
    asks, near = _asks(queries, BITS), _asks(queries, NEAR)
    truth = [set(one.slots[:K].tolist()) for one in _exact(few, asks)]
    exact_ms, near_ms = _timed(_exact, many, asks), _timed(_exact, many, near)
    report.figures["exact, 983040 codes"] = Figure(exact_ms, "ms")
    report.figures[f"within {NEAR} bits, exact, every code read"] = Figure(near_ms, "ms")
    for bits in SKETCH_BITS:
        say(f"sketches of {bits} bits")
        search = SketchSearch(bits, 0.0)
        ranges = _timed(_by(search.exactly), many, near)
        report.figures[f"within {NEAR} bits, exact, by sketches of {bits} bits"] = Figure(ranges, "ms", peer=near_ms)
        for share in SHARES:
            search = SketchSearch(bits, share)
            found = _by(search.nearest)(few, asks)
            kept = [len(true & set(one.slots[:K].tolist())) for true, one in zip(truth, found, strict=True)]
            name = f"sketches of {bits} bits, {share:.2%} ranked"
            report.figures[f"{name}, recall@{K}"] = Figure(sum(kept) / (K * len(kept)), "share")
            report.figures[f"{name}, time"] = Figure(_timed(_by(search.nearest), many, asks), "ms", peer=exact_ms)


def _measure_lists(few: View, many: View, queries: Codes, report: Report) -> None:
    truth = [set(one.slots[:K].tolist()) for one in _exact(few, _asks(queries, BITS))]
    lists = InvertedLists(_plain(few), _plain(many))
    for share in PROBED:
        lists.probe(share)
        kept = sum(
            len(true & set(rows)) for true, rows in zip(truth, lists.among_few(queries, K).tolist(), strict=True)
        )
        taken = _timed(lambda _, asks: lists.among_many(asks[0].code[None], K), many, _asks(queries, BITS))
        name = f"inverted lists of faiss, {share:.0%} probed"
        report.figures[f"{name}, recall@{K}"] = Figure(kept / (K * len(truth)), "share")
        report.figures[f"{name}, time"] = Figure(taken, "ms", peer=report.figures["exact, 983040 codes"].value)


def _plain(view: View) -> Codes:
    return np.concatenate([segment.codes[:length] for segment, length in view.segments])


def _asks(queries: Codes, within: int) -> list[Ask]:
    return [Ask(code, K, within, (Terms(Wanted(), {}),)) for code in queries]


def _exact(view: View, asks: list[Ask]) -> list[Candidates]:
    return [one for (one,) in nearest([view], asks, crew=ALONE, checkpoint=lambda: None)]


def _by(search: Callable[..., list[list[Candidates]]]) -> Search:
    return lambda view, asks: [one for (one,) in search([view], asks, crew=ALONE, checkpoint=lambda: None)]


def _timed(search: Callable[[View, list[Ask]], object], view: View, asks: list[Ask]) -> float:
    """Median milliseconds of CPU of one query at a time, which other work on the machine disturbs least."""
    search(view, asks[:1])
    times = []
    for ask in asks[:TIMED]:
        started = time.thread_time()
        search(view, [ask])
        times.append((time.thread_time() - started) * 1000)
    return float(np.median(times))


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
