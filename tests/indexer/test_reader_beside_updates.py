"""Searches beside a writer that updates and deletes what they find: exact at the versions that their answers name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from indexer.answers import Query
from indexer.asks import Ask
from indexer.crew import Crew
from indexer.errors import NotInView
from indexer.follower import Followed, Follower
from indexer.partition import partition_of
from indexer.reader import _TRIES
from indexer.records_pb2 import ObjectRecord
from indexer.search import Candidates, nearest
from indexer.view import View
from tests.support.index_oracle import Oracle, dead, live, random_log
from tests.support.whole_index import PARTITIONS, Index


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    made = Index(tmp_path)
    yield made
    made.close()


def coded(pin_id: str, code: bytes, version: int = 1) -> ObjectRecord:
    """A pin without objects whose picture has this code."""
    record = live(pin_id, version, objects=0)
    record.codes[0].bits = code
    return record


class Churning:
    """A search beside which something happens each time, after the codes were looked at."""

    def __init__(self, meanwhile: Callable[[int], object]) -> None:
        self._meanwhile = meanwhile
        self.asked: list[int] = []

    def __call__(
        self, views: Sequence[View], asks: Sequence[Ask], *, crew: Crew, checkpoint: Callable[[], None]
    ) -> list[list[Candidates]]:
        found = nearest(views, asks, crew=crew, checkpoint=checkpoint)
        self.asked.append(len(asks))
        self._meanwhile(len(self.asked))
        return found


def test_a_pin_that_changes_during_every_try_is_found_and_only_its_queries_are_asked_again(index: Index) -> None:
    code, others = bytes(8), [bytes([255 - n] * 8) for n in range(5)]
    index.put(coded("busy", code))
    for n, other in enumerate(others):
        index.put(coded(f"calm-{n}", other))
    find = Churning(lambda times: index.put(coded("busy", code, times + 1)))
    reader = index.reader(find=find)
    reader.refresh()
    results = reader.search_many([Query(each, 1) for each in (*others, code)])
    assert [result.hits[0].pin_id for result in results] == [*(f"calm-{n}" for n in range(5)), "busy"]
    busy = results[-1]
    assert (busy.hits[0].distance, busy.hits[0].record.version) == (0, len(find.asked))
    assert busy.watermark == index.reader("other").refresh() | {
        partition_of(b"busy", PARTITIONS): index.offsets[partition_of(b"busy", PARTITIONS)] - 1
    }
    assert set(find.asked[1:]) == {1}


def test_a_pin_that_is_deleted_during_the_last_try_is_not_found(index: Index) -> None:
    def meanwhile(times: int) -> None:
        if times < tries:
            index.put(coded("goes", bytes(8), times + 1))
        elif times == tries:
            index.put(dead("goes", times + 1))

    tries = _TRIES + 1
    index.put(coded("goes", bytes(8)))
    index.put(coded("stays", bytes([1] * 8)))
    find = Churning(meanwhile)
    reader = index.reader(find=find)
    reader.refresh()
    assert [hit.pin_id for hit in reader.search(bytes(8), 1).hits] == ["stays"]
    assert len(find.asked) > tries


def test_segments_that_compaction_replaces_during_the_last_try_are_looked_for_again(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = Follower.committed
    failed: list[int] = []

    def once_replaced(follower: Follower) -> Followed | None:
        if not failed:
            failed.append(follower.partition)
            raise NotInView("a segment was replaced")
        return committed(follower)

    monkeypatch.setattr("indexer.reader._TRIES", 0)
    monkeypatch.setattr(Follower, "committed", once_replaced)
    index.put(coded("there", bytes(8)))
    reader = index.reader()
    reader.refresh()
    assert [hit.pin_id for hit in reader.search(bytes(8), 1).hits] == ["there"]
    assert failed


@pytest.mark.parametrize("tries", [8, 0])
def test_searches_in_threads_while_data_comes_in(index: Index, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every result of every thread is that of the versions that its watermark names, also where none of the tries
    beside the refreshing threads is left; only pins that were deleted since are not in it.
    """
    monkeypatch.setattr("indexer.reader._TRIES", tries)
    log = [logged for logged in random_log(Random(23), 400, pins=60) if logged.record is not None]
    homes = [partition_of(logged.key, PARTITIONS) for logged in log]
    for partition in range(PARTITIONS):
        index.shard(partition)
    reader = index.reader()
    reader.refresh()
    done = threading.Event()

    def ask(seed: int) -> list[tuple[bytes, dict[int, int], list[tuple[int, str, int | None]]]]:
        random = Random(seed)
        seen: list[tuple[bytes, dict[int, int], list[tuple[int, str, int | None]]]] = []
        while not done.is_set() or not seen:
            query = random.randbytes(8)
            if random.random() < 0.5:
                reader.refresh()
            result = reader.search(query, 6)
            found = [(hit.distance, hit.pin_id, hit.object_index) for hit in result.hits]
            seen.append((query, result.watermark, found))
        return seen

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask, seed) for seed in range(3)]
        try:
            for logged in log:
                assert logged.record is not None
                index.put(logged.record)
        finally:
            done.set()
        results = [one for future in asking for one in future.result(timeout=60)]
    assert len(results) >= 3
    for query, watermark, found in results:
        oracle = Oracle()
        counted = dict.fromkeys(range(PARTITIONS), -1)
        deleted: set[str] = set()
        for logged, home in zip(log, homes, strict=True):
            counted[home] += 1
            if counted[home] <= watermark[home]:
                oracle.apply([logged])
            elif logged.record is not None and logged.record.deleted:
                deleted.add(logged.key.decode())
        every = oracle.nearest(query, len(log) * 10)
        assert found == [one for one in every if one in found or one[1] not in deleted][:6]
