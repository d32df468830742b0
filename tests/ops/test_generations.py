"""The topic `generations`: who may fill a generation, and who recorded it first."""

from __future__ import annotations

import pytest

from dotstream.errors import Misconfigured
from indexer.records_pb2 import GenerationRecord
from ops.generations import Pipeline, ensure_generation, read_generations, record_first
from ops.local.kafka import KafkaProcess
from ops.topics import TopicNames


def first(fingerprint: bytes) -> GenerationRecord:
    return GenerationRecord(name="g1", fingerprint=fingerprint, state=GenerationRecord.STATE_ACTIVE, epoch=1)


def test_of_two_first_workers_the_earlier_wins(broker: KafkaProcess, topics: TopicNames) -> None:
    one, other = first(b"1" * 32), first(b"2" * 32)
    assert record_first(broker.connection, topics.generations, one) == one
    assert record_first(broker.connection, topics.generations, other) == one
    assert read_generations(broker.connection, topics.generations) == {"g1": one}


def test_a_worker_with_another_pipeline_may_not_fill_it(broker: KafkaProcess, topics: TopicNames) -> None:
    mine = Pipeline(b"1" * 32, "detector", "embedder", 1280)
    made = ensure_generation(broker.connection, topics.generations, "g1", mine, partitions=4, now_ms=1)
    assert ensure_generation(broker.connection, topics.generations, "g1", mine, partitions=4, now_ms=2) == made
    others = Pipeline(b"2" * 32, "detector", "embedder", 1280)
    with pytest.raises(Misconfigured, match="generation g1 was made by"):
        ensure_generation(broker.connection, topics.generations, "g1", others, partitions=4, now_ms=3)
    with pytest.raises(Misconfigured, match="no generation 'g2'"):
        ensure_generation(broker.connection, topics.generations, "g2", mine, partitions=4, now_ms=3)
