"""Snapshots while a writer goes on, and what becomes of them elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest

from dotstream.clock import ManualClock
from dotstream.errors import Misconfigured
from indexer.arbitration import Logged
from indexer.errors import Damaged, ForeignFormat
from indexer.follower import committed
from indexer.reader import IndexReader
from indexer.segment_format import ALIGN
from indexer.shard import Shard
from indexer.snapshot import MANIFEST, Manifest, read_manifest, restore, take
from indexer.verify import digest, verify, waiting
from tests.indexer.test_compaction import SHARE, churn, feed, settle
from tests.indexer.test_damage import flip
from tests.support.index_oracle import TOPIC, Oracle, hold_against, open_shard, random_log


def snapshot_of(home: Path, target: Path) -> Manifest:
    with committed(home, 0, ManualClock()) as version:
        return take({0: version}, target, ManualClock(), print)


def put_back(snapshot: Path, generation: Path, topic_id: str = TOPIC) -> Manifest:
    return restore(snapshot, generation, topic_id=topic_id, clock=ManualClock(), tell=print)


def finish(home: Path, log: list[Logged]) -> None:
    """Opens a restored shard, holds it against its offset, and lets it catch up."""
    shard = open_shard(home)
    hold_against(shard, Oracle().apply(log[: shard.applied_offset + 1]))
    feed(shard, log[shard.applied_offset + 1 :])
    hold_against(shard, Oracle().apply(log))
    settle(shard)
    hold_against(shard, Oracle().apply(log))
    shard.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_snapshot_of_a_shard_at_work_is_one_committed_version(tmp_path: Path, seed: int) -> None:
    """The writer commits and compacts between the moment of the snapshot and every file that is copied."""
    random = Random(seed)
    log = random_log(random, 160, pins=30)
    shard = open_shard(tmp_path / "g1" / "0")
    feed(shard, log[:90])
    if seed % 2:
        settle(shard)
    with committed(tmp_path / "g1" / "0", 0, ManualClock()) as version:
        feed(shard, log[90:130])
        settle(shard)
        shard.sync()
        shard.compact(SHARE)
        manifest = take({0: version}, tmp_path / "snapshot", ManualClock(), print)
    feed(shard, log[130:])
    shard.close()
    assert manifest.parts[0].applied == 89
    assert read_manifest(tmp_path / "snapshot") == manifest
    put_back(tmp_path / "snapshot", tmp_path / "elsewhere" / "g1")
    reader = IndexReader(tmp_path / "elsewhere" / "g1", 1, clock=ManualClock(), lease_s=9.0, name="reader")
    assert reader.refresh() == {0: 89}
    query = random.randbytes(8)
    hits = [(hit.distance, hit.pin_id, hit.object_index) for hit in reader.search(query, 20).hits]
    assert hits == Oracle().apply(log[:90]).nearest(query, 20)
    reader.close()
    finish(tmp_path / "elsewhere" / "g1" / "0", log)


def test_sealed_codes_are_linked_and_the_head_is_copied_to_its_length(tmp_path: Path) -> None:
    log = churn(40, 1)
    shard = open_shard(tmp_path / "g1" / "0")
    feed(shard, log)
    shard.sync()
    snapshot_of(tmp_path / "g1" / "0", tmp_path / "snapshot")
    names = sorted(path.name for path in (tmp_path / "snapshot" / "0" / "segments").glob("*.codes"))
    linked = [(tmp_path / "snapshot" / "0" / "segments" / name).stat().st_nlink for name in names]
    assert linked == [2] * (len(names) - 1) + [1]
    shard.close()


def test_damaged_codes_are_not_copied(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "g1" / "0")
    feed(shard, churn(40, 1))
    shard.close()
    sealed = min((tmp_path / "g1" / "0").rglob("*.codes"))
    flip(sealed, ALIGN + 3, 2)
    with pytest.raises(Damaged, match=r"partition 0 is not copied.*block 0.*index repair"):
        snapshot_of(tmp_path / "g1" / "0", tmp_path / "snapshot")
    assert not (tmp_path / "snapshot").exists(), "nothing is in the way of the next try"


def test_a_writer_that_died_inside_a_commit_is_copied_and_checked_as_committed(tmp_path: Path) -> None:
    log = churn(30, 2)

    def at(step: str) -> None:
        if step == "batch written" and shard.applied_offset >= 40:
            raise RuntimeError(step)

    shard = open_shard(tmp_path / "g1" / "0", at=at)
    with pytest.raises(RuntimeError, match="batch written"):
        feed(shard, log)
    shard.abandon()
    with committed(tmp_path / "g1" / "0", 0, ManualClock()) as version:
        reached = version.state.applied
        assert reached > 40
        assert verify(version.catalogue, version.view, version.state, waiting(version.catalogue)) == []
        assert digest(version.catalogue, version.view) == Oracle().apply(log[: reached + 1]).digest()
        take({0: version}, tmp_path / "snapshot", ManualClock(), print)
    put_back(tmp_path / "snapshot", tmp_path / "elsewhere" / "g1")
    finish(tmp_path / "elsewhere" / "g1" / "0", log)


def test_codes_that_wait_for_their_record_are_not_shared_with_the_shard(tmp_path: Path) -> None:
    """They are put back in place, which would change a snapshot that has them as a link."""
    home, log = tmp_path / "g1" / "0", churn(30, 1)
    shard = open_shard(home)
    shard.apply(log)
    shard.abandon()
    (codes,) = home.glob("v-*/segments/00000000.codes")
    codes.chmod(0o644)
    with codes.open("r+b") as file:
        file.seek(ALIGN)
        file.write(bytes(8))
    shard = open_shard(home)
    assert shard.damaged_slots == 1
    snapshot_of(home, tmp_path / "snapshot")
    feed(shard, log[shard.applied_offset + 1 :])
    assert shard.damaged_slots == 0
    shard.close()
    put_back(tmp_path / "snapshot", tmp_path / "elsewhere" / "g1")
    shard = open_shard(tmp_path / "elsewhere" / "g1" / "0")
    assert shard.damaged_slots == 1
    feed(shard, log[shard.applied_offset + 1 :])
    hold_against(shard, Oracle().apply(log))
    shard.close()


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    shard: Shard = open_shard(tmp_path / "g1" / "0")
    feed(shard, churn(30, 2))
    shard.close()
    snapshot_of(tmp_path / "g1" / "0", tmp_path / "snapshot")
    return tmp_path / "snapshot"


def test_what_does_not_fit_is_refused(snapshot: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(Misconfigured, match="generation 'g1', not 'g2'"):
        put_back(snapshot, elsewhere / "g2")
    with pytest.raises(Misconfigured, match="reflects topic topic-1"):
        put_back(snapshot, elsewhere / "g1", topic_id="topic-2")
    with pytest.raises(Misconfigured, match="is in use"):
        put_back(snapshot, tmp_path / "g1")
    with pytest.raises(Misconfigured, match="is not empty"):
        snapshot_of(tmp_path / "g1" / "0", snapshot)
    with pytest.raises(Misconfigured, match="no shard"), committed(elsewhere / "g1" / "0", 0, ManualClock()):
        pass
    text = (snapshot / MANIFEST).read_text()
    (snapshot / MANIFEST).write_text(text.replace('"format": 2', '"format": 1'))
    with pytest.raises(ForeignFormat, match="format 1"):
        put_back(snapshot, elsewhere / "g1")
    (snapshot / MANIFEST).write_text(text.replace('"format": 1', '"format": 7', 1))
    with pytest.raises(ForeignFormat, match="another format"):
        put_back(snapshot, elsewhere / "g1")
    for wrong in ("", "[]", "{}", json.dumps({"format": 1, "parts": [{}]})):
        (snapshot / MANIFEST).write_text(wrong)
        with pytest.raises(Misconfigured, match="no manifest"):
            put_back(snapshot, elsewhere / "g1")
    (snapshot / MANIFEST).unlink()
    with pytest.raises(Misconfigured, match="was not finished"):
        put_back(snapshot, elsewhere / "g1")
    assert not list((elsewhere / "g1").glob("*/CURRENT"))


def test_damage_in_any_file_is_found_before_anything_is_in_place(snapshot: Path, tmp_path: Path) -> None:
    for name in read_manifest(snapshot).parts[0].files:
        path = snapshot / name
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(Damaged, match="missing"):
            put_back(snapshot, tmp_path / "elsewhere" / "g1")
        if whole:
            path.write_bytes(whole[:-1] + bytes((whole[-1] ^ 1,)))
            with pytest.raises(Damaged, match="not what the manifest says"):
                put_back(snapshot, tmp_path / "elsewhere" / "g1")
        path.write_bytes(whole)
        assert not (tmp_path / "elsewhere" / "g1" / "0" / "CURRENT").exists()
    put_back(snapshot, tmp_path / "elsewhere" / "g1")
    finish(tmp_path / "elsewhere" / "g1" / "0", churn(30, 2))


def test_damage_in_one_partition_puts_none_in_place(tmp_path: Path) -> None:
    for number in range(2):
        open_shard(tmp_path / "g1" / str(number), partition=number).close()
    with (
        committed(tmp_path / "g1" / "0", 0, ManualClock()) as first,
        committed(tmp_path / "g1" / "1", 1, ManualClock()) as second,
    ):
        manifest = take({0: first, 1: second}, tmp_path / "snapshot", ManualClock(), print)
    path = tmp_path / "snapshot" / next(name for name in manifest.parts[1].files if name.endswith(".codes"))
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(Damaged):
        put_back(tmp_path / "snapshot", tmp_path / "elsewhere" / "g1")
    assert not list((tmp_path / "elsewhere" / "g1").glob("*/CURRENT"))
    path.write_bytes(whole)
    put_back(tmp_path / "snapshot", tmp_path / "elsewhere" / "g1")
    for number in range(2):
        assert len(list((tmp_path / "elsewhere" / "g1" / str(number)).glob("v-*"))) == 1
        open_shard(tmp_path / "elsewhere" / "g1" / str(number), partition=number).close()


def test_a_snapshot_does_not_change_with_the_shard(tmp_path: Path) -> None:
    log = churn(30, 4)
    shard = open_shard(tmp_path / "g1" / "0")
    feed(shard, log[:60])
    shard.sync()
    snapshot_of(tmp_path / "g1" / "0", tmp_path / "snapshot")
    feed(shard, log[60:])
    settle(shard)
    shard.close()
    shutil.rmtree(tmp_path / "g1")
    put_back(tmp_path / "snapshot", tmp_path / "g1")
    finish(tmp_path / "g1" / "0", log)
