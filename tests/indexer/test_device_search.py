"""Searches on a device give what the CPU gives: torch's `cpu` device stands in, by the code that a GPU runs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dotstream.clock import ManualClock
from indexer.asks import Ask, Scope, Terms, Wanted
from indexer.crew import ALONE
from indexer.device import DeviceMemory, Place, plain_distances
from indexer.device_check import disagreement
from indexer.device_search import REST_S, DeviceSearch
from indexer.errors import SearchTimeout
from indexer.follower import Follower
from indexer.reader import IndexReader
from indexer.search import Candidates, nearest
from indexer.segments import LIVE, SLOT, Segment, SegmentName, SegmentSpec, compact
from indexer.view import View
from tests.support.index_oracle import GENERATION, dead, live, log_of, open_shard, random_log

BITS, SLOTS = 64, 192
SPEC = SegmentSpec("g1", 0, BITS, SLOTS, bytes(16))
ROOMY = 1 << 30


class Watching:
    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.held = self.left = 0

    def fell_back(self, reason: str) -> None:
        self.reasons.append(reason)

    def holds(self, held: int, left: int) -> None:
        self.held, self.left = held, left


def searching(limit: int = ROOMY, distances: Any = plain_distances) -> tuple[DeviceSearch, Watching, ManualClock]:
    watching, clock = Watching(), ManualClock()
    search = DeviceSearch(DeviceMemory("cpu", limit), distances, clock=clock, observer=watching)
    return search, watching, clock


def rows(found: list[list[Candidates]]) -> list[list[list[tuple[int, int]]]]:
    return [
        [list(zip(one.distances.tolist(), one.slots.tolist(), strict=True)) for one in by_view] for by_view in found
    ]


def some_slots(random: np.random.Generator, born: int) -> np.ndarray[Any, Any]:
    slots = np.zeros(SLOTS, SLOT)
    slots["born"] = born + np.sort(random.integers(0, 3, SLOTS))
    slots["label"] = random.integers(0, 3, SLOTS)
    slots["object_index"] = random.integers(-1, 2, SLOTS)
    return slots


def some_codes(random: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Few different ones, so that very many tie."""
    codes = random.integers(0, 256, (SLOTS, BITS // 8), np.uint8)
    return np.where(random.random((SLOTS, 1)) < 0.6, codes[random.integers(0, 4, SLOTS)], codes)


def some_asks(random: np.random.Generator, views: Sequence[View], queries: int) -> list[Ask]:
    scopes: list[Scope] = ["all", "objects", "images"]

    def terms(view: View) -> Terms:
        numbers = [segment.number for segment, _ in view.segments]
        excluded = {number: random.integers(0, SLOTS, 2).tolist() for number in numbers}
        listed = {number: np.unique(random.integers(0, SLOTS, 40)).tolist() for number in numbers}
        wanted = Wanted(scopes[random.integers(3)], label=(None, None, 1, 7)[random.integers(4)])
        return Terms(wanted, excluded if random.random() < 0.5 else {}, listed if random.random() < 0.3 else None)

    codes = views[0].segments[0][0].codes
    return [
        Ask(
            codes[random.integers(SLOTS)] ^ np.uint8(random.integers(3)),
            int(random.choice([1, 3, 50, 900])),
            int(random.choice([0, 12, 28, BITS])),
            tuple(terms(view) for view in views),
        )
        for _ in range(queries)
    ]


def check(search: DeviceSearch, views: Sequence[View], random: np.random.Generator, queries: int) -> None:
    asks = some_asks(random, views, queries)
    expected = nearest(views, asks, crew=ALONE, checkpoint=lambda: None)
    assert rows(search.nearest(views, asks, crew=ALONE, checkpoint=lambda: None)) == rows(expected)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.sampled_from([ROOMY, 20_000, 13_000]), st.integers(1, 20))
def test_a_device_finds_what_the_cpu_finds_while_the_index_changes(seed: int, limit: int, queries: int) -> None:
    """The head grows, codes die, a code is put back, segments are compacted; some segments do not fit on the device."""
    random = np.random.default_rng(seed)
    search, watching, _ = searching(limit)
    with TemporaryDirectory() as name:
        folder = Path(name)
        made = [Segment.create(folder, SPEC, number) for number in range(4)]
        for number, segment in enumerate(made):
            segment.write(0, some_codes(random), some_slots(random, 10 * number))
        other = View(1, 99, ((made[3], SLOTS),))
        for length in sorted(random.integers(1, SLOTS + 1, 3).tolist()):
            watermark = int(random.integers(5, 25))
            full = tuple((segment, SLOTS) for segment in made[:2])
            check(search, [View(0, watermark, (*full, (made[2], length))), other], random, queries)
            segment = made[random.integers(3)]
            dying = np.unique(random.integers(0, SLOTS, 30))
            dying = dying[segment.died[dying] == LIVE]
            segment.kill(dying, watermark + random.integers(-1, 2, len(dying)))
            check(search, [View(0, watermark, (*full, (made[2], length))), other], random, queries)
        made[0].rewrite(5, some_codes(random)[:1], some_slots(random, 0)[:1])
        check(search, [View(0, 30, tuple((segment, SLOTS) for segment in made[:3]))], random, queries)
        living = [(segment, np.flatnonzero(segment.died == LIVE)) for segment in made[:2]]
        smaller = compact(folder, SPEC, SegmentName(0, 1, 1), living)
        check(search, [View(0, 40, ((smaller, smaller.spec.capacity), (made[2], SLOTS)))], random, queries)
    assert watching.reasons == []
    assert watching.held <= limit


def counted_copies(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of what is copied to the device."""
    shapes: list[tuple[int, ...]] = []
    import indexer.device

    readable = indexer.device._readable

    def counting(mapped: Any) -> torch.Tensor:
        shapes.append(mapped.shape)
        return readable(mapped)

    monkeypatch.setattr(indexer.device, "_readable", counting)
    return shapes


def test_codes_are_uploaded_once_and_deaths_again_only_when_there_were_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(1)
    shapes, (search, watching, _) = counted_copies(monkeypatch), searching()
    sealed, head = (Segment.create(tmp_path, SPEC, number) for number in range(2))
    for segment in (sealed, head):
        segment.write(0, some_codes(random), np.zeros(SLOTS, SLOT))

    def copied(length: int) -> list[tuple[int, ...]]:
        shapes.clear()
        ask = Ask(head.codes[0], 5, BITS, (Terms(Wanted(), {}),))
        search.nearest([View(0, 9, ((sealed, SLOTS), (head, length)))], [ask], crew=ALONE, checkpoint=lambda: None)
        return list(shapes)

    width = BITS // 8
    assert copied(100) == [(SLOTS, width), (SLOTS,), (SLOTS,), (100, width), (100,), (100,)]
    assert copied(100) == []
    assert copied(130) == [(30, width), (30,), (30,)]
    assert copied(90) == []
    sealed.kill(np.array([3]), np.array([4]))
    assert copied(130) == [(SLOTS,)]
    assert watching.held == 2 * SLOTS * (width + 16)


def test_what_a_limit_leaves_out_is_found_by_the_cpu_and_replaced_segments_make_room(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    search, watching, _ = searching(13_000)  # 13/16 of it hold two segments of 192 x 24 bytes

    def segment(number: int) -> Segment:
        made = Segment.create(tmp_path, SPEC, number)
        made.write(0, some_codes(random), some_slots(random, 0))
        return made

    made = [segment(number) for number in range(4)]
    check(search, [View(0, 9, tuple((one, SLOTS) for one in made))], random, 3)
    assert (watching.held, watching.left) == (2 * SLOTS * 24, 2 * SLOTS)
    del made[:2]
    check(search, [View(0, 9, tuple((one, SLOTS) for one in made))], random, 3)
    assert (watching.held, watching.left) == (2 * SLOTS * 24, 0)
    tiny, left_out, _ = searching(1000)  # not even one query's distances fit
    check(tiny, [View(0, 9, tuple((one, SLOTS) for one in made))], random, 3)
    assert (left_out.held, left_out.left) == (0, 2 * SLOTS)


@pytest.mark.parametrize(
    ("error", "reason"), [(torch.OutOfMemoryError("none left"), "memory"), (OSError("x"), "error")]
)
def test_a_device_that_fails_is_left_alone_for_a_while_and_the_cpu_answers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, reason: str
) -> None:
    random = np.random.default_rng(3)
    broken, asked = True, []

    def distances(places: Sequence[Place], queries: torch.Tensor, out: torch.Tensor) -> None:
        asked.append(len(queries))
        if broken:
            raise error
        plain_distances(places, queries, out)

    search, watching, clock = searching(distances=distances)
    made = Segment.create(tmp_path, SPEC, 0)
    made.write(0, some_codes(random), np.zeros(SLOTS, SLOT))
    view = View(0, 9, ((made, SLOTS),))
    ask = Ask(made.codes[3], 5, BITS, (Terms(Wanted(), {}),))
    expected = rows(nearest([view], [ask], crew=ALONE, checkpoint=lambda: None))

    def found() -> list[list[list[tuple[int, int]]]]:
        return rows(search.nearest([view], [ask], crew=ALONE, checkpoint=lambda: None))

    assert found() == expected
    assert found() == expected
    assert (asked, watching.reasons) == ([1], [reason])
    assert "the CPU answers" in caplog.text
    clock.sleep(REST_S)
    broken = False
    assert found() == expected
    assert (asked, watching.reasons) == ([1, 1], [reason])


def test_a_search_that_waits_for_the_device_keeps_its_time_limit(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(places: Sequence[Place], queries: torch.Tensor, out: torch.Tensor) -> None:
        entered.set()
        assert leave.wait(30)
        plain_distances(places, queries, out)

    search, watching, _ = searching(distances=slow)
    made = Segment.create(tmp_path, SPEC, 0)
    made.write(0, some_codes(np.random.default_rng(4)), np.zeros(SLOTS, SLOT))
    view, ask = View(0, 9, ((made, SLOTS),)), Ask(made.codes[3], 5, BITS, (Terms(Wanted(), {}),))
    first = threading.Thread(target=search.nearest, args=([view], [ask]), kwargs={"crew": ALONE, "checkpoint": int})
    first.start()
    assert entered.wait(30)
    looks = iter([False, False, False, True])

    def checkpoint() -> None:
        if next(looks):
            raise SearchTimeout("its time is up")

    with pytest.raises(SearchTimeout):
        search.nearest([view], [ask], crew=ALONE, checkpoint=checkpoint)
    leave.set()
    first.join(30)
    assert watching.reasons == []


def test_every_version_is_answered_as_on_the_cpu_while_a_writer_goes_on(tmp_path: Path) -> None:
    """What is committed meanwhile reaches the device with the counts that rise behind it, and no older version."""
    clock, random = ManualClock(), np.random.default_rng(5)
    search, watching, _ = searching()
    shard = open_shard(tmp_path / "0", clock=clock, segment_slots=SLOTS)
    log = random_log(Random(5), 900, pins=150)
    shard.apply(log[:200])
    (tmp_path / "scratch").mkdir()
    follower = Follower(tmp_path / "0", 0, tmp_path / "scratch", clock)

    def write() -> None:
        for one in log[200:]:
            shard.apply([one])

    def look() -> int:
        follower.refresh()
        assert follower.now is not None
        check(search, [follower.now.view], random, 3)
        return follower.now.view.watermark

    assert look() == 199
    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        look()
    writer.join()
    assert look() == len(log) - 1
    assert watching.reasons == []
    follower.close()
    shard.close()


def test_a_reader_searches_on_a_device_while_its_index_changes(tmp_path: Path) -> None:
    clock = ManualClock()
    search, watching, _ = searching()
    shard = open_shard(tmp_path / GENERATION / "0", clock=clock, segment_slots=64)
    reader = IndexReader(tmp_path / GENERATION, 1, clock=clock, lease_s=60.0, name="a", find=search.nearest)
    records = {f"pin-{n}": live(f"pin-{n}") for n in range(60)}
    shard.apply(log_of(records.items()))
    reader.refresh()
    for n, (name, record) in enumerate(list(records.items())[:10]):
        code = record.codes[0].bits
        assert reader.search(code, 1).hits[0].distance == 0
        shard.apply(log_of([(name, dead(name, 2))], start=60 + n))
        reader.refresh()
        assert name not in {hit.pin_id for hit in reader.search(code, 300).hits}
    assert watching.reasons == []
    assert watching.held > 0
    reader.close()
    shard.close()


def test_a_device_is_trusted_when_a_trial_finds_what_the_cpu_finds() -> None:
    def wrong(places: Sequence[Place], queries: torch.Tensor, out: torch.Tensor) -> None:
        plain_distances(places, queries, out)
        out[-1, 130] = 0

    def broken(places: Sequence[Place], queries: torch.Tensor, out: torch.Tensor) -> None:
        raise RuntimeError("no compiler")

    assert disagreement("cpu", plain_distances, 160, ManualClock()) is None
    assert "found other codes" in str(disagreement("cpu", wrong, 160, ManualClock()))
    assert "a trial search failed" in str(disagreement("cpu", broken, 160, ManualClock()))


INTERPRETED = """
import functools, sys, tempfile
from pathlib import Path
import numpy as np
from indexer.device_kernels import kernel_distances
from indexer.segments import SLOT, LIVE, Segment, SegmentSpec
from indexer.view import View
from tests.indexer import test_device_search as here

search, watching, _ = here.searching(distances=functools.partial(kernel_distances, native=False))
random = np.random.default_rng(0)
with tempfile.TemporaryDirectory() as name:
    made = [Segment.create(Path(name), here.SPEC, number) for number in range(2)]
    for segment in made:
        segment.write(0, here.some_codes(random), here.some_slots(random, 0))
    made[0].kill(np.arange(0, 90, 3), np.full(30, 1))
    for queries in (1, 3, 17):
        for length in (5, here.SLOTS):
            here.check(search, [View(0, 1, ((made[0], here.SLOTS), (made[1], length)))], random, queries)
assert watching.reasons == [] and watching.held > 0, watching.reasons
for bits in (1280, 5120):  # not whole in what a kernel reads at once, and more than it reads at once
    kernel = functools.partial(kernel_distances, native=False)
    assert here.disagreement("cpu", kernel, bits, here.ManualClock()) is None, bits
"""


COMPILED = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from indexer.device_kernels import by_dot, by_popcount

few = dict.fromkeys(("table",), "*i64") | dict.fromkeys(("queries", "out"), "*i32")
many = {"table": "*i64", "signs": "*i8"} | dict.fromkeys(("ones", "out"), "*i32")
for capability in (80, 89, 90):
    for code_bytes in (160, 512):
        for kernel, arguments, shape, wanted in (
            (by_popcount, few, {"ROWS": 32, "CHUNK": 128, "NATIVE": True}, ("popc.b32", "ld.global.v4")),
            (by_dot, many, {"ROWS": 128, "ASKED": 64, "CHUNK": 64}, ("mma",)),
        ):
            constants = {"BYTES": code_bytes} | shape
            signature = arguments | {"asked": "i32", "columns": "i32"} | dict.fromkeys(constants, "constexpr")
            aligned = {(n,): [["tt.divisibility", 16]] for n in range(len(arguments))}
            source = ASTSource(kernel, signature, constants, aligned)
            made = compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8, "num_stages": 2})
            assert made.asm["cubin"] and all(word in made.asm["ptx"] for word in wanted), (capability, code_bytes)
            assert made.metadata.shared <= 99 << 10  # what the smallest of them has
"""


def test_the_kernels_compile_for_gpus_that_are_in_use(tmp_path: Path) -> None:
    """To machine code, which needs no GPU: popc for few queries, tensor cores' integer products for many."""
    subprocess.run([sys.executable, "-c", COMPILED], env=os.environ | {"TRITON_CACHE_DIR": str(tmp_path)}, check=True)


def test_the_kernels_find_what_the_cpu_finds_in_tritons_interpreter() -> None:
    """Without a GPU: the kernels' own text, but for the one instruction that counts ones."""
    subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=os.environ | {"TRITON_INTERPRET": "1"}, check=True, timeout=200
    )
