"""Searches by sketches: exact where they promise it, right in every respect but recall where they do not."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dotstream.clock import ManualClock
from indexer.answers import Find, Hit, Query, SearchResult
from indexer.asks import Ask, Terms, Wanted
from indexer.crew import ALONE, Crew
from indexer.faster import Faster
from indexer.reader import IndexReader
from indexer.records_pb2 import ObjectRecord
from indexer.search import Candidates, nearest
from indexer.segments import LIVE, SLOT, Segment, SegmentSpec
from indexer.sketch_search import SketchSearch
from indexer.view import View
from tests.support.index_oracle import GENERATION, dead, live, log_of, open_shard

BITS, SLOTS = 512, 400


def segments(folder: Path, random: np.random.Generator, count: int) -> list[Segment]:
    """Codes in crowds of near-duplicates, some of them dead, with labels."""
    centres = random.integers(0, 256, (12, BITS // 8), np.uint8)
    made = []
    for number in range(count):
        segment = Segment.create(folder, SegmentSpec("g1", 0, BITS, SLOTS, bytes(16)), number)
        noise = np.packbits(random.random((SLOTS, BITS)) < random.choice([0.0, 0.02, 0.2], (SLOTS, 1)), axis=1)
        slots = np.zeros(SLOTS, SLOT)
        slots["label"] = random.integers(0, 3, SLOTS)
        segment.write(0, centres[random.integers(0, 12, SLOTS)] ^ noise, slots)
        segment.died[:] = np.where(random.random(SLOTS) < 0.2, random.integers(0, 9, SLOTS), LIVE)
        made.append(segment)
    return made


def rows(found: list[list[Candidates]]) -> list[list[tuple[int, int]]]:
    return [list(zip(one.distances.tolist(), one.slots.tolist(), strict=True)) for views in found for one in views]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.integers(1, SLOTS), st.integers(1, 6))
def test_ranges_and_all_else_but_recall_are_exact(seed: int, length: int, queries: int) -> None:
    random = np.random.default_rng(seed)
    crew = Crew(2)
    sketches = SketchSearch(128, 0.02)
    with TemporaryDirectory() as folder:
        made = segments(Path(folder), random, 2)
        for watermark, head in ((2, length), (20, SLOTS)):  # the second time there is more of the head
            view = View(0, watermark, ((made[0], SLOTS), (made[1], head)))
            asks = [
                Ask(
                    made[0].codes[random.integers(SLOTS)] ^ np.uint8(random.integers(2)),
                    int(random.choice([1, 5, 700])),
                    int(random.choice([0, 10, 30, 60, 90, BITS])),
                    (
                        Terms(
                            Wanted(label=(None, 1, 7)[random.integers(3)]), {0: random.integers(0, SLOTS, 3).tolist()}
                        ),
                    ),
                )
                for _ in range(queries)
            ]
            exact = rows(nearest([view], asks, crew=ALONE, checkpoint=lambda: None))
            assert rows(sketches.exactly([view], asks, crew=crew, checkpoint=lambda: None)) == exact
            everything = [Ask(ask.code, 2 * SLOTS, ask.within, ask.terms) for ask in asks]
            passing = rows(nearest([view], everything, crew=ALONE, checkpoint=lambda: None))
            guessed = rows(sketches.nearest([view], asks, crew=crew, checkpoint=lambda: None))
            for ask, some, true, possible in zip(asks, guessed, exact, passing, strict=True):
                assert set(some) <= set(possible)
                assert some == sorted(some)
                assert len(some) >= min(ask.k, 20, len(true)) or ask.within < BITS
                assert all(mine >= best for (mine, _), (best, _) in zip(some, true, strict=False))
    crew.close()


def test_near_duplicates_are_all_found_and_little_else_is_read(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    codes = random.integers(0, 256, (SLOTS, BITS // 8), np.uint8)
    codes[7] = codes[3]
    codes[9] = codes[3]
    codes[9, 50] ^= 0xFF
    made = Segment.create(tmp_path, SegmentSpec("g1", 0, BITS, SLOTS, bytes(16)), 0)
    made.write(0, codes, np.zeros(SLOTS, SLOT))
    view = View(0, 0, ((made, SLOTS),))
    sketches = SketchSearch(128, 0.0)
    ask = Ask(codes[3], 50, 8, (Terms(Wanted(), {}),))
    assert rows(sketches.exactly([view], [ask], crew=ALONE, checkpoint=lambda: None)) == [[(0, 3), (0, 7), (8, 9)]]
    assert rows(sketches.nearest([view], [ask], crew=ALONE, checkpoint=lambda: None)) == [[(0, 3), (0, 7), (8, 9)]]


def test_the_dead_do_not_hide_the_living(tmp_path: Path) -> None:
    """Many copies of the query were deleted; what lives is found behind them, and before they died they are."""
    random = np.random.default_rng(3)
    segment = Segment.create(tmp_path, SegmentSpec("g1", 0, BITS, SLOTS, bytes(16)), 0)
    codes = random.integers(0, 256, (SLOTS, BITS // 8), np.uint8)
    query = codes[0].copy()
    codes[:300] = query
    segment.write(0, codes, np.zeros(SLOTS, SLOT))
    segment.kill(np.arange(300), np.full(300, 5))
    sketches = SketchSearch(128, 0.0)
    ask = Ask(query, 1, BITS, (Terms(Wanted(), {}),))
    for watermark, nearest_one in ((4, 0), (5, int(np.bitwise_count(codes[300:] ^ query).sum(axis=1).min()))):
        view = View(0, watermark, ((segment, SLOTS),))
        ((found,),) = sketches.nearest([view], [ask], crew=ALONE, checkpoint=lambda: None)
        assert nearest_one <= int(found.distances[0]) <= nearest_one + BITS // 8
        assert len(found.slots) == 300 if watermark == 4 else min(found.slots) >= 300
    segment.close()


def test_an_example_that_misleads_costs_time_and_no_neighbours(tmp_path: Path) -> None:
    """The first codes are the query's copies, so that a part of the sketches tells of nothing but those."""
    random = np.random.default_rng(4)
    segment = Segment.create(tmp_path, SegmentSpec("g1", 0, BITS, 4096, bytes(16)), 0)
    codes = random.integers(0, 256, (4096, BITS // 8), np.uint8)
    codes[:256] = codes[0]
    segment.write(0, codes, np.zeros(4096, SLOT))
    ask = Ask(codes[0], 400, BITS, (Terms(Wanted(), {}),))
    ((found,),) = SketchSearch(64, 0.3).nearest(
        [View(0, 1, ((segment, 4096),))], [ask], crew=ALONE, checkpoint=lambda: None
    )
    assert len(found.slots) >= 400
    segment.close()


def test_a_code_that_was_put_back_is_sketched_again(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    codes = random.integers(0, 256, (SLOTS, BITS // 8), np.uint8)
    made = Segment.create(tmp_path, SegmentSpec("g1", 0, BITS, SLOTS, bytes(16)), 0)
    made.write(0, codes, np.zeros(SLOTS, SLOT))
    view = View(0, 0, ((made, SLOTS),))
    sketches = SketchSearch(128, 0.0)
    ask = Ask(codes[0], 1, 5, (Terms(Wanted(), {}),))
    damaged = codes[0].copy()
    made.codes[0] ^= 0xFF
    assert rows(sketches.exactly([view], [ask], crew=ALONE, checkpoint=lambda: None)) == [[]]
    made.rewrite(0, damaged[None], np.zeros(1, SLOT))
    assert rows(sketches.exactly([view], [ask], crew=ALONE, checkpoint=lambda: None)) == [[(0, 0)]]


def test_sketches_as_wide_as_the_codes_change_nothing(tmp_path: Path) -> None:
    made = segments(tmp_path, np.random.default_rng(6), 1)
    view = View(0, 20, ((made[0], SLOTS),))
    ask = Ask(made[0].codes[5], 9, BITS, (Terms(Wanted(), {}),))
    sketches = SketchSearch(BITS, 0.1)
    found = sketches.nearest([view], [ask], crew=ALONE, checkpoint=lambda: None)
    assert rows(found) == rows(nearest([view], [ask], crew=ALONE, checkpoint=lambda: None))
    for bits, share in ((0, 0.5), (100, 0.5), (128, 1.5)):
        with pytest.raises(ValueError, match="a multiple of 64"):
            SketchSearch(bits, share)


class Counting:
    def __init__(self) -> None:
        self.checks: list[tuple[int, int]] = []

    def checked(self, found: int, expected: int) -> None:
        self.checks.append((found, expected))


def test_recall_is_measured_on_every_so_many_queries() -> None:
    def hits(*names: str) -> SearchResult:
        return SearchResult([Hit(name, None, 1, 64, 0.9, ObjectRecord()) for name in names], {})

    counting, sketches = Counting(), SketchSearch(64, 0.5)
    asked: list[int] = []

    def ask(queries: Any, find: Find) -> list[SearchResult]:
        exact = find is nearest
        asked.append(len(queries) if exact else 0)
        return [hits("a", "b", "c") if exact else hits("a", "x", "c") for _ in queries]

    faster = Faster(sketches, approximate=True, check_every=3, observer=counting)
    for _ in range(2):
        results = faster.search([Query(bytes(8), 3)] * 4, ask)
        assert [[hit.pin_id for hit in result.hits] for result in results] == [["a", "x", "c"]] * 4
    assert counting.checks == [(2, 3)] * 3
    assert asked == [0, 2, 0, 1]
    Faster(sketches, approximate=False, observer=counting).search([Query(bytes(8), 3)], ask)
    assert len(counting.checks) == 3
    with pytest.raises(ValueError, match="at least 1"):
        Faster(sketches, approximate=True, check_every=0)


def test_a_reader_searches_by_sketches_while_its_index_changes(tmp_path: Path) -> None:
    clock, counting = ManualClock(), Counting()
    shard = open_shard(tmp_path / GENERATION / "0", clock=clock, bits=256)
    faster = Faster(SketchSearch(64, 1.0), approximate=True, check_every=1, observer=counting)
    reader = IndexReader(tmp_path / GENERATION, 1, clock=clock, lease_s=60.0, name="a", threads=2, faster=faster)
    names = [f"pin-{n}" for n in range(60)]
    records = {name: live(name, bits=256) for name in names}
    shard.apply(log_of(records.items()))
    reader.refresh()
    for n, name in enumerate(names[:20]):
        code = records[name].objects[0].codes[0].bits
        assert reader.search(code, 1).hits[0].pin_id == name
        assert [hit.pin_id for hit in reader.search(code, 5, within=20, board="no such board").hits] == []
        shard.apply(log_of([(name, dead(name, 2))], start=60 + n))
        reader.refresh()
        assert name not in {hit.pin_id for hit in reader.search(code, 300).hits}
        assert reader.search(code, 5, within=20).hits == []
    assert counting.checks
    assert all(found == expected for found, expected in counting.checks)  # all sketches are near enough
    reader.close()
    shard.close()
