"""What a shard holds after any log, in any batches, with restarts in between: the same as a dictionary."""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.arbitration import Logged
from indexer.shard import Shard
from tests.support.index_oracle import Oracle, dead, hold_against, live, log_of, open_shard, random_log

EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def batches(log: list[Logged], random: Random, most: int = 9) -> list[list[Logged]]:
    found = []
    at = 0
    while at < len(log):
        size = random.randint(1, most)
        found.append(log[at : at + size])
        at += size
    return found


@EXAMPLES
@given(st.integers(0, 2**32), st.integers(0, 40))
def test_any_log_in_any_batches_with_restarts(seed: int, length: int) -> None:
    random = Random(seed)
    log = random_log(random, length)
    with TemporaryDirectory() as folder:
        shard = open_shard(Path(folder))
        for batch in batches(log, random):
            shard.apply(batch)
            action = random.random()
            if action < 0.15:
                shard.close()
                shard = open_shard(Path(folder))
            elif action < 0.3:
                shard.abandon()
                shard = open_shard(Path(folder))
            elif action < 0.5:
                shard.sync()
            assert shard.applied_offset == batch[-1].offset
        hold_against(shard, Oracle().apply(log))
        shard.close()


@EXAMPLES
@given(st.integers(0, 2**32))
def test_any_order_and_repetition_of_records_ends_the_same(seed: int) -> None:
    random = Random(seed)
    records = [(logged.key.decode(), logged.record) for logged in random_log(random, 20) if logged.record is not None]
    digests = set()
    for _ in range(3):
        again = random.choices(records, k=5) + records
        random.shuffle(again)
        with TemporaryDirectory() as folder:
            shard = open_shard(Path(folder))
            for batch in batches(log_of(again), random, 30):
                shard.apply(batch)
            digests.add(shard.digest())
            shard.close()
    assert len(digests) == 1


def test_a_late_older_event_does_not_bring_a_deleted_pin_back(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    shard.apply(log_of([("never-seen", dead("never-seen", 5))]))
    applied = shard.apply(log_of([("never-seen", live("never-seen", 4))], start=1))
    assert (applied.stale, applied.live) == (1, 0)
    entry = shard.pin("never-seen")
    assert entry is not None
    assert entry.record.deleted
    assert shard.counts()["codes"] == 0
    shard.close()


def test_the_same_record_again_changes_nothing(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    record = live("a")
    shard.apply(log_of([("a", record)]))
    before = shard.pin("a")
    applied = shard.apply(log_of([("a", record), ("a", record)], start=5))
    assert (applied.repeated, applied.live, applied.offset) == (2, 0, 6)
    assert shard.pin("a") == before
    shard.close()


def test_what_was_applied_is_skipped(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    log = log_of([("a", live("a")), ("b", live("b")), ("c", live("c"))])
    assert shard.apply(log[:2]).skipped == 0
    applied = shard.apply(log)
    assert (applied.skipped, applied.live, applied.offset) == (2, 1, 2)
    assert shard.apply([]).offset == 2
    shard.advance(10)
    shard.advance(4)
    assert shard.applied_offset == 10
    shard.close()
    shard = open_shard(tmp_path)
    assert (shard.applied_offset, shard.durable_offset) == (10, 10)
    shard.close()


def test_offsets_must_ascend(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    log = log_of([("a", live("a")), ("b", live("b"))])
    with pytest.raises(ValueError, match="comes behind"):
        shard.apply(log[::-1])
    shard.apply(log)
    shard.close()


def test_a_record_over_many_segments(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    log = log_of([("big", live("big", objects=70)), ("small", live("small"))])
    shard.apply(log)
    assert shard.counts()["segments"] == 5
    hold_against(shard, Oracle().apply(log))
    shard.apply(log_of([("big", dead("big", 2))], start=2))
    shard.close()
    shard = open_shard(tmp_path)
    hold_against(shard, Oracle().apply([*log, *log_of([("big", dead("big", 2))], start=2)]))
    shard.close()


def test_unknown_fields_of_a_later_schema_are_kept(tmp_path: Path) -> None:
    record = live("a")
    record.MergeFromString(b"\xfa\x3e\x03xyz")
    shard = open_shard(tmp_path)
    shard.apply(log_of([("a", record)]))
    entry = shard.pin("a")
    assert entry is not None
    assert entry.record.SerializeToString(deterministic=True) == record.SerializeToString(deterministic=True)
    shard.close()


def take(shard: Shard, pin_id: str) -> bool:
    entry = shard.pin(pin_id)
    return entry is not None and not entry.record.deleted


def test_every_update_frees_what_it_replaces(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    log = log_of([("a", live("a", version, objects=version % 3)) for version in range(1, 30)])
    for logged in log:
        shard.apply([logged])
    assert take(shard, "a")
    hold_against(shard, Oracle().apply(log))
    shard.close()
