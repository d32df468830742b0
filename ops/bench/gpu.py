"""`dotstream bench gpu`: exact searches on a GPU, against the memory of that GPU and beside the CPU, in one run.

1,048,576 random codes of 4,096 and of 1,280 bits in mapped segments, k = 10; random codes are good for speed only. The
answers have to be the CPU's, slot for slot, before anything is timed. Medians by the clock on the wall, from a question
to its answer in the CPU's memory: one query, a batch of 256, one query with a tenth of the codes dead and with a filter
that keeps half. The limit of one query is the time in which this GPU would read the codes as fast as it copies
memory in the same run; a copy reads and writes, and both are counted. Also how long the upload takes, and an append of
512 codes together with the query behind it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dotstream.clock import SystemClock
from dotstream.errors import Misconfigured
from indexer.asks import Ask
from indexer.crew import Crew
from indexer.errors import Damaged
from indexer.search import Candidates, nearest
from indexer.view import View
from ops.bench._codes import SEGMENT_SLOTS, Corpus
from ops.bench._report import Figure, Report, machine
from ops.commands.options import say
from ops.device import why_no_gpu

if TYPE_CHECKING:
    from indexer.device_search import DeviceSearch

WIDTHS = (4096, 1280)
SEGMENTS = 16
BATCH, K, ROUNDS, CPU_ROUNDS = 256, 10, 30, 3
THREADS = 2
APPENDED = 512
COPIED_BYTES = 1 << 30
LIMIT_BYTES = 4 << 30


class _Observer:
    """A fallback would time the CPU: it ends the benchmark."""

    def fell_back(self, reason: str) -> None:
        """The CPU answered."""
        raise Damaged(f"a search failed on the GPU ({reason}); the warning above says why")

    def holds(self, held: int, left: int) -> None:
        """So much lies on the GPU."""
        if left:
            raise Misconfigured(f"{left} codes do not fit beside {held} bytes; the benchmark needs {LIMIT_BYTES} bytes")


def main(*, as_json: bool) -> None:
    """Runs the benchmark and prints its report.

    Raises:
        Misconfigured: there is no GPU to use.
    """
    missing = why_no_gpu()
    if missing is not None:
        raise Misconfigured(f"this benchmark needs a GPU, but {missing}")
    import torch

    from indexer.device import DeviceMemory
    from indexer.device_check import disagreement
    from indexer.device_kernels import kernel_distances
    from indexer.device_search import DeviceSearch

    conditions = machine() | {
        "gpu": torch.cuda.get_device_name(),
        "codes": f"{SEGMENTS * SEGMENT_SLOTS}, random",
        "k": K,
    }
    report, clock = Report("gpu", conditions), SystemClock()
    speed = _copy_speed()
    report.figures["memory of the GPU, copied"] = Figure(speed / 1e9, "GB/s")
    for bits in WIDTHS:
        with tempfile.TemporaryDirectory(prefix="dotstream-bench-") as folder:
            say(f"writing {SEGMENTS * SEGMENT_SLOTS} codes of {bits} bits")
            corpus = Corpus(Path(folder) / "segments", bits, SEGMENTS)
            wrong = disagreement("cuda", kernel_distances, bits, clock)  # compiles, too
            if wrong is not None:
                raise Damaged(f"codes of {bits} bits: {wrong}")
            search = DeviceSearch(
                DeviceMemory("cuda", LIMIT_BYTES), kernel_distances, clock=clock, observer=_Observer()
            )
            for name, figure in _measured(corpus, search, speed).items():
                report.figures[f"{bits} bits, {name}"] = figure
            corpus.close()
    report.show(as_json=as_json)


def _measured(corpus: Corpus, search: DeviceSearch, speed: float) -> dict[str, Figure]:
    view, head = corpus.view(SEGMENTS), corpus.view(SEGMENTS).segments[-1]
    dead, one, many = corpus.view(SEGMENTS, tombstones=True), corpus.asks(1, K), corpus.asks(BATCH, K)
    most = View(0, view.watermark, (*view.segments[:-1], (head[0], SEGMENT_SLOTS - APPENDED)))
    crew = Crew(THREADS)
    say(f"{corpus.bits} bits: upload, and answers beside the CPU's")
    uploaded = _timed(lambda: _found(search.nearest, most, one, crew), 1)
    appended = _timed(lambda: _found(search.nearest, view, one, crew), 1)
    half = corpus.asks(1, K, 3)
    for versions, asks in ((view, many), (view, one), (dead, one), (view, half)):
        if _found(search.nearest, versions, asks, crew) != _found(nearest, versions, asks, crew):
            raise Damaged(f"GPU and CPU disagree about the nearest of {len(asks)} queries of {corpus.bits} bits")
    say(f"{corpus.bits} bits: speed")
    lone = _timed(lambda: _found(search.nearest, view, one, crew), ROUNDS)
    batch = _timed(lambda: _found(search.nearest, view, many, crew), ROUNDS)
    on_cpu = _timed(lambda: _found(nearest, view, one, crew), CPU_ROUNDS)
    batch_on_cpu = _timed(lambda: _found(nearest, view, many, crew), CPU_ROUNDS)
    read_ms = 1000 * SEGMENTS * SEGMENT_SLOTS * corpus.bits / 8 / speed
    crew.close()
    return {
        "1 query, against the memory": Figure(lone, "ms", limit=read_ms),
        "1 query, beside the CPU": Figure(lone, "ms", peer=on_cpu),
        "1 query, 10 % dead": Figure(_timed(lambda: _found(search.nearest, dead, one, crew), ROUNDS), "ms", peer=lone),
        "1 query, filter that keeps 50%": Figure(
            _timed(lambda: _found(search.nearest, view, half, crew), ROUNDS), "ms", peer=lone
        ),
        f"batch of {BATCH}, each, beside one alone": Figure(batch / BATCH, "ms", peer=lone),
        f"batch of {BATCH}, beside the CPU": Figure(batch, "ms", peer=batch_on_cpu),
        "upload, once, and a query": Figure(uploaded, "ms"),
        f"append of {APPENDED} codes and a query": Figure(appended, "ms"),
    }


def _found(
    find: Callable[..., list[list[Candidates]]], view: View, asks: Sequence[Ask], crew: Crew
) -> list[tuple[list[int], list[int]]]:
    found = find([view], asks, crew=crew, checkpoint=lambda: None)
    return [(one.slots.tolist(), one.distances.tolist()) for (one,) in found]


def _timed(work: Callable[[], object], rounds: int) -> float:
    """Median milliseconds; one round before is not counted where there are several."""
    times = []
    for _ in range(rounds + (rounds > 1)):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[-rounds:])


def _copy_speed() -> float:
    """Bytes read and written in a second by a copy within the GPU's memory, the best of some."""
    import torch

    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        torch.cuda.synchronize()

    copy()
    return 2 * COPIED_BYTES / min(_timed(copy, 1) / 1000 for _ in range(10))
