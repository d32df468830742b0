"""Rebuilds a shard from its topic beside the one in place: what `dotstream index repair` does.

The log is read from its start to the end that it had when the repair began; the index worker goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from dotstream.clock import Clock
from dotstream.errors import Poison, Unavailable
from indexer.arbitration import Logged
from indexer.records import decode
from indexer.shard import Shard
from producers.kafka import KafkaConnection, translate

BATCH = 1_000
QUIET_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Source:
    """What a shard is rebuilt from.

    Attributes:
        connection: of the cluster.
        topic: objects.<generation>, with its prefix.
        topic_id: its id in the cluster.
        generation: the generation's name.
        feature: name of the searched codes.
        bits: their width.
    """

    connection: KafkaConnection
    topic: str
    topic_id: str
    generation: str
    feature: str
    bits: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did.

    Attributes:
        records: that were applied.
        poison: records that could not be read; they lie in the dead letters.
        applied: the offset that the shard reflects now.
        digest: of its logical content.
    """

    records: int
    poison: int
    applied: int
    digest: str


def rebuild(
    home: Path,
    partition: int,
    source: Source,
    *,
    clock: Clock,
    segment_slots: int,
    null_retention_ms: int,
    tell: Callable[[str], None],
) -> Replayed:
    """Replays a partition into a new folder and puts it in place; the old one is removed once nobody holds it.

    Raises:
        LockHeld: another rebuild of it is under way.
        Unavailable: the topic could not be read to its end; the next repair takes up what was done.
        DiskFull, Retryable: the disk refuses.
    """
    shard = Shard.open(
        home,
        generation=source.generation,
        partition=partition,
        topic_id=source.topic_id,
        feature=source.feature,
        bits=source.bits,
        clock=clock,
        segment_slots=segment_slots,
        null_retention_ms=null_retention_ms,
        rebuild=True,
    )
    try:
        records, poison = _replay(shard, partition, source, clock, tell)
        shard.promote()
        return Replayed(records, poison, shard.applied_offset, shard.digest())
    finally:
        shard.close()


def _replay(shard: Shard, partition: int, source: Source, clock: Clock, tell: Callable[[str], None]) -> tuple[int, int]:
    consumer = Consumer(
        source.connection.config(
            **{
                "group.id": "dotstream-index-repair",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
    )
    records = poison = 0
    try:
        bounds = consumer.get_watermark_offsets(TopicPartition(source.topic, partition), timeout=QUIET_LIMIT_S)
        if bounds is None:
            raise Unavailable(f"the broker did not say where {source.topic}[{partition}] ends")
        end = bounds[1]
        consumer.assign([TopicPartition(source.topic, partition, max(bounds[0], shard.applied_offset + 1))])
        told = heard = clock.monotonic()
        at_end = shard.applied_offset + 1 >= end
        while not at_end:
            messages = consumer.consume(BATCH, 0.5)
            logged, bad, at_end = _read(messages, source)
            records, poison = records + len(logged), poison + bad
            if logged:
                shard.apply(logged)
                heard = clock.monotonic()
            shard.maybe_sync()
            if clock.monotonic() - heard > QUIET_LIMIT_S:
                raise Unavailable(f"{source.topic}[{partition}] gave nothing for {QUIET_LIMIT_S:g} s")
            if clock.monotonic() - told > 1:
                told = clock.monotonic()
                tell(f"partition {partition}: offset {shard.applied_offset + 1} of {end}")
        shard.advance(end - 1)
    except KafkaException as error:
        raise translate(error) from error
    finally:
        consumer.close()
    return records, poison


def _read(messages: list[Message], source: Source) -> tuple[list[Logged], int, bool]:
    """(what can be applied, how many could not be read, whether the end was met)."""
    logged: list[Logged] = []
    poison, at_end = 0, False
    for message in messages:
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise translate(error)
            at_end = True
            continue
        key, value = message.key(), message.value()
        try:
            record = None
            if isinstance(value, bytes):
                raw = key if isinstance(key, bytes) else None
                record = decode(raw, value, generation=source.generation, bits=source.bits, feature=source.feature)
        except Poison:
            poison += 1
            continue
        logged.append(Logged(int(message.offset() or 0), bytes(key or b""), record, message.timestamp()[1]))
    return logged, poison, at_end
