"""Compaction: what is found stays the same, at every watermark, while codes move and files go."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dotstream.clock import ManualClock
from indexer.answers import Query
from indexer.arbitration import Logged
from indexer.compaction import Compacted, Compactor, choose
from indexer.database import U64
from indexer.reader import IndexReader
from indexer.segment_format import LIVE
from indexer.segments import Segment, SegmentSpec
from indexer.shard import Shard
from tests.indexer.test_crash import Crashed, Steps, finish
from tests.indexer.test_power_loss import image
from tests.support.index_oracle import Oracle, dead, hold_against, live, log_of, open_shard, random_log

SHARE = 0.25


def settle(shard: Shard) -> int:
    """Compacts until nothing is sparse; returns how many compactions it took."""
    done = 0
    shard.sync()
    while shard.compact(SHARE) is not None:
        done += 1
    return done


def nearest(shard: Shard, random: Random, oracle: Oracle) -> None:
    for k in (1, 7, 1000):
        query = random.randbytes(8)
        hits = shard.search(Query(query, k)).hits
        assert [(hit.distance, hit.pin_id, hit.object_index) for hit in hits] == oracle.nearest(query, k)


def files_of(home: Path) -> set[str]:
    (version,) = home.glob("v-*")
    return {path.name for path in (version / "segments").iterdir()}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.lists(st.sampled_from(("apply", "compact", "sync", "close", "crash")), max_size=40))
def test_any_order_of_changes_compactions_and_restarts(seed: int, steps: list[str]) -> None:
    random = Random(seed)
    log = random_log(random, 200, pins=30)
    with TemporaryDirectory() as folder:
        home = Path(folder)
        shard = open_shard(home)
        done = 0
        for step in steps:
            if step == "apply":
                size = random.randint(1, 20)
                shard.apply(log[shard.applied_offset + 1 : shard.applied_offset + 1 + size])
            elif step == "sync":
                shard.sync()
            elif step == "compact":
                done += shard.compact(random.choice((0.0, 0.3, 0.9))) is not None
            else:
                shard.close() if step == "close" else shard.abandon()
                shard = open_shard(home)
            oracle = Oracle().apply(log[: shard.applied_offset + 1])
            nearest(shard, random, oracle)
        hold_against(shard, oracle := Oracle().apply(log[: shard.applied_offset + 1]))
        settle(shard)
        hold_against(shard, oracle)
        nearest(shard, random, oracle)
        shard.close()


def churn(pins: int, rounds: int) -> list[Logged]:
    """Pins that are updated round after round, so that old segments become sparse; a third is deleted in the end."""
    records = [(f"pin-{n}", live(f"pin-{n}", version)) for version in range(1, rounds + 1) for n in range(pins)]
    return log_of([*records, *((f"pin-{n}", dead(f"pin-{n}", rounds + 1)) for n in range(0, pins, 3))])


def feed(shard: Shard, log: list[Logged]) -> None:
    """Applies a log in batches that are small enough for records to be replaced by later ones."""
    for at in range(0, len(log), 10):
        shard.apply(log[at : at + 10])


def test_space_comes_back_and_the_content_stays(tmp_path: Path) -> None:
    log = churn(40, 6)
    shard = open_shard(tmp_path)
    feed(shard, log)
    before = shard.counts()
    digest = shard.digest()
    assert settle(shard) > 0
    after = shard.counts()
    assert shard.digest() == digest
    assert (after["codes"], after["compactions"] > 0) == (before["codes"], True)
    assert after["dead_slots"] < before["dead_slots"] / 3
    assert after["segments"] < before["segments"] / 2
    shard.sync()
    shard.compact(SHARE)
    assert len(files_of(tmp_path)) == 2 * after["segments"]
    hold_against(shard, Oracle().apply(log))
    shard.close()
    shard = open_shard(tmp_path)
    hold_against(shard, Oracle().apply(log))
    more = log_of([(f"pin-{n}", dead(f"pin-{n}", 9)) for n in range(40)], start=len(log))
    shard.apply(more)
    settle(shard)
    hold_against(shard, Oracle().apply([*log, *more]))
    assert shard.counts()["segments"] == 1
    shard.close()


def test_codes_that_a_power_loss_could_take_do_not_move(tmp_path: Path) -> None:
    log = churn(40, 3)
    shard = open_shard(tmp_path)
    feed(shard, log)
    assert shard.compact(SHARE) is None
    shard.sync()
    assert shard.compact(SHARE) is not None
    shard.close()


def test_deaths_that_a_compaction_stores_during_a_sync_are_kept_until_the_next(tmp_path: Path) -> None:
    log = churn(40, 3)
    copied, go = threading.Event(), threading.Event()

    def at(step: str) -> None:
        if step == "compaction caught up":
            copied.set()
            assert go.wait(60)
        if step == "codes synced" and copied.is_set() and not go.is_set():
            go.set()
            mover.join(60)

    shard = open_shard(tmp_path, at=at)
    feed(shard, log)
    shard.sync()
    mover = threading.Thread(target=shard.compact, args=(SHARE,))
    mover.start()
    assert copied.wait(60)
    more = log_of([(f"pin-{n}", dead(f"pin-{n}", 9)) for n in range(40)], start=len(log))
    shard.apply(more)
    shard.sync()  # the compaction is committed within it
    assert shard.counts()["compactions"] == 1
    with shard._catalogue.scan("deaths") as found:
        kept = [U64.unpack(key)[0] for key, _ in found]
    moved = next(segment for segment in shard._opened.files.segments if segment.name.compacted)
    dead_there = moved.slots_at(np.flatnonzero(moved.died != LIVE)).tolist()
    assert dead_there
    assert kept == sorted(dead_there)
    shard.sync()
    with shard._catalogue.scan("deaths") as found:
        assert list(found) == []
    hold_against(shard, Oracle().apply([*log, *more]))
    shard.close()


# -- readers in other processes ------------------------------------------------------------------------------------


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[IndexReader]:
    found = IndexReader(tmp_path / "g1", 1, clock=ManualClock(), lease_s=1e9, name="reader")
    yield found
    found.close()


def hits_of(reader: IndexReader, query: bytes) -> list[tuple[int, str, int | None]]:
    return [(hit.distance, hit.pin_id, hit.object_index) for hit in reader.search(query, 50).hits]


def test_a_reader_finds_the_same_before_and_after_and_keeps_its_files_until_it_moves_on(
    tmp_path: Path, reader: IndexReader
) -> None:
    log = churn(40, 3)
    shard = open_shard(tmp_path / "g1" / "0")
    feed(shard, log)
    shard.sync()
    reader.refresh()
    query = bytes(8)
    expected = Oracle().apply(log).nearest(query, 50)
    old = files_of(tmp_path / "g1" / "0")
    assert hits_of(reader, query) == expected
    settle(shard)
    shard.sync()
    assert shard.compact(SHARE) is None
    assert old < files_of(tmp_path / "g1" / "0")  # the reader may answer from them still
    assert hits_of(reader, query) == expected
    assert reader.refresh()[0] == len(log) - 1
    assert hits_of(reader, query) == expected
    shard.compact(SHARE)
    assert len(files_of(tmp_path / "g1" / "0")) == 2 * shard.counts()["segments"]
    assert hits_of(reader, query) == expected
    assert reader.pin("pin-1") == shard.pin("pin-1")
    shard.close()


def test_a_delete_reaches_a_query_that_looks_at_replaced_segments(tmp_path: Path, reader: IndexReader) -> None:
    log = churn(40, 3)
    shard = open_shard(tmp_path / "g1" / "0")
    feed(shard, log)
    shard.sync()
    reader.refresh()
    (version,) = reader._versions.now
    settle(shard)
    (nearest_one, *_) = shard.search(Query(bytes(8), 1)).hits
    entry = shard._catalogue.rows([nearest_one.pin_id])[0]
    assert entry is not None
    places = [version.view.find(slot) for slot in entry.slots]
    shard.apply(log_of([(nearest_one.pin_id, dead(nearest_one.pin_id, 99))], start=len(log)))
    assert all(place is not None and place[0].died[place[1]] == len(log) for place in places)
    assert nearest_one.pin_id not in {hit.pin_id for hit in reader.search(bytes(8), 50).hits}
    shard.close()


def test_what_dies_while_codes_are_copied_is_in_the_new_columns_before_anything_names_them(tmp_path: Path) -> None:
    log = churn(40, 3)
    pins = [*range(0, 40, 2), *range(1, 40, 2)]
    late = [log_of([(f"pin-{n}", dead(f"pin-{n}", 9))], start=len(log) + at) for at, n in enumerate(pins)]
    left: list[int] = []

    def at(step: str) -> None:
        if step == "compaction copied":
            for one in late[:20]:
                shard.apply(one)
            shard.sync()
        if step == "compaction caught up":
            for one in late[20:]:
                shard.apply(one)
            shard.sync()
        if step == "layout staged":
            (made,) = (tmp_path / "0").glob("v-*/segments/*-*.meta")
            left.append(int(np.count_nonzero(np.frombuffer(made.read_bytes(), np.int64) == LIVE)))

    shard = open_shard(tmp_path / "0", at=at)
    feed(shard, log)
    shard.sync()
    compacted = shard.compact(SHARE)
    assert compacted is not None
    with shard._catalogue.scan("deaths") as found:
        still = len(list(found))
    assert 0 < still == left[0] < compacted.kept
    hold_against(shard, Oracle().apply([*log, *(record for one in late for record in one)]))
    shard.close()


def test_what_dies_while_codes_are_copied_stays_dead_also_when_columns_are_lost(tmp_path: Path) -> None:
    log = churn(40, 3)
    late = log_of([(f"pin-{n}", dead(f"pin-{n}", 9)) for n in range(40)], start=len(log))
    done: list[str] = []

    def at(step: str) -> None:
        if step == "compaction caught up" and not done:
            done.append(step)
            shard.apply(late)
            shard.sync()

    shard = open_shard(tmp_path / "g1" / "0", at=at)
    feed(shard, log)
    shard.sync()
    assert shard.compact(SHARE) is not None
    oracle = Oracle().apply([*log, *late])
    hold_against(shard, oracle)
    made = next(segment for segment, _ in shard._view.segments if segment.name.compacted)
    made.died[:] = 2**63 - 1  # as if the columns had never reached the disk
    shard.abandon()
    shard = open_shard(tmp_path / "g1" / "0")
    hold_against(shard, oracle)
    shard.close()


# -- crashes -------------------------------------------------------------------------------------------------------


def play(home: Path, log: list[Logged], steps: Steps) -> None:
    shard = open_shard(home, at=steps)
    try:
        for at in range(0, len(log), 30):
            shard.apply(log[at : at + 30])
            shard.sync()
            while shard.compact(SHARE) is not None:
                pass
        shard.close()
    finally:
        shard.abandon()


def test_a_crash_at_every_step(tmp_path: Path) -> None:
    log = churn(15, 6)
    oracle = Oracle().apply(log)
    counting = Steps()
    play(tmp_path / "whole", log, counting)
    steps = ["compaction chosen", "compaction copied", "compaction caught up"]
    steps += ["layout staged", "layout written", "layout published"]
    assert {*steps, "replaced removed"} <= set(counting.seen)
    moving = [n for n, name in enumerate(counting.seen, 1) if name in {*steps, "replaced removed"}]
    for last in moving:
        home = tmp_path / "crashed"
        with pytest.raises(Crashed):
            play(home, log, Steps(last))
        shard = finish(home, log)
        hold_against(shard, oracle)
        settle(shard)
        hold_against(shard, oracle)
        shard.close()
        open_shard(home).close()
        shutil.rmtree(home)


def test_power_losses_around_a_compaction(tmp_path: Path) -> None:
    """The log of RocksDB ends anywhere, and sectors of the columns are old or new; files that were synced are whole."""
    log = churn(20, 5)
    for seed in range(12):
        random = Random(seed)
        shard = open_shard(tmp_path / "shard")
        cut = random.randrange(60, 80)
        feed(shard, log[:cut])
        shard.sync()
        shutil.copytree(tmp_path / "shard", tmp_path / "synced")
        shard.compact(SHARE)
        shard.apply(log[cut : cut + 4])
        shutil.copytree(tmp_path / "shard", tmp_path / "later")
        shard.abandon()
        for n in range(3):
            target = tmp_path / f"image-{n}"
            image(tmp_path / "synced", tmp_path / "later", target, random)
            shard = open_shard(target)
            assert shard.applied_offset >= cut - 1
            shard.apply(log[shard.applied_offset + 1 :])
            settle(shard)
            hold_against(shard, Oracle().apply(log))
            shard.close()
            shutil.rmtree(target)
        for name in ("shard", "synced", "later"):
            shutil.rmtree(tmp_path / name)


# -- choosing, and the thread --------------------------------------------------------------------------------------


def test_what_is_chosen(tmp_path: Path) -> None:
    spec = SegmentSpec("g1", 0, 64, 32, bytes(16))
    segments = [Segment.create(tmp_path, spec, number) for number in range(10)]

    def living(counts: list[int]) -> list[Segment]:
        for segment, n in zip(segments, counts, strict=False):
            segment.died[:] = 5
            segment.died[:n] = 2**63 - 1
            segment._edits[0] += 1
        return segments[: len(counts)]

    def numbers(counts: list[int], share: float = SHARE) -> list[int]:
        return [segment.number for segment in choose(living(counts), spec, share)]

    assert numbers([32, 32, 32]) == []
    assert numbers([32, 25, 32]) == []
    assert numbers([32, 24, 32]) == [1]
    assert numbers([10, 10, 32, 20]) == [0, 1]
    assert numbers([16, 16, 12, 4]) == [1, 2, 3]
    assert numbers([32, 10, 12, 0]) == [1, 2, 3]
    assert numbers([12, 12, 12, 0]) == [1, 2, 3]
    assert numbers([0, 0, 0]) == [0, 1, 2]
    assert numbers([4] * 7, share=2.0) == []
    assert numbers([4] * 8, share=2.0) == list(range(8))
    assert numbers([]) == []
    for segment in segments:
        segment.close()


def test_a_thread_compacts_what_it_watches_and_lets_go_of_what_is_closed(tmp_path: Path) -> None:
    told: list[Compacted] = []
    shard = open_shard(tmp_path)
    feed(shard, churn(40, 3))
    shard.sync()
    compactor = Compactor(0.001, SHARE, told.append)
    compactor.watch(shard)
    compactor.start()
    while shard.counts()["compactions"] == 0:
        compactor._stop.wait(0.001)
    compactor.stop()
    assert sum(each.slots - each.kept for each in told) > 0
    shard.close()
    assert compactor.round() == 0
    assert compactor._shards == []


class Broken:
    """A shard whose compaction meets an error that nobody thought of."""

    closed = False

    def compact(self, dead_share: float) -> Compacted | None:
        raise RuntimeError(f"a share of {dead_share}")


def test_an_unexpected_error_in_one_shard_leaves_the_others_to_be_compacted(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    feed(shard, churn(40, 3))
    shard.sync()
    compactor = Compactor(0.001, SHARE, lambda _: None)
    compactor.watch(Broken())
    compactor.watch(shard)
    assert compactor.round() > 0
    shard.close()


def test_views_of_this_process_outlive_the_files(tmp_path: Path) -> None:
    log = churn(40, 3)
    shard = open_shard(tmp_path)
    feed(shard, log)
    view = shard._view
    assert settle(shard) > 0
    shard.sync()
    shard.compact(SHARE)
    names = files_of(tmp_path)
    assert any(segment.name.path(Path(), ".codes").name not in names for segment, _ in view.segments)
    shard.apply(log_of([(f"pin-{n}", dead(f"pin-{n}", 9)) for n in range(40)], start=len(log)))
    assert all((segment.died[:length] != 2**63 - 1).all() for segment, length in view.segments)
    shard.close()
