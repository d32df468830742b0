"""Readers: all partitions together, whatever the writers are doing, and leases that a takedown can rely on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from dotstream.clock import ManualClock
from indexer.arbitration import Logged
from indexer.errors import Closed, Damaged, ForeignFormat, LeaseExpired, LockHeld, SearchTimeout
from indexer.folder import CURRENT
from indexer.follower import Follower
from indexer.leases import LeaseFile, read_leases
from indexer.partition import partition_of
from indexer.reader import IndexReader, IndexSize
from tests.support.index_oracle import GENERATION, dead, live, open_shard, random_log
from tests.support.whole_index import LEASE_S, PARTITIONS, Index


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    made = Index(tmp_path)
    yield made
    made.close()


class Slow(ManualClock):
    """A millisecond passes with each look at it."""

    def monotonic(self) -> float:
        self.sleep(0.001)
        return super().monotonic()


def answers(reader: IndexReader, query: bytes, k: int = 10) -> list[tuple[int, str, int | None]]:
    return [(hit.distance, hit.pin_id, hit.object_index) for hit in reader.search(query, k).hits]


def test_a_reader_may_come_before_the_index(index: Index) -> None:
    reader = index.reader()
    assert reader.refresh() == {0: -1, 1: -1, 2: -1}
    assert reader.size() == IndexSize(0, 0, 0, 0, 0)
    assert (reader.pin("a"), reader.newest(5), answers(reader, bytes(8))) == (None, [], [])
    assert reader.document_frequency(["red"]) == (0, {})
    index.put(live("a"))
    reader.refresh()
    assert reader.pin("a") is not None
    assert reader.generation == GENERATION


def test_partitions_are_merged(index: Index) -> None:
    reader = index.reader()
    for logged in random_log(Random(21), 120, pins=40):
        if logged.record is not None:
            index.put(logged.record)
    assert reader.refresh() == index.offsets == reader.watermark
    random = Random(22)
    for _ in range(10):
        query = random.randbytes(8)
        assert answers(reader, query, 25) == index.oracle.nearest(query, 25)
    counts = index.oracle.counts()
    assert reader.size() == IndexSize(
        counts["live_pins"], counts["deleted_pins"], counts["objects"], counts["codes"], counts["documents"]
    )
    words = ["red", "green", "blue", "oak", "steel", "absent"]
    documents, frequencies = reader.document_frequency(words)
    expected = index.oracle.frequencies()
    assert (documents, dict(frequencies)) == (counts["documents"], {word: expected[word] for word in words})
    for pin_id, (_, record, _) in index.oracle.winners.items():
        entry = reader.pin(pin_id)
        assert entry is not None
        assert reader.at_hand(pin_id) == entry
        assert (entry.record, entry.partition) == (record, partition_of(pin_id.encode(), PARTITIONS))
        assert record.deleted or reader.pins_with(record.image_sha256) == [pin_id]


def test_newest_pins_come_in_pages(index: Index) -> None:
    reader = index.reader()
    for n in range(20):
        index.put(live(f"pin-{n:02d}", recorded_at=1_000 + n // 2))
    index.put(dead("pin-19", 2))
    reader.refresh()
    expected = sorted(((1_000 + n // 2, f"pin-{n:02d}") for n in range(19)), reverse=True)
    seen: list[tuple[int, str]] = []
    while page := reader.newest(4, seen[-1] if seen else None):
        seen += [(entry.record.recorded_at, entry.record.pin_id) for entry in page]
    assert seen == reader.newest_places(100) == expected
    assert reader.newest_places(3) == expected[:3]


def test_a_reader_sees_what_it_last_refreshed_to(index: Index) -> None:
    reader = index.reader()
    index.put(live("a"))
    reader.refresh()
    index.put(live("b"))
    assert {pin_id for _, pin_id, _ in answers(reader, bytes(8))} == {"a"}
    reader.refresh()
    assert {pin_id for _, pin_id, _ in answers(reader, bytes(8))} == {"a", "b"}


def test_a_delete_after_the_refresh_is_in_no_answer(index: Index) -> None:
    reader = index.reader()
    for n in range(8):
        index.put(live(f"pin-{n}"))
    reader.refresh()
    index.put(dead("pin-3", 2))
    index.put(live("pin-4", 2))
    found = reader.search(bytes(8), 100)
    assert "pin-3" not in {hit.pin_id for hit in found.hits}
    assert [(hit.distance, hit.pin_id, hit.object_index) for hit in found.hits] == index.oracle.nearest(bytes(8), 100)
    assert found.watermark == index.offsets


def test_heads_are_sealed_while_a_reader_has_them_open(index: Index) -> None:
    reader = index.reader()
    for n in range(40):
        index.put(live(f"pin-{n}", objects=2))
        reader.refresh()
        assert answers(reader, bytes(8), 7) == index.oracle.nearest(bytes(8), 7)
    assert max(shard.counts()["segments"] for shard in index.shards.values()) > 1


def test_a_writer_restarts_under_a_reader(index: Index) -> None:
    reader = index.reader()
    for n in range(30):
        index.put(live(f"pin-{n}"))
        reader.refresh()
        if n % 5 == 0:
            shard = index.shards.pop(partition_of(f"pin-{n}".encode(), PARTITIONS))
            shard.abandon() if n % 2 else shard.close()
        assert answers(reader, bytes(8), 5) == index.oracle.nearest(bytes(8), 5)


def test_a_folder_is_replaced_under_a_reader(index: Index) -> None:
    reader = index.reader()
    index.put(live("a"))
    partition = partition_of(b"a", PARTITIONS)
    reader.refresh()
    index.shards.pop(partition).close()
    rebuilt = index.shard(partition, rebuild=True, topic_id="topic-2")
    rebuilt.apply([Logged(0, b"a", live("a", 2), 0)])
    reader.refresh()
    entry = reader.pin("a")
    assert entry is not None
    assert entry.record.version == 1
    rebuilt.promote()
    reader.refresh()
    entry = reader.pin("a")
    assert entry is not None
    assert entry.record.version == 2
    assert len(answers(reader, bytes(8))) == 2


def test_a_damaged_or_foreign_partition_has_a_name(index: Index) -> None:
    index.put(live("a"))
    partition = partition_of(b"a", PARTITIONS)
    home = index.folder / str(partition)
    pointer = (home / CURRENT).read_text()
    reader = index.reader()
    (home / CURRENT).write_text("v-absent")
    with pytest.raises(Damaged):
        reader.refresh()
    (home / CURRENT).write_text(pointer)
    reader.refresh()
    assert reader.pin("a") is not None
    other = (partition + 1) % PARTITIONS
    open_shard(index.folder / str(other), partition=other, bits=128).close()
    with pytest.raises(ForeignFormat):
        reader.refresh()


def test_filters_and_limits_reach_the_search(index: Index) -> None:
    reader = index.reader()
    record = live("a", objects=2)
    index.put(record)
    index.put(live("b"))
    reader.refresh()
    query = record.codes[0].bits
    assert {hit.pin_id for hit in reader.search(query, 9, exclude_pins=frozenset("a")).hits} == {"b"}
    assert {hit.pin_id for hit in reader.search(query, 9, exclude_sha256=frozenset([record.image_sha256])).hits} == {
        "b"
    }
    assert all(hit.object_index is not None for hit in reader.search(query, 9, scope="objects").hits)
    with pytest.raises(ValueError, match="the index has"):
        reader.search(query * 2, 9)
    slow = index.reader("slow", Slow())
    slow.refresh()
    with pytest.raises(SearchTimeout):
        slow.search(query, 9, limit_s=0.0015)


# Leases.


def test_a_reader_whose_lease_ran_out_refuses_until_it_is_refreshed(index: Index) -> None:
    reader = index.reader()
    asks = (
        *(lambda: reader.search(bytes(8), 1), lambda: reader.pin("a"), lambda: reader.at_hand("a")),
        *(lambda: reader.newest(1), reader.size),
    )
    for ask in asks:
        with pytest.raises(LeaseExpired):
            ask()
    index.put(live("a"))
    reader.refresh()
    index.clock.sleep(LEASE_S - 0.001)
    assert reader.pin("a") is not None
    index.clock.sleep(0.001)
    with pytest.raises(LeaseExpired):
        reader.pin("a")
    reader.refresh()
    assert reader.pin("a") is not None


def test_refreshing_keeps_a_lease_alive(index: Index) -> None:
    reader = index.reader()
    index.put(live("a"))
    for _ in range(50):
        reader.refresh()
        index.clock.sleep(LEASE_S / 5)
        assert reader.pin("a") is not None


def test_a_takedown_waits_for_durability_and_for_every_leased_reader(index: Index) -> None:
    taking, idle = index.reader("taking"), index.reader("idle")
    index.put(live("a"))
    idle.refresh()
    assert not taking.takedown_complete(["a"])  # live
    assert not taking.takedown_complete(["unknown"])
    index.put(dead("a", 2**63 - 1))
    assert not taking.takedown_complete(["a"])  # not durable
    index.sync()
    assert not taking.takedown_complete(["a"])  # the idle reader may still answer from before
    idle.refresh()
    assert taking.takedown_complete(["a"])
    assert not taking.takedown_complete(["a", "unknown"])
    index.put(live("b"))
    idle.refresh()
    index.put(dead("b", 2))
    index.sync()
    assert not taking.takedown_complete(["b"])
    index.clock.sleep(LEASE_S)  # the idle reader's lease runs out: it refuses to answer
    assert taking.takedown_complete(["a", "b"])
    with pytest.raises(LeaseExpired):
        idle.search(bytes(8), 5)


def test_a_takedown_waits_for_a_reader_that_is_just_coming_back(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease stands before it reads the pages, so that what it reads is either new or waited for."""
    taking, lapsed = index.reader("taking"), index.reader("lapsed")
    index.put(live("a"))
    lapsed.refresh()
    index.clock.sleep(LEASE_S)
    index.put(dead("a", 2))
    index.sync()
    complete: list[bool] = []

    def refresh(follower: Follower) -> None:
        monkeypatch.undo()
        complete.append(taking.takedown_complete(["a"]))
        follower.refresh()

    monkeypatch.setattr(Follower, "refresh", refresh)
    lapsed.refresh()
    assert complete == [False]
    assert taking.takedown_complete(["a"])


def test_a_takedown_does_not_wait_for_a_closed_reader(index: Index) -> None:
    taking, closing = index.reader("taking"), index.reader("closing")
    index.put(live("a"))
    closing.refresh()
    index.put(dead("a", 2))
    index.sync()
    assert not taking.takedown_complete(["a"])
    closing.close()
    index.readers.remove(closing)
    assert taking.takedown_complete(["a"])


def test_names_of_readers_are_unique_and_left_overs_are_cleared(index: Index, tmp_path: Path) -> None:
    index.reader("api-1")
    with pytest.raises(LockHeld):
        index.reader("api-1")
    for wrong in ("", "a/b", "../up", "x" * 101):
        with pytest.raises(ValueError, match="reader's name"):
            index.reader(wrong)
    killed = LeaseFile(index.folder, "killed", index.clock)
    killed.renew(1e9, {0: (bytes(16), 5)})
    killed._lock.release()  # what the system does for a killed process
    assert "killed" in {lease.name for lease in read_leases(index.folder)}
    index.reader("next")
    assert "killed" not in {lease.name for lease in read_leases(index.folder)}
    killed._page.close()


def test_leases_of_another_boot_or_of_another_folder(index: Index) -> None:
    file = LeaseFile(index.folder, "one", index.clock)
    file.renew(100.0, {0: (b"i" * 16, 7)})
    (lease,) = read_leases(index.folder)
    boot = lease.boot
    assert lease.passed(0, b"i" * 16, 7, 0.0, boot)
    assert not lease.passed(0, b"i" * 16, 8, 0.0, boot)
    assert not lease.passed(0, b"j" * 16, 1, 0.0, boot)
    assert not lease.passed(1, b"i" * 16, 1, 0.0, boot)
    assert lease.passed(0, b"i" * 16, 8, 100.0, boot)
    assert lease.passed(0, b"i" * 16, 8, 0.0, b"another boot....")
    file.close()
    assert read_leases(index.folder) == []


def test_a_closed_reader_refuses(index: Index) -> None:
    reader = index.reader()
    index.put(live("a"))
    reader.refresh()
    reader.close()
    index.readers.remove(reader)
    for ask in (lambda: reader.pin("a"), lambda: reader.search(bytes(8), 1), reader.refresh, reader.keep):
        with pytest.raises(Closed, match="open it again"):
            ask()


# A writer that dies.


@pytest.mark.parametrize("step", ["codes written", "batch written", "deaths stored", "page published"])
def test_a_writer_dies_inside_a_commit_under_a_reader(index: Index, step: str) -> None:
    """Before its commit point the reader stays where it was; behind it, it goes on once the writer is back."""
    reader = index.reader()
    stopping = False

    def at(name: str) -> None:
        if stopping and name == step:
            raise KeyboardInterrupt(name)

    partition = partition_of(b"a", PARTITIONS)
    index.shard(partition, at=at)
    index.put(live("a"))
    reader.refresh()
    stopping = True
    with pytest.raises(KeyboardInterrupt):
        index.shards[partition].apply([Logged(1, b"a", live("a", 2), 0)])
    index.shards.pop(partition).abandon()
    stopping = False
    reader.refresh()
    entry = reader.pin("a")
    assert entry is not None
    assert entry.record.version == (2 if step == "page published" else 1)
    # Codes of a version whose page was not published are not searched; the old ones may have lost their pin already.
    assert {hit.record.version for hit in reader.search(bytes(8), 9).hits} <= {entry.record.version}
    index.shard(partition)
    reader.refresh()
    committed = 1 if step == "codes written" else 2
    assert {hit.record.version for hit in reader.search(bytes(8), 9).hits} == {committed}
