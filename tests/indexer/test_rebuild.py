"""Another log, another writer, another format: a named error, and never a deletion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dotstream.clock import ManualClock
from dotstream.errors import Poison, Retryable
from indexer.catalogue import Catalogue
from indexer.errors import Damaged, ForeignFormat, LockHeld, NeedsRebuild, Superseded
from indexer.folder import CURRENT, named
from tests.support.index_oracle import Oracle, dead, hold_against, live, log_of, open_shard

DAY_MS = 86_400_000
LOG = log_of([("a", live("a")), ("b", live("b")), ("c", dead("c"))])


def test_another_topic_needs_a_rebuild_that_readers_see_only_once_it_is_in_place(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    shard.apply(LOG)
    shard.close()
    before = named(tmp_path, CURRENT)
    with pytest.raises(NeedsRebuild, match="topic"):
        open_shard(tmp_path, topic_id="topic-2")
    shard = open_shard(tmp_path, topic_id="topic-2", rebuild=True)
    shard.apply(LOG[:1])
    shard.close()
    assert named(tmp_path, CURRENT) == before
    shard = open_shard(tmp_path, topic_id="topic-2", rebuild=True)  # taken up again
    assert shard.applied_offset == 0
    shard.apply(LOG[1:])
    shard.promote()
    assert named(tmp_path, CURRENT) != before
    hold_against(shard, Oracle().apply(LOG))
    shard.close()


def test_a_rebuild_begun_for_a_topic_that_is_gone_starts_anew(tmp_path: Path) -> None:
    shard = open_shard(tmp_path, topic_id="topic-2", rebuild=True)
    shard.apply(LOG)
    shard.close()
    shard = open_shard(tmp_path, topic_id="topic-3", rebuild=True)
    assert shard.applied_offset == -1
    shard.close()


def test_offsets_past_the_end_of_the_log_need_a_rebuild(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    shard.apply(LOG)
    shard.check_log_end(3)
    with pytest.raises(NeedsRebuild, match="ends before 2"):
        shard.check_log_end(2)
    shard.close()


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_shard_that_was_away_for_longer_than_deletes_are_remembered_starts_anew(
    tmp_path: Path, rebuild: bool
) -> None:
    clock = ManualClock()
    shard = open_shard(tmp_path, clock=clock, null_retention_ms=DAY_MS, rebuild=rebuild)
    shard.apply(LOG)
    clock.sleep(20 * 3600)
    shard.note_level()
    shard.close()
    clock.sleep(20 * 3600)  # away, but for less than a day since it was level
    shard = open_shard(tmp_path, clock=clock, null_retention_ms=DAY_MS, rebuild=rebuild)
    assert shard.applied_offset == 2
    shard.close()
    clock.sleep(5 * 3600)
    if not rebuild:
        with pytest.raises(NeedsRebuild, match="away"):
            open_shard(tmp_path, clock=clock, null_retention_ms=DAY_MS)
        open_shard(tmp_path, clock=clock).close()  # where deletes are remembered for ever it may be away
    shard = open_shard(tmp_path, clock=clock, null_retention_ms=DAY_MS, rebuild=True)
    assert shard.applied_offset == -1
    shard.close()


def test_two_writers_of_one_folder(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    clock = ManualClock()
    with pytest.raises(LockHeld, match="held by another"):
        open_shard(tmp_path, clock=clock, lock_limit_s=3.0)
    assert clock.monotonic() >= 3.0
    shard.close()
    open_shard(tmp_path).close()


def test_a_writer_whose_folder_was_replaced_stops_answering(tmp_path: Path) -> None:
    stalled = open_shard(tmp_path)
    stalled.apply(LOG)
    other = open_shard(tmp_path, rebuild=True)
    other.apply(LOG[:2])
    other.promote()
    with pytest.raises(Superseded):
        stalled.apply(log_of([("d", live("d"))], start=3))
    with pytest.raises(Retryable):
        stalled.sync()
    stalled.close()
    hold_against(other, Oracle().apply(LOG[:2]))
    other.close()


@pytest.mark.parametrize(
    "other", [{"bits": 128}, {"feature": "other@1"}, {"generation": "g2"}, {"partition": 1}], ids=str
)
def test_a_folder_made_for_something_else_is_refused_and_kept(tmp_path: Path, other: dict[str, Any]) -> None:
    shard = open_shard(tmp_path)
    shard.apply(LOG)
    shard.close()
    with pytest.raises(ForeignFormat, match="made for"):
        open_shard(tmp_path, **other)
    shard = open_shard(tmp_path)
    hold_against(shard, Oracle().apply(LOG))
    shard.close()


@pytest.mark.parametrize("identity", [b"", b"[]", b"{}", b'{"format": 1}', b'{"format": 2}', b"\xff"])
def test_an_identity_of_another_format_is_refused(tmp_path: Path, identity: bytes) -> None:
    open_shard(tmp_path).close()
    version = named(tmp_path, CURRENT)
    assert version is not None
    catalogue = Catalogue(version / "catalogue")
    batch = catalogue.batch()
    batch.put("meta", b"format", identity)
    catalogue.write(batch)
    catalogue.close()
    for _ in range(2):
        with pytest.raises(ForeignFormat):
            open_shard(tmp_path)
    assert version.is_dir()


def test_a_segment_size_is_the_folders_own(tmp_path: Path) -> None:
    open_shard(tmp_path, segment_slots=16).close()
    shard = open_shard(tmp_path, segment_slots=4096)
    shard.apply(log_of([("big", live("big", objects=40))]))
    assert shard.counts()["segments"] == 3
    shard.close()


@pytest.mark.parametrize("content", [b"", b"v-none\n", b"../elsewhere\n", b"\xff\xfe"])
def test_a_pointer_that_names_nothing_is_damaged(tmp_path: Path, content: bytes) -> None:
    shard = open_shard(tmp_path)
    shard.apply(LOG)
    shard.close()
    kept = named(tmp_path, CURRENT)
    (tmp_path / CURRENT).write_bytes(content)
    with pytest.raises(Damaged):
        open_shard(tmp_path)
    assert kept is not None
    assert json.loads(json.dumps(sorted(path.name for path in kept.iterdir())))  # nothing was cleared away


def test_records_that_do_not_belong_are_refused_and_nothing_is_applied(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    strange = live("a")
    strange.generation = "g2"
    narrow = live("a", bits=32)
    for record, reason in ((strange, "wrong_generation"), (narrow, "wrong_bits"), (live("b"), "key_mismatch")):
        with pytest.raises(Poison) as caught:
            shard.apply(log_of([("ok", live("ok")), ("a", record)]))
        assert caught.value.reason == reason
    assert shard.applied_offset == -1
    shard.apply(LOG)
    hold_against(shard, Oracle().apply(LOG))
    shard.close()


def test_a_closed_shard_refuses(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    shard.close()
    shard.close()
    with pytest.raises(Retryable, match="open it again"):
        shard.apply(LOG)
