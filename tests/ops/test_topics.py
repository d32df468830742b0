"""Topics on a real broker: created as declared, again without effect, and checked where they exist."""

from __future__ import annotations

import time
import uuid

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from dotstream.errors import Misconfigured, Unavailable
from ops.local.kafka import KafkaProcess
from ops.topics import (
    DEAD_HEADROOM,
    TopicNames,
    TopicSettings,
    TopicSpec,
    all_topics,
    ensure,
    generation_topics,
    require,
    topic_id,
)
from producers.kafka import KafkaConnection
from producers.publisher import MAX_EVENT_BYTES


def declared(settings: TopicSettings, *generations: str) -> dict[str, TopicSpec]:
    return {spec.name: spec for spec in all_topics(settings, generations)}


def test_all_topics_of_the_contract_are_declared() -> None:
    specs = declared(TopicSettings(prefix="shop."), "g1", "g2")
    inputs = {"pins", "pins.backfill", "saves", "engagements", "tags", "pairs", "objects.g1", "objects.g2"}
    names = inputs | {f"{name}.dead" for name in inputs} | {"dots", "generations"}
    assert set(specs) == {f"shop.{name}" for name in names}
    assert {name for name, spec in specs.items() if spec.compacted} == {
        "shop.objects.g1",
        "shop.objects.g2",
        "shop.dots",
        "shop.pairs",
        "shop.generations",
    }
    assert specs["shop.generations"].partitions == 1


def test_records_outlive_every_topic_that_could_bring_an_older_event() -> None:
    settings = TopicSettings(event_retention_ms=1000, dead_retention_ms=5000)
    specs = declared(settings, "g1")
    longest = max(specs[name].retention_ms for name in ("pins", "pins.backfill", "pins.dead", "pins.backfill.dead"))
    assert specs["objects.g1"].min_compaction_lag_ms >= longest
    assert int(specs["objects.g1"].config()["min.compaction.lag.ms"]) >= longest


def test_dead_letters_take_whatever_their_input_takes() -> None:
    specs = declared(TopicSettings(), "g1")
    for name, spec in specs.items():
        if name.endswith(".dead"):
            assert spec.max_message_bytes == specs[name.removesuffix(".dead")].max_message_bytes + DEAD_HEADROOM


def test_ensure_creates_once_and_finds_no_difference_afterwards(broker: KafkaProcess, topic_prefix: str) -> None:
    settings = TopicSettings(prefix=topic_prefix, record_partitions=3)
    specs = all_topics(settings, ["g1"])
    names = {spec.name for spec in specs}
    first = ensure(broker.connection, specs, settings=settings)
    assert (set(first.created), first.existing, first.differences) == (names, (), ())
    again = ensure(broker.connection, specs, settings=settings)
    assert (again.created, set(again.existing), again.differences) == ((), names, ())
    more = ensure(broker.connection, all_topics(settings, ["g1", "g2"]), settings=settings)
    assert set(more.created) == {f"{topic_prefix}objects.g2", f"{topic_prefix}objects.g2.dead"}


def test_what_differs_is_told_and_left_as_it_is(broker: KafkaProcess, topic_prefix: str) -> None:
    ensure(broker.connection, all_topics(TopicSettings(prefix=topic_prefix), ["g1"]))
    other = TopicSettings(prefix=topic_prefix, event_partitions=7, event_retention_ms=60_000)
    first = ensure(broker.connection, all_topics(other, ["g1"]))
    assert f"{topic_prefix}pins has 4 partitions, declared are 7" in first.differences
    assert f"{topic_prefix}pins has retention.ms=604800000, declared is 60000" in first.differences
    assert first.created == ()
    assert ensure(broker.connection, all_topics(other, ["g1"])) == first


@pytest.mark.parametrize("name", ["objects.g1", "dots", "generations"])
def test_another_partition_count_where_records_are_found_by_it_is_an_error(
    broker: KafkaProcess, topic_prefix: str, name: str
) -> None:
    admin = AdminClient(broker.connection.config())
    admin.create_topics([NewTopic(topic_prefix + name, 2, 1)])[topic_prefix + name].result(20)
    with pytest.raises(Misconfigured, match=f"{name} has 2 partitions instead of"):
        ensure(broker.connection, all_topics(TopicSettings(prefix=topic_prefix), ["g1"]))


def test_a_topic_made_anew_has_another_id(broker: KafkaProcess, topic_prefix: str) -> None:
    settings = TopicSettings(prefix=topic_prefix)
    name = TopicNames(topic_prefix).objects("g1")
    ensure(broker.connection, generation_topics(settings, "g1"))
    first = topic_id(broker.connection, name)
    assert len(first) == 22
    assert topic_id(broker.connection, name) == first
    admin = AdminClient(broker.connection.config())
    admin.delete_topics([name])[name].result(20)
    deadline = time.monotonic() + 20
    while name in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline, "the topic is still there"
    ensure(broker.connection, generation_topics(settings, "g1"))
    assert topic_id(broker.connection, name) != first


def test_a_missing_topic_is_named(broker: KafkaProcess) -> None:
    missing = f"nowhere-{uuid.uuid4().hex}"
    with pytest.raises(Misconfigured, match=missing):
        require(broker.connection, ["also-nowhere", missing])
    with pytest.raises(Misconfigured, match=missing):
        topic_id(broker.connection, missing)


def test_an_absent_cluster_is_unavailable_within_the_limit() -> None:
    with pytest.raises(Unavailable):
        ensure(KafkaConnection("127.0.0.1:9"), all_topics(TopicSettings(), ["g1"]), limit_s=1)


def test_a_topic_takes_a_batch_of_the_declared_size(broker: KafkaProcess, topics: TopicNames) -> None:
    config = {"message.max.bytes": 3 << 20, "compression.type": "none"}
    producer = Producer(broker.connection.config(**config))
    errors: list[object] = []
    fits, exceeds = bytes(MAX_EVENT_BYTES + DEAD_HEADROOM - 200), bytes(MAX_EVENT_BYTES + DEAD_HEADROOM)
    for value in (fits, exceeds):
        producer.produce(topics.dead(topics.events.pins), value, on_delivery=lambda error, _: errors.append(error))
        producer.flush(20)
    producer.close()
    assert errors[0] is None
    assert "MSG_SIZE_TOO_LARGE" in str(errors[1])
