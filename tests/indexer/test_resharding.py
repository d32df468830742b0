"""Another number of partitions: the winners of one generation replayed into the next (docs/operations.md)."""

from __future__ import annotations

from pathlib import Path
from random import Random

from dotstream.clock import ManualClock
from indexer.arbitration import Logged
from indexer.partition import partition_of
from indexer.reader import IndexReader
from indexer.records import encode
from indexer.records_pb2 import ObjectRecord
from tests.support.index_oracle import Oracle, log_of, open_shard, random_log

BEFORE, AFTER = 2, 5


def parted(records: list[tuple[str, ObjectRecord | None]], partitions: int) -> list[list[Logged]]:
    """Records in the logs of a topic of so many partitions, as every writer partitions them."""
    logs: list[list[tuple[str, ObjectRecord | None]]] = [[] for _ in range(partitions)]
    for pin_id, record in records:
        logs[partition_of(pin_id.encode(), partitions)].append((pin_id, record))
    return [log_of(each) for each in logs]


def index(folder: Path, logs: list[list[Logged]], generation: str) -> IndexReader:
    for number, log in enumerate(logs):
        shard = open_shard(folder / generation / str(number), partition=number, generation=generation)
        for at in range(0, len(log), 9):
            shard.apply(log[at : at + 9])
        shard.close()
    reader = IndexReader(folder / generation, len(logs), clock=ManualClock(), lease_s=9.0, name="reader")
    reader.refresh()
    return reader


def renamed(record: ObjectRecord, generation: str) -> ObjectRecord:
    copied = ObjectRecord.FromString(encode(record))
    copied.generation = generation
    return copied


def test_a_generation_with_more_partitions_answers_as_the_one_before(tmp_path: Path) -> None:
    random = Random(4)
    original = [(logged.key.decode(), logged.record) for logged in random_log(random, 300, pins=60)]
    original = [(pin_id, record) for pin_id, record in original if record is not None]
    oracle = Oracle().apply(log_of(original))
    old = index(tmp_path, parted(original, BEFORE), "g1")
    replayed: list[tuple[str, ObjectRecord | None]] = []
    for log in parted(original, BEFORE):  # partition by partition; of each pin the record that won
        for pin_id in dict.fromkeys(logged.key.decode() for logged in log):
            entry = old.pin(pin_id)
            assert entry is not None
            replayed.append((pin_id, renamed(entry.record, "g2")))
    new = index(tmp_path, parted(replayed, AFTER), "g2")
    assert old.size() == new.size()
    for _ in range(20):
        query = random.randbytes(8)
        hits = [[(hit.distance, hit.pin_id, hit.object_index) for hit in r.search(query, 15).hits] for r in (old, new)]
        assert hits[0] == hits[1] == oracle.nearest(query, 15)
    for pin_id in oracle.winners:
        one, other = old.pin(pin_id), new.pin(pin_id)
        assert one is not None
        assert other is not None
        assert renamed(one.record, "g2") == other.record
    words = ["red", "green", "blue", "oak", "steel"]
    assert old.document_frequency(words) == new.document_frequency(words)
    old.close()
    new.close()
