"""Exact search: the same queries against the real kernels and against brute force, ties and filters included."""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dotstream.clock import ManualClock
from indexer.answers import Query, SearchResult
from indexer.asks import Ask, Terms, Wanted
from indexer.crew import ALONE, Crew
from indexer.errors import SearchTimeout
from indexer.search import nearest
from indexer.segments import SLOT, Segment, SegmentSpec, slot_of
from indexer.view import View
from tests.support.index_oracle import BITS, Oracle, code, dead, live, log_of, open_shard, random_log


def found(result: SearchResult) -> list[tuple[int, str, int | None]]:
    return [(hit.distance, hit.pin_id, hit.object_index) for hit in result.hits]


FILTERS: list[dict[str, Any]] = [
    {},
    {"scope": "objects"},
    {"scope": "images"},
    {"label": "Chair"},
    {"label": "Never"},
    {"category": "home"},
    {"category": "never"},
    {"board": "board-1"},
    {"board": "never"},
    {"buyable": True},
    {"buyable": False, "scope": "objects", "label": "Lamp", "category": "garden"},
    {"exclude_pins": frozenset(["pin-1", "pin-2", "absent"])},
    {"only_pins": frozenset(["pin-1", "pin-3", "pin-5", "absent"])},
    {"only_pins": frozenset(f"pin-{n}" for n in range(9)), "scope": "objects", "buyable": True},
    {"only_pins": frozenset()},
    {"within": 24},
    {"within": 0, "scope": "images"},
    {"within": 30, "label": "Chair", "exclude_pins": frozenset(["pin-4"])},
]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.integers(1, 120))
def test_results_are_those_of_brute_force(seed: int, length: int) -> None:
    random = Random(seed)
    log = random_log(random, length, pins=40)
    oracle = Oracle().apply(log)
    with TemporaryDirectory() as folder:
        shard = open_shard(Path(folder))
        for at in range(0, length, 10):
            shard.apply(log[at : at + 10])
        known = [record.codes[0].bits for record in oracle.live().values()]
        for query in [code(random), bytes(8), *known[:2]]:
            for more in FILTERS:
                for k in (1, 3, 1000):
                    expected = oracle.nearest(query, k, **more)
                    assert found(shard.search(Query(query, k, **more))) == expected, (more, k)
        shard.close()


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_queries_of_any_kind_are_answered_together_as_alone(seed: int, length: int) -> None:
    random = Random(seed)
    log = random_log(random, length, pins=40)
    oracle = Oracle().apply(log)
    crew = Crew(3)
    with TemporaryDirectory() as folder:
        shard = open_shard(Path(folder))
        shard.apply(log)
        asked = [(code(random), random.choice((1, 2, 50)), random.choice(FILTERS)) for _ in range(40)]
        results = shard.search_many([Query(query, k, **more) for query, k, more in asked], crew)
        for (query, k, more), result in zip(asked, results, strict=True):
            assert found(result) == oracle.nearest(query, k, **more), (more, k)
        shard.close()
    crew.close()


def test_ties_at_the_last_place_are_broken_by_pin_whatever_their_number(tmp_path: Path) -> None:
    """A thousand equal codes over many segments, written in an order that is not that of their names."""
    names = [f"pin-{n:04d}" for n in range(1000)]
    Random(1).shuffle(names)
    shard = open_shard(tmp_path, segment_slots=64)
    records = []
    for name in names:
        record = live(name, objects=0)
        record.codes[0].bits = b"\x0f" * 8
        records.append((name, record))
    shard.apply(log_of(records))
    for k in (1, 5, 100):
        hits = shard.search(Query(bytes(8), k)).hits
        assert [hit.pin_id for hit in hits] == sorted(names)[:k]
    shard.close()


def test_more_ties_than_a_sweep_has_room_for(tmp_path: Path) -> None:
    """Thousands at one distance, behind them thousands at a smaller one: all that tie are seen, by all threads."""
    random = np.random.default_rng(0)
    far, near = np.zeros((3000, 8), np.uint8), np.zeros((2000, 8), np.uint8)
    far[:, 0], near[:, 0] = 0x77, 0x11
    codes = np.concatenate([far, near, random.integers(0, 2, (1000, 8), np.uint8) * 0xFF])
    spec = SegmentSpec("g1", 0, BITS, len(codes), bytes(16))
    made = Segment.create(tmp_path, spec, 0)
    made.write(0, codes, np.zeros(len(codes), SLOT))
    view = View(0, 0, ((made, len(codes)),))
    distances = np.bitwise_count(codes).sum(axis=1)
    crew = Crew(2)
    for k in (1, 5, 2500, 5500):
        ask = Ask(np.zeros(8, np.uint8), k, BITS, (Terms(Wanted(), {}),))
        for (found,) in nearest([view], [ask] * 3, crew=crew, checkpoint=lambda: None):
            expected = np.flatnonzero(distances <= np.sort(distances)[k - 1])
            assert sorted(found.slots.tolist()) == expected.tolist()
            assert found.distances.tolist() == sorted(found.distances.tolist())
    crew.close()
    made.close()


def test_the_queries_own_picture_is_left_out_under_every_pin(tmp_path: Path) -> None:
    first, copy, other = live("first"), live("copy"), live("other")
    copy.image_sha256 = first.image_sha256
    shard = open_shard(tmp_path)
    shard.apply(log_of([("first", first), ("copy", copy), ("other", other)]))
    query = Query(
        first.codes[0].bits, 9, exclude_pins=frozenset(["first"]), exclude_sha256=frozenset([first.image_sha256])
    )
    assert {hit.pin_id for hit in shard.search(query).hits} == {"other"}
    shard.close()


def test_hits_say_what_they_are(tmp_path: Path) -> None:
    record = live("a", objects=2)
    shard = open_shard(tmp_path)
    shard.apply(log_of([("a", record)]))
    result = shard.search(Query(record.objects[1].codes[0].bits, 1))
    (hit,) = result.hits
    assert (hit.pin_id, hit.object_index, hit.distance, hit.bits, hit.similarity) == ("a", 1, 0, BITS, 1.0)
    assert hit.record == record
    assert result.watermark == {0: 0}
    shard.close()


def test_a_delete_acts_on_the_next_query(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    shard.apply(log_of([(f"pin-{n}", live(f"pin-{n}")) for n in range(20)]))
    for n in range(20):
        shard.apply(log_of([(f"pin-{n}", dead(f"pin-{n}", 2))], start=20 + n))
        names = {hit.pin_id for hit in shard.search(Query(bytes(8), 100)).hits}
        assert names == {f"pin-{left}" for left in range(n + 1, 20)}
    shard.close()


def test_a_time_limit(tmp_path: Path) -> None:
    class Slow(ManualClock):
        def monotonic(self) -> float:
            self.sleep(0.1)
            return super().monotonic()

    shard = open_shard(tmp_path, clock=Slow())
    shard.apply(log_of([(f"pin-{n}", live(f"pin-{n}")) for n in range(40)]))
    with pytest.raises(SearchTimeout):
        shard.search(Query(bytes(8), 5, limit_s=0.15))
    assert len(shard.search(Query(bytes(8), 5, limit_s=60.0)).hits) == 5
    shard.close()


def test_an_empty_shard_answers_nothing(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    assert shard.search(Query(bytes(8), 5)).hits == []
    shard.close()


def segment(folder: Path, codes: list[bytes]) -> Segment:
    spec = SegmentSpec("g1", 0, BITS, 64, bytes(16))
    made = Segment.create(folder, spec, 0)
    slots = np.zeros(len(codes), SLOT)
    slots["born"] = np.arange(len(codes))
    made.write(0, np.frombuffer(b"".join(codes), np.uint8).reshape(-1, BITS // 8), slots)
    return made


def test_a_version_holds_what_was_born_and_not_yet_dead(tmp_path: Path) -> None:
    random = Random(3)
    made = segment(tmp_path, [code(random) for _ in range(10)])
    made.kill(np.array([2, 4]), np.array([20, 30]))
    for watermark, length, alive in [
        (9, 10, set(range(10))),
        (20, 10, set(range(10)) - {2}),
        (30, 10, set(range(10)) - {2, 4}),
        (25, 10, set(range(10)) - {2}),
        (40, 10, set(range(10)) - {2, 4}),
        (5, 6, set(range(6))),
    ]:
        ask = Ask(np.zeros(8, np.uint8), 100, BITS, (Terms(Wanted(), {}),))
        view = View(0, watermark, ((made, length),))
        ((everything,),) = nearest([view], [ask], crew=ALONE, checkpoint=lambda: None)
        assert set(everything.slots.tolist()) == {slot_of(0, index) for index in alive}
    made.close()
