"""The compacted topic `generations`: which pairs of models exist, in which state, and who may work for them.

A worker whose pipeline has another fingerprint than the generation it is to fill refuses to start, so that codes of
different models never meet. The first generation of an empty cluster is recorded as active by whoever starts first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from dotstream.errors import Misconfigured, Unavailable
from indexer.records_pb2 import GenerationRecord
from producers.kafka import KafkaConnection, translate

LIMIT_S = 30.0


@dataclass(frozen=True)
class Pipeline:
    """What a generation is made with.

    Attributes:
        fingerprint: 32 bytes over the models' digests and the settings.
        detector, embedder: "name@version".
        bits: of a searched code.
        extra: names of the extra features, "name@version/output".
        extra_bits: of their codes.
    """

    fingerprint: bytes
    detector: str
    embedder: str
    bits: int
    extra: tuple[str, ...] = ()
    extra_bits: tuple[int, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all codes, the searched one first, as records carry them."""
        return (f"{self.embedder}/codes", *self.extra)


def read_generations(
    connection: KafkaConnection, topic: str, *, limit_s: float = LIMIT_S
) -> dict[str, GenerationRecord]:
    """The latest record of every generation, by name.

    Raises:
        Unavailable: the topic could not be read to its end in time.
        Fatal: the broker refuses.
    """
    return {record.name: record for record in _records(connection, topic, limit_s)}


def _records(connection: KafkaConnection, topic: str, limit_s: float) -> list[GenerationRecord]:
    """All records of the topic, in its order."""
    config = {
        "group.id": "dotstream-generations-reader",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
    }
    consumer = Consumer(connection.config(**config))
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return _read_to_end(consumer, topic, time.monotonic() + limit_s)
    except KafkaException as error:
        raise translate(error) from error
    finally:
        consumer.close()


def _read_to_end(consumer: Consumer, topic: str, deadline: float) -> list[GenerationRecord]:
    found: list[GenerationRecord] = []
    while time.monotonic() < deadline:
        message = consumer.poll(min(0.5, max(0.0, deadline - time.monotonic())))
        if message is None:
            continue
        error = message.error()
        if error is not None and error.code() == KafkaError._PARTITION_EOF:
            return found
        if error is not None:
            raise translate(error)
        value = message.value()
        if isinstance(value, bytes):
            found.append(GenerationRecord.FromString(value))
    raise Unavailable(f"topic {topic} could not be read to its end in time")


def publish_generation(connection: KafkaConnection, topic: str, record: GenerationRecord) -> None:
    """Writes the generation's new state.

    Raises:
        Unavailable: the broker did not take it in time.
    """
    failures: list[KafkaError] = []
    producer = Producer(connection.config(**{"enable.idempotence": True, "acks": "all"}))
    producer.produce(
        topic,
        record.SerializeToString(deterministic=True),
        record.name.encode(),
        on_delivery=lambda error, _: failures.append(error) if error is not None else None,
    )
    if producer.flush(LIMIT_S):
        raise Unavailable(f"the broker did not take the record of generation {record.name} within {LIMIT_S:.0f} s")
    if failures:
        raise translate(failures[0])


def ensure_generation(
    connection: KafkaConnection, topic: str, name: str, pipeline: Pipeline, *, partitions: int, now_ms: int
) -> GenerationRecord:
    """The record of generation `name`; on an empty cluster it becomes the first, active at epoch 1.

    Raises:
        Misconfigured: the generation was made with other models or settings, or does not exist beside others.
    """
    known = read_generations(connection, topic)
    if not known:
        first = GenerationRecord(
            name=name,
            fingerprint=pipeline.fingerprint,
            state=GenerationRecord.STATE_ACTIVE,
            epoch=1,
            detector=pipeline.detector,
            embedder=pipeline.embedder,
            bits=pipeline.bits,
            partitions=partitions,
            changed_at=now_ms,
        )
        known = {name: record_first(connection, topic, first)}
    record = known.get(name)
    if record is None:
        raise Misconfigured(f"there is no generation {name!r}; there are {', '.join(sorted(known))}")
    check_pipeline(record, pipeline)
    return record


def check_pipeline(record: GenerationRecord, pipeline: Pipeline) -> None:
    """Holds a process's models and settings against those of the generation.

    Raises:
        Misconfigured: they differ.
    """
    if record.fingerprint != pipeline.fingerprint:
        raise Misconfigured(
            f"generation {record.name} was made by {record.detector} and {record.embedder} with fingerprint "
            f"{record.fingerprint.hex()[:16]}, this process has {pipeline.detector} and {pipeline.embedder} with "
            f"{pipeline.fingerprint.hex()[:16]}: use the same models and vision settings, or another generation"
        )


def begin_generation(
    connection: KafkaConnection, topic: str, name: str, pipeline: Pipeline, *, partitions: int, now_ms: int
) -> GenerationRecord:
    """Records a further generation beside the active one, in state building; one that is there already stays.

    Raises:
        Misconfigured: no generation is active yet, or this one was made with other models or settings.
        Unavailable: the broker did not take or give the record in time.
    """
    known = read_generations(connection, topic)
    if active_generation(known) is None:
        raise Misconfigured(f"no generation is active in {topic}: start the workers of the first one before")
    if name not in known:
        record = GenerationRecord(
            name=name,
            fingerprint=pipeline.fingerprint,
            state=GenerationRecord.STATE_BUILDING,
            detector=pipeline.detector,
            embedder=pipeline.embedder,
            bits=pipeline.bits,
            partitions=partitions,
            changed_at=now_ms,
        )
        return record_first(connection, topic, record)
    check_pipeline(known[name], pipeline)
    return known[name]


def record_first(connection: KafkaConnection, topic: str, record: GenerationRecord) -> GenerationRecord:
    """Records the first generation and returns what holds: of several workers that do so at once the earliest wins.

    One that came later with another fingerprint puts the earliest record back on top.

    Raises:
        Unavailable: the broker did not take or give the record in time.
    """
    publish_generation(connection, topic, record)
    winner = next(one for one in _records(connection, topic, LIMIT_S) if one.name == record.name)
    if winner.fingerprint != record.fingerprint:
        publish_generation(connection, topic, winner)
    return winner


def active_generation(known: dict[str, GenerationRecord]) -> GenerationRecord | None:
    """The active generation with the greatest epoch, if there is one."""
    active = [record for record in known.values() if record.state == GenerationRecord.STATE_ACTIVE]
    return max(active, key=lambda record: record.epoch, default=None)
