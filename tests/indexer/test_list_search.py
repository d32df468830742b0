"""Searches by inverted lists: right in every respect but recall, and exact where all lists are looked into."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from weakref import ref

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dotstream.clock import ManualClock
from indexer import list_search
from indexer.answers import Find, Hit, Query, SearchResult
from indexer.asks import Ask, Terms, Wanted
from indexer.centres import choose, nearest_centres
from indexer.crew import ALONE, Crew
from indexer.errors import BadArgument, SearchTimeout
from indexer.faster import Faster
from indexer.list_search import ListSearch
from indexer.lists import Lists
from indexer.reader import IndexReader
from indexer.records_pb2 import ObjectRecord
from indexer.scan import Codes
from indexer.search import Candidates, nearest
from indexer.segments import LIVE, SLOT, Segment, SegmentSpec
from indexer.sweeps import parts_of, sweep
from indexer.view import View
from tests.support.index_oracle import GENERATION, dead, live, log_of, open_shard

BITS, SLOTS = 1024, 2000
FREE = Terms(Wanted(), {})


def nothing() -> None:
    """A checkpoint that lets everything pass."""


def segment_of(folder: Path, number: int, codes: Codes, slots: Any = None) -> Segment:
    made = Segment.create(folder, SegmentSpec("g1", 0, BITS, len(codes), bytes(16)), number)
    made.write(0, codes, np.zeros(len(codes), SLOT) if slots is None else slots)
    return made


def crowds(random: np.random.Generator, count: int, centres: int) -> Codes:
    """Codes in crowds, each with some of its bits turned."""
    middle = random.integers(0, 256, (centres, BITS // 8), np.uint8)
    noise = np.packbits(random.random((count, BITS)) < random.choice([0.0, 0.02, 0.2], (count, 1)), axis=1)
    codes: Codes = middle[random.integers(0, centres, count)] ^ noise
    return codes


def segments(folder: Path, random: np.random.Generator, count: int) -> list[Segment]:
    """Segments of crowds with labels, some of the codes dead."""
    made = []
    codes = crowds(random, count * SLOTS, 40)
    for number in range(count):
        slots = np.zeros(SLOTS, SLOT)
        slots["label"] = random.integers(0, 3, SLOTS)
        made.append(segment_of(folder, number, codes[number * SLOTS : (number + 1) * SLOTS], slots))
        made[-1].died[:] = np.where(random.random(SLOTS) < 0.2, random.integers(0, 9, SLOTS), LIVE)
    return made


def pairs(found: list[list[Candidates]]) -> list[list[tuple[int, int]]]:
    return [list(zip(one.distances.tolist(), one.slots.tolist(), strict=True)) for views in found for one in views]


def exactly(view: View, asks: list[Ask]) -> list[list[tuple[int, int]]]:
    return pairs(nearest([view], asks, crew=ALONE, checkpoint=nothing))


def ask_of(random: np.random.Generator, code: Codes) -> Ask:
    wanted = (Wanted(), Wanted(label=1), Wanted(label=7), Wanted(scope="objects"))[random.integers(4)]
    excluded = {0: random.integers(0, SLOTS, 3).tolist()}
    only = {0: sorted(set(random.integers(0, SLOTS, 9).tolist()))} if random.random() < 0.1 else None
    k, within = int(random.choice([1, 5, 300])), int(random.choice([0, 30, 250, BITS, BITS, BITS]))
    return Ask(code ^ np.uint8(random.integers(2)), k, within, (Terms(wanted, excluded, only),))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.integers(1, SLOTS), st.integers(1, 6))
def test_all_but_recall_is_exact_and_recall_too_where_all_lists_are_looked_into(
    seed: int, length: int, queries: int
) -> None:
    random = np.random.default_rng(seed)
    crew = Crew(2)
    few, all_of_them = ListSearch(0.03, worth_it=1), ListSearch(1.0, worth_it=1)
    with TemporaryDirectory() as folder:
        made = segments(Path(folder), random, 2)
        for watermark, head in ((2, length), (20, SLOTS), (20, SLOTS)):
            # The second time there is more of the head, in no list yet or in lists that a search has begun.
            view = View(0, watermark, ((made[0], SLOTS), (made[1], head)))
            if watermark == 2 or random.random() < 0.5:
                few.make([view])
                all_of_them.make([view])
            asks = [ask_of(random, made[0].codes[random.integers(SLOTS)]) for _ in range(queries)]
            exact = exactly(view, asks)
            assert pairs(all_of_them.nearest([view], asks, crew=crew, checkpoint=nothing)) == exact
            passing = exactly(view, [Ask(ask.code, 2 * SLOTS, ask.within, ask.terms) for ask in asks])
            guessed = pairs(few.nearest([view], asks, crew=crew, checkpoint=nothing))
            for ask, some, true, possible in zip(asks, guessed, exact, passing, strict=True):
                assert set(some) <= set(possible)
                assert some == sorted(some)
                assert len(some) >= min(ask.k, len(true))
                assert len(set(some)) == len(some)
                if ask.within < BITS:
                    assert some == true
            made[0].kill(random.integers(0, SLOTS, 50), np.full(50, 15))
    few.close()
    all_of_them.close()
    crew.close()


def test_recall_on_crowds_is_high_and_little_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(4)
    codes = crowds(random, 20_000, 400)
    view = View(
        0, 0, ((segment_of(tmp_path, 0, codes[:10_000]), 10_000), (segment_of(tmp_path, 1, codes[10_000:]), 9_990))
    )
    search = ListSearch(0.05, worth_it=1)
    search.make([view])
    read: list[int] = []

    def counting(parts: Any, asks: Any, job: Any, *rest: Any) -> Any:
        read.append(sum(map(len, job.rows)))
        return sweep(parts, asks, job, *rest)

    monkeypatch.setattr(list_search, "sweep", counting)
    asks = [Ask(codes[n] ^ np.packbits(random.random(BITS) < 0.01), 10, BITS, (FREE,)) for n in range(100)]
    found = pairs(search.nearest([view], asks, crew=ALONE, checkpoint=nothing))
    hits = [len(set(some) & set(true[:10])) for some, true in zip(found, exactly(view, asks), strict=True)]
    assert sum(hits) >= 0.97 * 1000
    assert max(read) <= 1000  # 5 % of the codes, and of these the nearest sketches
    search.close()


def test_the_dead_do_not_hide_the_living(tmp_path: Path) -> None:
    """Many copies of the query were deleted; what lives is found behind them, and before they died they are."""
    random = np.random.default_rng(3)
    codes = random.integers(0, 256, (SLOTS, BITS // 8), np.uint8)
    query = codes[0].copy()
    codes[:1500] = query
    segment = segment_of(tmp_path, 0, codes)
    search = ListSearch(0.01, worth_it=1)
    search.make([View(0, 4, ((segment, SLOTS),))])
    segment.kill(np.arange(1500), np.full(1500, 5))
    for watermark, living in ((4, range(1500)), (5, range(1500, SLOTS))):
        view = View(0, watermark, ((segment, SLOTS),))
        (found,) = pairs(search.nearest([view], [Ask(query, 1, BITS, (FREE,))], crew=ALONE, checkpoint=nothing))
        assert found
        assert all(slot in living for _, slot in found)
    search.close()


def test_where_all_codes_are_alike_those_in_lists_are_found_beside_new_ones(tmp_path: Path) -> None:
    """More sketches tie than are kept; and enough codes stand in no list yet, farther away."""
    codes = np.zeros((SLOTS, BITS // 8), np.uint8)
    codes[-100:] = 0xFF
    segment = segment_of(tmp_path, 0, codes)
    search = ListSearch(0.01, worth_it=1)
    search.make([View(0, 0, ((segment, SLOTS - 100),))])
    view = View(0, 0, ((segment, SLOTS),))
    ((near, *_),) = pairs(search.nearest([view], [Ask(codes[0], 5, BITS, (FREE,))], crew=ALONE, checkpoint=nothing))
    assert near == (0, 0)
    search.close()


def test_a_code_that_was_put_back_and_a_segment_that_was_replaced_are_found(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    codes = random.integers(0, 256, (SLOTS, BITS // 8), np.uint8)
    segment, other = segment_of(tmp_path, 0, codes), segment_of(tmp_path, 1, codes)
    code = codes[0].copy()
    segment.codes[0] ^= 0xFF
    search = ListSearch(0.01, worth_it=1)
    view = View(0, 0, ((segment, SLOTS), (other, SLOTS)))
    search.make([view])
    ask = Ask(code, 1, BITS, (FREE,))
    segment.rewrite(0, code[None], np.zeros(1, SLOT))
    assert (0, 0) in pairs(search.nearest([view], [ask], crew=ALONE, checkpoint=nothing))[0]
    replaced = segment_of(tmp_path, 2, np.roll(codes, 3, axis=0))
    now = View(0, 0, ((other, SLOTS), (replaced, SLOTS)))
    (found,) = pairs(search.nearest([now], [ask], crew=ALONE, checkpoint=nothing))
    assert found == exactly(now, [ask])[0]
    search.close()


def test_several_versions_in_turn_are_searched_as_each_of_them_is(tmp_path: Path) -> None:
    """Of two partitions, whose segments lists know in another order, or of which a version has fewer or less."""
    random = np.random.default_rng(11)
    made = segments(tmp_path, random, 3)
    search = ListSearch(1.0, worth_it=1)
    first, second = View(0, 20, ((made[0], SLOTS), (made[1], SLOTS))), View(1, 20, ((made[2], SLOTS),))
    search.make([first, second])
    fewer, older = View(0, 20, ((made[1], SLOTS),)), View(0, 3, ((made[0], SLOTS), (made[1], 700)))
    few = ListSearch(0.2, worth_it=1)
    few.make([first, second])
    for _ in range(2):
        for views in ([first, second], [second, first], [first], [second, fewer], [older, second], [older]):
            terms = (Terms(Wanted(label=1), {}), FREE)
            for free in (terms, terms[::-1], (FREE, FREE)):
                ask = Ask(made[2].codes[random.integers(SLOTS)], 5, BITS, free[: len(views)])
                exact = nearest(views, [ask], crew=ALONE, checkpoint=nothing)
                assert pairs(search.nearest(views, [ask], crew=ALONE, checkpoint=nothing)) == pairs(exact)
                wide = nearest(views, [Ask(ask.code, 3 * SLOTS, BITS, ask.terms)], crew=ALONE, checkpoint=nothing)
                found = few.nearest(views, [ask], crew=ALONE, checkpoint=nothing)
                for some, possible in zip(pairs(found), pairs(wide), strict=True):
                    assert set(some) <= set(possible)
                assert sum(map(len, pairs(found))) >= 5
    search.close()
    few.close()


def test_no_version_stays_because_it_was_searched(tmp_path: Path) -> None:
    """Segments that were replaced go, though the next search may be far off."""
    codes = crowds(np.random.default_rng(12), SLOTS, 20)
    segment = segment_of(tmp_path, 0, codes)
    search = ListSearch(0.05, worth_it=1)
    view = View(0, 0, ((segment, SLOTS),))
    search.make([view])
    search.nearest([view], [Ask(codes[0], 5, BITS, (FREE,))], crew=ALONE, checkpoint=nothing)
    gone = ref(segment)
    del view, segment
    gc.collect()
    assert gone() is None
    search.close()


def test_lists_that_take_long_hold_up_no_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While they are made a search reads everything, within its time limit; closing ends the making."""
    random = np.random.default_rng(6)
    codes = crowds(random, SLOTS, 20)
    view = View(0, 0, ((segment_of(tmp_path, 0, codes), SLOTS),))
    going, on = threading.Event(), threading.Event()

    def slow(parts: Any, checkpoint: Any) -> Any:
        going.set()
        on.wait(60)
        return choose(parts, checkpoint)

    monkeypatch.setattr(list_search, "choose", slow)
    search = ListSearch(0.02, worth_it=1)
    ask = Ask(codes[3], 5, BITS, (FREE,))
    for _ in range(3):
        assert pairs(search.nearest([view], [ask], crew=ALONE, checkpoint=nothing)) == exactly(view, [ask])
        assert going.wait(60)

    def late() -> None:
        raise SearchTimeout("late")

    with pytest.raises(SearchTimeout):
        search.nearest([view], [ask], crew=ALONE, checkpoint=late)
    closing = threading.Thread(target=search.close)
    closing.start()
    on.set()
    closing.join(60)
    assert not closing.is_alive()
    assert pairs(search.nearest([view], [ask], crew=ALONE, checkpoint=nothing)) == exactly(view, [ask])


def test_where_lists_cannot_be_made_everything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    view = View(0, 0, ((segment_of(tmp_path, 0, crowds(np.random.default_rng(7), 300, 3)), 300),))
    search = ListSearch(0.02, worth_it=1)
    ask = Ask(np.zeros(BITS // 8, np.uint8), 5, BITS, (FREE,))

    def broken(*_: Any) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(list_search, "choose", broken)
    for _ in range(3):
        assert pairs(search.nearest([view], [ask], crew=ALONE, checkpoint=nothing)) == exactly(view, [ask])
        search._upkeep.wait()
    assert [record.exc_info is not None for record in caplog.records] == [True]  # once, until there are many more codes
    search.close()


def test_queries_that_come_together_read_all_of_a_small_index_together(tmp_path: Path) -> None:
    codes = crowds(np.random.default_rng(7), SLOTS, 20)
    view = View(0, 0, ((segment_of(tmp_path, 0, codes), SLOTS),))
    search = ListSearch(0.02, worth_it=SLOTS // 2)
    search.make([view])
    asks = [Ask(codes[n], 5, BITS, (FREE,)) for n in range(3)]
    for few, approximately in ((1, [0]), (2, [0, 1]), (3, [])):
        looked: list[int] = []
        search.nearest([view], asks[:few], crew=ALONE, checkpoint=nothing, looked=looked.append)
        assert looked == approximately
    search.close()


def test_new_lists_read_only_what_is_new_and_centres_follow_a_growing_index(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    codes = crowds(random, SLOTS, 20)
    segment = segment_of(tmp_path, 0, codes)
    parts = {length: parts_of([View(0, 0, ((segment, length),))]) for length in (400, 1500, SLOTS)}
    centres = choose(parts[400], nothing)
    assert (choose(parts[400], nothing).codes == centres.codes).all()
    grown = Lists(centres, parts[1500], Lists(centres, parts[400], None, nothing), nothing)
    anew = Lists(centres, parts[1500], None, nothing)
    assert (grown.where == anew.where).all()
    assert (grown.sketches == anew.sketches).all()
    assert sorted(anew.where[:1500].tolist()) == list(range(1500))
    search = ListSearch(0.02, worth_it=1)
    search.make([View(0, 0, ((segment, 400),))])
    first = search._lists
    search.make([View(0, 0, ((segment, 1500),))])
    assert first is not None
    assert search._lists is not None
    assert search._lists.centres is first.centres
    search.make([View(0, 0, ((segment, SLOTS),))])
    assert search._lists.centres is not first.centres
    search.close()


@pytest.mark.parametrize("kinds", [1, 2, 500])
def test_each_code_is_with_its_nearest_centre(kinds: int) -> None:
    """Also where more centres tie than the kernel keeps."""
    random = np.random.default_rng(kinds)
    centres = random.integers(0, 256, (kinds, 40), np.uint8)[random.integers(0, kinds, 300)]
    codes = random.integers(0, 256, (700, 40), np.uint8)
    found, distances = nearest_centres(codes, centres, nothing)
    every = np.bitwise_count(codes[:, None] ^ centres[None]).sum(axis=2, dtype=np.int64)
    assert (found == every.argmin(axis=1)).all()
    assert (distances == every.min(axis=1)).all()


def test_ranges_are_exact_and_read_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(9)
    codes = crowds(random, SLOTS, 40)
    view = View(0, 0, ((segment_of(tmp_path, 0, codes), SLOTS),))
    search = ListSearch(1.0, worth_it=1)
    search.make([view])
    asks = [Ask(codes[n], 700, 8, (FREE,)) for n in range(50)]
    exact = exactly(view, asks)
    read: list[int] = []

    def counting(parts: Any, asks: Any, job: Any, *rest: Any) -> Any:
        read.append(sum(map(len, job.rows)))
        return sweep(parts, asks, job, *rest)

    monkeypatch.setattr(list_search, "sweep", counting)
    assert pairs(search.nearest([view], asks, crew=ALONE, checkpoint=nothing)) == exact
    assert max(read) <= 100
    monkeypatch.setattr("indexer.probe._MOST_WITHIN", 3)  # too much looks near: everything is read
    monkeypatch.setattr(list_search, "sweep", sweep)
    assert pairs(search.nearest([view], asks, crew=ALONE, checkpoint=nothing)) == exact
    search.close()


def test_a_share_that_is_none_is_refused() -> None:
    wrong: Any
    for wrong in (0, 0.0, -0.5, 1.5, float("nan"), "0.5", None, True):
        with pytest.raises(BadArgument, match=r"share is .*number"):
            ListSearch(wrong)
    for wrong in (-1, 2.5, None):
        with pytest.raises(BadArgument, match=r"worth_it is .*a whole number from 0 on"):
            ListSearch(0.5, worth_it=wrong)


class Counting:
    def __init__(self) -> None:
        self.checks: list[tuple[int, int]] = []

    def checked(self, found: int, expected: int) -> None:
        self.checks.append((found, expected))


def test_recall_is_measured_on_every_so_many_queries() -> None:
    def hits(*names: str) -> SearchResult:
        return SearchResult([Hit(name, None, 1, 64, 0.9, ObjectRecord()) for name in names], {})

    class AllButTheLast(ListSearch):
        def nearest(self, views: Any, asks: Any, *, crew: Any, checkpoint: Any, looked: Any = None) -> Any:
            for number in range(len(asks) - 1):
                looked(number)

    counting, search = Counting(), AllButTheLast(0.5)
    asked: list[int] = []

    def ask(queries: Any, find: Find) -> list[SearchResult | None]:
        exact = find is nearest
        if not exact:
            find([], queries, crew=ALONE, checkpoint=nothing)
        asked.append(len(queries) if exact else 0)
        return [hits("a", "b", "c") if exact else hits("a", "x", "c") for _ in queries]

    faster = Faster(search, check_every=2, observer=counting)
    for _ in range(2):
        results = faster.search([Query(bytes(8), 3)] * 4, ask)
        assert [[hit.pin_id for hit in result.hits] for result in results if result] == [["a", "x", "c"]] * 4
    assert counting.checks == [(2, 3)] * 3  # of six that were answered approximately
    assert asked == [0, 2, 0, 1]
    wrong: Any
    for wrong in (0, 1.5, None):
        with pytest.raises(BadArgument, match=r"check_every is .*a whole number from 1 on"):
            Faster(search, check_every=wrong)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[tuple[IndexReader, Counting]]:
    counting = Counting()
    faster = Faster(ListSearch(1.0, worth_it=1), check_every=1, observer=counting)
    made = IndexReader(tmp_path / GENERATION, 1, clock=ManualClock(), lease_s=60.0, name="a", threads=2, faster=faster)
    yield made, counting
    made.close()


def test_a_reader_searches_by_lists_while_its_index_changes(
    tmp_path: Path, reader: tuple[IndexReader, Counting]
) -> None:
    asking, counting = reader
    shard = open_shard(tmp_path / GENERATION / "0", clock=ManualClock(), bits=256)
    names = [f"pin-{n}" for n in range(60)]
    records = {name: live(name, bits=256) for name in names}
    shard.apply(log_of(records.items()))
    asking.refresh()
    for n, name in enumerate(names[:20]):
        code = records[name].objects[0].codes[0].bits
        assert asking.search(code, 1).hits[0].pin_id == name
        assert [hit.pin_id for hit in asking.search(code, 5, within=20, board="no such board").hits] == []
        shard.apply(log_of([(name, dead(name, 2))], start=60 + n))
        asking.refresh()
        assert name not in {hit.pin_id for hit in asking.search(code, 300).hits}
        assert asking.search(code, 5, within=20).hits == []
    assert counting.checks
    assert all(found == expected for found, expected in counting.checks)  # all lists are looked into
    shard.close()
