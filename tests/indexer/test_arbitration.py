"""Arbitration: which pins are pending, what is published again, and when a delete may be forgotten."""

from __future__ import annotations

from pathlib import Path

from indexer.records import order_of
from tests.support.index_oracle import dead, live, log_of, open_shard

HOUR_MS = 3_600_000


def test_a_stale_record_makes_its_pin_pending_until_the_winner_is_read_again(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    winner = live("a", 3)
    shard.apply(log_of([("a", winner), ("a", live("a", 1))]))
    assert shard.pending() == [("a", winner)]
    shard.published("a", order_of(winner))
    assert shard.pending() == []  # one in flight
    shard.apply(log_of([("a", live("a", 2))], start=2))
    assert shard.pending() == []  # still the same flight
    shard.apply(log_of([("a", winner)], start=3))
    assert shard.pending() == []  # read: settled
    shard.apply(log_of([("a", live("a", 2))], start=4))
    assert shard.pending() == [("a", winner)]
    shard.close()


def test_an_aborted_publication_is_due_again_and_a_restart_forgets_flights(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    winner = live("a", 3)
    shard.apply(log_of([("a", winner), ("a", live("a", 1))]))
    shard.published("a", order_of(winner))
    shard.not_published("a")
    assert shard.pending() == [("a", winner)]
    shard.published("a", order_of(winner))
    shard.abandon()
    shard = open_shard(tmp_path)
    assert shard.pending() == [("a", winner)]
    shard.close()


def test_a_newer_record_in_mid_flight_wins_and_the_late_copy_is_stale(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    old, new = live("a", 3), live("a", 4)
    shard.apply(log_of([("a", old), ("a", live("a", 1))]))
    shard.published("a", order_of(old))
    shard.apply(log_of([("a", new)], start=2))
    assert shard.pending() == []
    shard.apply(log_of([("a", old)], start=3))
    assert shard.pending() == [("a", new)]
    shard.close()


def test_pending_pins_come_in_portions(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    names = [f"pin-{n}" for n in range(7)]
    shard.apply(log_of([(name, live(name, 2)) for name in names] + [(name, live(name, 1)) for name in names]))
    assert len(shard.pending()) == 7
    assert len(shard.pending(limit=3)) == 3
    shard.close()


def test_a_null_over_a_live_pin_is_stale(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    record = live("a")
    applied = shard.apply(log_of([("a", record), ("a", None), ("unknown", None)]))
    assert (applied.live, applied.stale, applied.forgotten) == (1, 1, 0)
    assert shard.pending() == [("a", record)]
    shard.close()


def test_deletes_are_due_for_a_null_after_their_retention(tmp_path: Path) -> None:
    shard = open_shard(tmp_path, null_retention_ms=HOUR_MS)
    shard.apply(log_of([("a", dead("a")), ("b", dead("b")), ("c", live("c")), ("d", dead("d", 9))]))
    shard.apply(log_of([("d", live("d", 2))], start=4))  # d is pending: its delete must be logged again first
    assert shard.due_nulls(HOUR_MS, HOUR_MS) == []
    assert shard.due_nulls(HOUR_MS + 1, HOUR_MS) == ["a"]
    assert shard.due_nulls(3 * HOUR_MS, HOUR_MS) == ["a", "b"]
    assert shard.due_nulls(3 * HOUR_MS, HOUR_MS, limit=1) == ["a"]
    shard.published("a", None)
    assert shard.due_nulls(3 * HOUR_MS, HOUR_MS) == ["b"]
    shard.not_published("a")
    assert shard.due_nulls(3 * HOUR_MS, HOUR_MS) == ["a", "b"]
    shard.close()


def test_a_null_lets_go_of_a_delete_only_after_the_retention(tmp_path: Path) -> None:
    shard = open_shard(tmp_path, null_retention_ms=5_000)
    early = shard.apply(log_of([("a", dead("a", 2)), ("a", None)]))
    assert (early.stale, early.forgotten) == (1, 0)
    assert [pin_id for pin_id, _ in shard.pending()] == ["a"]
    late = shard.apply(log_of([("a", None)], start=5))
    assert late.forgotten == 1
    assert shard.pin("a") is None
    assert shard.pending() == []
    assert shard.counts()["deleted_pins"] == 0
    shard.close()


def test_a_create_after_a_forgotten_delete_stands(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    record = live("a")
    shard.apply(log_of([("a", dead("a", 5)), ("a", None), ("a", record)]))
    entry = shard.pin("a")
    assert entry is not None
    assert entry.record == record
    shard.close()
