"""Power losses: what was not synced is lost, reordered or torn, and the log makes the shard whole again.

The disk's image after a loss is made from two copies of the folder, one taken right after a sync and one later: of each
512-byte sector that was written through a map in between, either content may be there; RocksDB's log, which is only
appended to, ends anywhere behind the synced length, with or without torn sectors.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from random import Random

import pytest

from dotstream.clock import ManualClock
from dotstream.errors import Retryable
from indexer.answers import Query
from indexer.arbitration import Logged
from indexer.errors import DiskFull
from indexer.records import searched_codes
from indexer.records_pb2 import ObjectRecord
from indexer.segments import ALIGN
from indexer.shard import Shard
from tests.support.index_oracle import Oracle, hold_against, live, log_of, open_shard, random_log

SECTOR = 512
IMAGES = 60


def image(synced: Path, later: Path, target: Path, random: Random) -> None:
    """A folder as a power loss may leave it."""
    shutil.copytree(later, target)
    for path in later.rglob("*"):
        before = synced / path.relative_to(later)
        if not path.is_file() or not before.is_file():
            continue
        old, new = before.read_bytes(), path.read_bytes()
        if old == new:
            continue
        found = target / path.relative_to(later)
        found.chmod(0o644)
        found.write_bytes(_torn_log(old, new, random) if path.suffix == ".log" else _mixed(old, new, random))


def _mixed(old: bytes, new: bytes, random: Random) -> bytes:
    kept = bytearray(new)
    losses = random.choice((0.1, 0.5, 0.9))
    for at in range(0, len(new), SECTOR):
        if old[at : at + SECTOR] != new[at : at + SECTOR] and random.random() < losses:
            kept[at : at + SECTOR] = old[at : at + SECTOR]
    return bytes(kept)


def _torn_log(old: bytes, new: bytes, random: Random) -> bytes:
    if not new.startswith(old):
        return new
    kept = bytearray(new[: random.choice((len(new), random.randint(len(old), len(new))))])
    for at in range(-(-len(old) // SECTOR) * SECTOR, len(kept), SECTOR):
        if random.random() < 0.1:
            kept[at : at + SECTOR] = bytes(len(kept[at : at + SECTOR]))
    return bytes(kept)


class Syncs:
    """Follows what a seal and a new segment sync by themselves, into the copy of what is on the disk for certain."""

    def __init__(self, shard: Path, synced: Path) -> None:
        self._shard, self._synced = shard, synced
        self.begun = False

    def __call__(self, step: str) -> None:
        if self.begun and step in {"sealed", "segment made"}:
            (folder,) = self._shard.glob("v-*/segments")
            for path in sorted(folder.iterdir())[-2:]:
                target = self._synced / path.relative_to(self._shard)
                shutil.copy(path, target)
                target.chmod(0o644)
                if step == "segment made":  # only headers were synced
                    target.write_bytes(target.read_bytes()[:ALIGN].ljust(target.stat().st_size, b"\x00"))


def live_life(tmp_path: Path, random: Random) -> tuple[list[Logged], int]:
    """Copies `synced` and `later` of a shard that is fed on after its last sync."""
    log = random_log(random, 60, pins=12)
    cut = random.randint(0, 40)
    syncs = Syncs(tmp_path / "shard", tmp_path / "synced")
    shard = open_shard(tmp_path / "shard", at=syncs)
    for at in range(0, cut, 5):
        shard.apply(log[at : min(at + 5, cut)])
    shard.sync()
    shutil.copytree(tmp_path / "shard", tmp_path / "synced")
    syncs.begun = True
    durable = shard.durable_offset
    for at in range(cut, 60, 5):
        shard.apply(log[at : at + 5])
    shutil.copytree(tmp_path / "shard", tmp_path / "later")
    shard.abandon()
    return log, durable


@pytest.mark.parametrize("seed", range(IMAGES // 10))
def test_state_and_offset_rewind_together(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    log, durable = live_life(tmp_path, random)
    for n in range(10):
        target = tmp_path / f"image-{n}"
        image(tmp_path / "synced", tmp_path / "later", target, random)
        shard = open_shard(target)
        assert shard.applied_offset >= durable
        _never_answers_what_was_lost(shard, log)
        if not shard.damaged_slots:
            hold_against(shard, Oracle().apply(log[: shard.applied_offset + 1]))
        while shard.applied_offset < log[-1].offset:
            shard.apply([log[shard.applied_offset + 1]])
            if random.random() < 0.1:
                shard.sync()
            if random.random() < 0.1:
                shard.abandon()
                shard = open_shard(target)
        for _ in range(2):
            assert shard.damaged_slots == 0
            hold_against(shard, Oracle().apply(log))
            shard.close()
            shard = open_shard(target)
        shard.close()
        shutil.rmtree(target)


def _never_answers_what_was_lost(shard: Shard, log: list[Logged]) -> None:
    """Every hit carries a code that was once logged for that pin, and is as far from the query as it says."""
    logged = {(x.key.decode(), code) for x in log if x.record for code in _codes(x.record)}
    query = bytes(8)
    for hit in shard.search(Query(query, 50)).hits:
        codes = _codes(hit.record)
        assert {(hit.pin_id, code) for code in codes} <= logged
        assert hit.distance in {int.from_bytes(code).bit_count() for code in codes}


def _codes(record: ObjectRecord) -> list[bytes]:
    return [code for _, code in searched_codes(record)]


def lost(tmp_path: Path, log: list[Logged], synced: int) -> Shard:
    """A shard that lost every code behind a sync, opened again."""
    shard = open_shard(tmp_path / "shard")
    shard.apply(log[:synced])
    shard.sync()
    shutil.copytree(tmp_path / "shard", tmp_path / "synced")
    shard.apply(log[synced:])
    shard.abandon()
    for path in (tmp_path / "synced").rglob("*.codes"):
        shutil.copy(path, tmp_path / "shard" / path.relative_to(tmp_path / "synced"))
    return open_shard(tmp_path / "shard")


def test_lost_codes_rewind_to_the_durable_offset_and_hide_until_replayed(tmp_path: Path) -> None:
    log = log_of([(f"pin-{n}", live(f"pin-{n}")) for n in range(6)])
    shard = lost(tmp_path, log, 3)
    assert (shard.applied_offset, shard.durable_offset, shard.damaged_slots) == (2, 2, 6)
    assert shard.verify() == ["6 codes wait for a replay"]
    assert {hit.pin_id for hit in shard.search(Query(bytes(8), 50)).hits} == {"pin-0", "pin-1", "pin-2"}
    shard.close()
    shard = open_shard(tmp_path / "shard")
    assert (shard.applied_offset, shard.damaged_slots) == (2, 6)
    shard.apply(log[3:4])
    assert shard.damaged_slots == 4
    shard.apply(log[4:])
    hold_against(shard, Oracle().apply(log))
    shard.close()


def test_lost_codes_of_a_record_that_was_compacted_away_are_given_up_for_a_newer_one(tmp_path: Path) -> None:
    log = log_of([("a", live("a")), ("b", live("b"))])
    shard = lost(tmp_path, log, 1)
    newer = log_of([("b", live("b", 2))], start=2)
    shard.apply(newer)
    for _ in range(2):
        assert shard.damaged_slots == 0
        hold_against(shard, Oracle().apply([*log, *newer]))
        shard.close()
        shard = open_shard(tmp_path / "shard")
    shard.close()


def test_a_winner_whose_codes_are_lost_is_published_again_only_once_it_was_replayed(tmp_path: Path) -> None:
    log = log_of([("a", live("a")), ("b", live("b", 2)), ("b", live("b", 1))])
    shard = lost(tmp_path, log, 1)
    assert shard.damaged_slots == 2
    assert shard.pending() == []
    shard.apply(log[1:])
    assert [pin_id for pin_id, _ in shard.pending()] == ["b"]
    shard.close()


def test_recorded_deaths_are_forgotten_once_they_are_on_the_disk(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    for version in range(1, 10):
        shard.apply(log_of([("a", live("a", version))], start=version))
    for expected in (16, 0):
        with shard._catalogue.scan("deaths") as found:
            assert len(list(found)) == expected
        shard.sync()
    shard.close()


def test_a_sync_vouches_only_for_what_was_committed_before_it_began(tmp_path: Path) -> None:
    log = log_of([(f"pin-{n}", live(f"pin-{n}")) for n in range(6)])
    during: list[Logged] = []

    def at(step: str) -> None:
        if step == "codes synced" and during:
            shutil.copytree(tmp_path / "shard", tmp_path / "synced")
            shard.apply([during.pop() for _ in range(len(during))])

    shard = open_shard(tmp_path / "shard", at=at)
    shard.apply(log[:3])
    during += reversed(log[3:])
    shard.sync()
    assert (shard.applied_offset, shard.durable_offset) == (5, 2)
    shard.abandon()
    for path in (tmp_path / "synced").rglob("*.codes"):
        shutil.copy(path, tmp_path / "shard" / path.relative_to(tmp_path / "synced"))
    shard = open_shard(tmp_path / "shard")
    assert (shard.applied_offset, shard.durable_offset, shard.damaged_slots) == (2, 2, 6)
    shard.apply(log[3:])
    hold_against(shard, Oracle().apply(log))
    shard.close()


def test_a_sync_that_fails_beside_the_writer_is_told_and_moves_nothing(tmp_path: Path) -> None:
    clock = ManualClock()

    def at(step: str) -> None:
        if step == "codes synced":
            raise OSError(errno.ENOSPC, "full")

    shard = open_shard(tmp_path, at=at, clock=clock)
    shard.apply(log_of([("a", live("a"))]))
    clock.sleep(1.0)
    assert shard.maybe_sync()
    with pytest.raises(DiskFull):
        while True:
            shard.maybe_sync()
    assert shard.durable_offset == -1
    with pytest.raises(Retryable):
        shard.apply(log_of([("a", live("a", 2))], start=1))
    shard.abandon()
