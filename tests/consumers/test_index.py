"""The index worker over a log in memory and real shards: replays, failures and stale records end in the same index."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from consumers.index import IndexJob
from consumers.metrics import WorkerMetrics
from consumers.ports import LogBroken, Output
from consumers.state_worker import StateWorker, StateWorkerSettings
from consumers.window import Backoff
from dotstream.clock import ManualClock
from indexer.records import decode, delete_record, encode, order_of
from indexer.records_pb2 import Box, Code, DetectedObject, ObjectRecord
from indexer.shard import Shard
from tests.support.memory_log import MemoryCluster, MemoryLog

BITS = 64
TOPIC = "objects.g1"
FEATURE = "e@1/codes"


def live(pin_id: str, version: int, seed: int = 0) -> ObjectRecord:
    bits = np.random.default_rng(hash_of(pin_id, version, seed)).bytes(BITS // 8)
    code = Code(feature=FEATURE, bits=bits)
    found = DetectedObject(
        index=0,
        box=Box(x0=0, y0=0, x1=1, y1=1),
        label="Cat",
        score=0.9,
        source=DetectedObject.SOURCE_DETECTOR,
        codes=[code],
    )
    return ObjectRecord(
        pin_id=pin_id,
        version=version,
        generation="g1",
        image_sha256=bits * 4,
        codes=[code],
        objects=[found],
        annotations=["cat"],
        event_time=version,
    )


def hash_of(*parts: object) -> int:
    return zlib.crc32(repr(parts).encode())


def gone(pin_id: str, version: int) -> ObjectRecord:
    return delete_record(pin_id, version, "g1", 1)


def log_of(records: Sequence[ObjectRecord | bytes]) -> MemoryCluster:
    cluster = MemoryCluster(partitions=2)
    for record in records:
        if isinstance(record, bytes):
            cluster.append(Output(TOPIC, b"garbage", record))
        else:
            cluster.append(Output(TOPIC, record.pin_id.encode(), encode(record)))
    return cluster


class Place:
    """A worker on a cluster with its shards in a folder."""

    def __init__(self, cluster: MemoryCluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.clock = ManualClock()
        self.registry = CollectorRegistry()
        metrics = WorkerMetrics("index", self.registry)
        self.worker = StateWorker(
            MemoryLog(cluster, [TOPIC], "index"),
            IndexJob(self.open_shard, self.clock, metrics, generation="g1", bits=BITS, feature=FEATURE),
            self.clock,
            metrics,
            settings=StateWorkerSettings(batch_max=3, backoff=Backoff(0.1, 0.2), upkeep_every_s=0.0),
        )

    def open_shard(self, partition: int, end: int) -> Shard:
        shard = Shard.open(
            self.folder / str(partition),
            generation="g1",
            partition=partition,
            topic_id="t",
            feature=FEATURE,
            bits=BITS,
            clock=self.clock,
            segment_slots=64,
        )
        shard.check_log_end(end)
        return shard

    def run(self, *, quiet_steps: int = 12, most: int = 400) -> None:
        """Steps until nothing has been written for a while, as at the end of a stream."""
        quiet, size, steps = 0, -1, 0

        def stop() -> bool:
            nonlocal quiet, size, steps
            steps += 1
            assert steps < most, "the worker does not come to rest"
            now = sum(len(entries) for entries in self.cluster.logs.values())
            quiet = quiet + 1 if now == size and self.worker.ready else 0
            size = now
            return quiet > quiet_steps

        self.worker.run(stop)

    def digests(self) -> list[str]:
        shards = [self.open_shard(partition, len(self.cluster.logs[TOPIC, partition])) for partition in range(2)]
        found = [shard.digest() for shard in shards]
        for shard in shards:
            shard.close()
        return found


def winners(cluster: MemoryCluster) -> dict[str, ObjectRecord]:
    best: dict[str, ObjectRecord] = {}
    for message in cluster.all(TOPIC):
        if message.key != b"garbage" and message.value is not None:
            record = decode(message.key, message.value, generation="g1", bits=BITS)
            if record.pin_id not in best or order_of(record) > order_of(best[record.pin_id]):
                best[record.pin_id] = record
    return best


def last_logged(cluster: MemoryCluster) -> dict[str, ObjectRecord]:
    return {
        (message.key or b"").decode(): decode(message.key, message.value, generation="g1", bits=BITS)
        for message in cluster.all(TOPIC)
        if message.key != b"garbage" and message.value is not None
    }


def test_what_cannot_be_read_is_dead_lettered_and_the_rest_applied(tmp_path: Path) -> None:
    cluster = log_of([live("a", 1), b"not a record", live("b", 1)])
    place = Place(cluster, tmp_path)
    place.run()
    (letter,) = cluster.all(f"{TOPIC}.dead")
    assert dict(letter.headers)["dotstream-dead-reason"] in {b"undecodable", b"key_mismatch"}
    pins = [place.registry.get_sample_value("dotstream_index_size", _size(p)) or 0 for p in range(2)]
    assert sum(pins) == 2


def test_keys_that_are_no_text_are_dead_lettered(tmp_path: Path) -> None:
    cluster = log_of([live("a", 1)])
    for value in (None, encode(live("b", 1))):
        cluster.append(Output(TOPIC, b"\xff\xfe", value, partition=0))
    place = Place(cluster, tmp_path)
    place.run()
    letters = cluster.all(f"{TOPIC}.dead")
    assert [dict(letter.headers)["dotstream-dead-reason"] for letter in letters] == [b"bad_field", b"key_mismatch"]
    assert sum(place.registry.get_sample_value("dotstream_index_size", _size(p)) or 0 for p in range(2)) == 1


def _size(partition: int) -> dict[str, str]:
    return {"role": "index", "partition": str(partition), "kind": "live_pins"}


def test_a_stale_record_makes_the_winner_be_published_again_once(tmp_path: Path) -> None:
    cluster = log_of([live("a", 2), live("a", 1), gone("b", 5), live("b", 4)])
    Place(cluster, tmp_path).run()
    assert len(cluster.all(TOPIC)) == 6
    assert last_logged(cluster) == winners(cluster)
    Place(cluster, tmp_path).run()  # a replay of the tail repeats nothing
    Place(cluster, tmp_path / "again").run()  # nor does a rebuild from the start
    assert len(cluster.all(TOPIC)) == 6


records = st.builds(
    lambda pin, version, deleted, seed: gone(pin, version) if deleted else live(pin, version, seed),
    st.sampled_from("abc"),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 1),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    logged=st.lists(records, max_size=10),
    faults=st.dictionaries(
        st.integers(0, 40), st.sampled_from(["open", "poll", "before commit", "after commit"]), max_size=4
    ),
)
def test_failures_change_nothing_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, logged: list[ObjectRecord], faults: dict[int, str]
) -> None:
    """The index equals one rebuilt from the committed records, and each pin's winner is logged last."""
    folder = tmp_path_factory.mktemp("index")
    cluster = log_of(logged)
    calls = 0

    def fault(step: str) -> None:
        nonlocal calls
        calls += 1
        if faults.get(calls) == step:
            raise LogBroken(f"{step} broke")

    cluster.fault = fault
    met = Place(cluster, folder / "met")
    met.run()
    cluster.fault = lambda step: None
    rebuilt = Place(cluster, folder / "rebuilt")
    rebuilt.run()
    assert met.digests() == rebuilt.digests()
    assert last_logged(cluster) == winners(cluster)


def test_a_worker_that_has_nothing_to_do_is_not_away(tmp_path: Path) -> None:
    place = Place(log_of([live("a", 1)]), tmp_path)
    for _ in range(3):
        place.run()
        place.clock.sleep(50 * 60)
    for partition in range(2):
        Shard.open(
            tmp_path / str(partition),
            generation="g1",
            partition=partition,
            topic_id="t",
            feature=FEATURE,
            bits=BITS,
            clock=place.clock,
            null_retention_ms=2 * 3_600_000,
        ).close()
