"""What `dotstream bench hamming` compares dotstream by: its store, its growth in memory, its rounds and its picture."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dotstream.errors import Unavailable
from indexer.scan import Codes
from ops.bench import _stores
from ops.bench._codes import SEGMENT_SLOTS, Corpus
from ops.bench._hamming_memory import memory
from ops.bench._hamming_plot import STORES, draw
from ops.bench._index_peers import FaissFlat, Peer
from ops.bench._index_world import BITS, Ours
from ops.bench._report import Figure, Report
from ops.bench._server_peers import _server
from ops.bench.hamming import BATCHES, SHORT, WIDTHS
from ops.commands.bench import bench
from ops.local.ports import free_ports


@pytest.fixture(params=[1, 4])
def ours(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ours]:
    store = Ours(tmp_path / "ours", BITS // 8, request.param, threads=2)
    yield store
    store.close()


def test_dotstream_as_a_store_finds_codes_under_their_numbers(ours: Ours) -> None:
    codes = np.random.default_rng(0).integers(0, 256, (41, BITS // 8), np.uint8)
    ours.add(ours.rows(codes[:30]))
    ours.add(ours.rows(codes[30:40]), durable=False)
    ours.add(ours.rows(codes[40:]))
    for number, code in enumerate(codes):
        assert ours.nearest(code, 1) == ours.nearest_alone(code, 1) == [number]
    distances = np.bitwise_count(codes ^ codes[7]).sum(axis=1, dtype=np.int64)
    assert [int(distances[number]) for number in ours.nearest(codes[7], 10)] == sorted(distances.tolist())[:10]


class _Forgetful(FaissFlat):
    """Finds nothing of what was appended last."""

    def nearest(self, code: Codes, k: int) -> list[int]:
        return [number for number in super().nearest(code, k + 1) if number < self._index.ntotal - 1][:k]


def test_stores_are_told_with_what_they_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(make: type[Peer]) -> _stores.Store:
        @contextmanager
        def one(folder: Path, width: int) -> Iterator[Peer]:
            yield make(folder, width)  # type: ignore[call-arg]

        return one

    monkeypatch.setattr(_stores, "STORES", {"faiss": opened(FaissFlat), "forgetful": opened(_Forgetful)})
    monkeypatch.setattr(_stores, "BATCH", 40)
    monkeypatch.setattr(_stores, "GIVEN_UP_S", 0.01)
    figures = _stores.compare(tmp_path, 500, 3)
    start = "stores, 500 codes"
    lost = {
        name: figures[f"{start}, {name}, appended codes that were never found"].value
        for name in ("dotstream", "faiss", "forgetful")
    }
    assert lost == {"dotstream": 0, "faiss": 0, "forgetful": 6}
    assert figures[f"{start}, dotstream, recall"].value == figures[f"{start}, faiss, recall"].value == 1
    assert f"{start}, forgetful, append until found" not in figures
    assert figures[f"{start}, dotstream, one thread, one query"].value > 0


def test_what_a_search_maps_grows_with_the_codes_and_what_it_owns_does_not(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "segments", 256, 3)
    first, last = memory(corpus, (1, 3))
    corpus.close()
    codes = SEGMENT_SLOTS * 32 / 2**20
    assert codes <= first.mapped < first.mapped + 2 * codes <= last.mapped
    assert last.private - first.private < codes


def test_a_server_that_does_not_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = ["sh", "-c", "echo the disk is full; exit 3"]
    with pytest.raises(Unavailable, match="the disk is full"), _server(command, tmp_path, port, stop=signal.SIGTERM):
        pytest.fail("it began")


def test_the_picture_is_drawn_of_what_was_measured(tmp_path: Path) -> None:
    figures: dict[str, Figure] = {}
    for bits in WIDTHS:
        rows = [
            "read",
            "read, wall",
            "read, 2 threads, wall",
            "1 query",
            "1 query, 2 threads, wall",
            "1 query, 10 % dead",
        ]
        rows += [f"1 query, filter that keeps {share}%" for share in (1, 10, 50)]
        for size in BATCHES:
            peers = ("dotstream", "faiss, best setting", "faiss IndexBinaryFlat", "usearch exact")
            rows += [f"batch of {size}, {name}" for name in peers]
        rows += [f"{what}, {n * SEGMENT_SLOTS} codes" for n in SHORT.growth for what in ("growth", "memory", "mapped")]
        figures |= {f"{bits} bits, {row}": Figure(2.0, "ms", limit=1.0) for row in rows}
    for name in ("one query", "append until found"):
        figures |= {f"stores, 9 codes, {store}, {name}": Figure(2.0, "ms") for store in STORES}
    draw(Report("hamming", {"codes": "8 random ones", "stores": "9 clustered codes"}, figures), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_benchmark_without_a_shorter_form_says_so() -> None:
    with pytest.raises(Exception, match="'gpu' has no shorter form"):
        bench("gpu", short=True)
