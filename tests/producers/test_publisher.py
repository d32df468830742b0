"""The publisher on a real broker: what arrives, in which order, and what the caller learns when it does not."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest

from dotstream.clock import ManualClock
from dotstream.errors import Misconfigured, Poison, Unavailable
from ops.local.kafka import KafkaProcess
from ops.topics import TopicNames, TopicSettings, ensure, event_topics
from producers.events import check_engagement, check_pin, check_save, check_tag
from producers.events_pb2 import EngagementEvent, PinEvent, SaveEvent, TagEvent
from producers.headers import is_traceparent, read_header, read_kind, read_traceparent
from producers.kafka import KafkaConnection
from producers.publisher import MAX_EVENT_BYTES, EventTopics, Publisher, Undelivered
from tests.support.kafka import read_topic

NOW = 1_700_000_000_000


def pin(pin_id: str, version: int = 1, inline: bytes = b"\xff\xd8\xff", kind: PinEvent.Kind = 1) -> PinEvent:  # type: ignore[assignment]
    return PinEvent(pin_id=pin_id, kind=kind, version=version, event_time=NOW, image=PinEvent.Image(inline=inline))


def test_every_kind_of_event_arrives_in_its_topic_as_it_was(broker: KafkaProcess, topics: TopicNames) -> None:
    names = topics.events
    save = SaveEvent(pin_id="p", board_id="b", kind=SaveEvent.KIND_SAVED, event_time=NOW)
    click = EngagementEvent(pin_id="p", kind=EngagementEvent.KIND_CLICK, event_time=NOW)
    tag = TagEvent(pin_id="p", kind=TagEvent.KIND_TAGGED, product_pin_id="q", event_time=NOW)
    with Publisher(broker.connection, topics=names) as publisher:
        publisher.pin(pin("p"))
        publisher.pin(pin("old"), topic=names.pins_backfill)
        publisher.save(save)
        publisher.engagement(click)
        publisher.tag(tag)
    for topic, check, expected in (
        (names.pins, check_pin, pin("p")),
        (names.pins_backfill, check_pin, pin("old")),
        (names.saves, check_save, save),
        (names.engagements, check_engagement, click),
        (names.tags, check_tag, tag),
    ):
        (record,) = read_topic(broker.connection, topic, 1)
        assert check(record.key(), record.value(), record.timestamp()[1]) == expected


def test_headers_of_an_event(broker: KafkaProcess, topics: TopicNames) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    ids = iter(["id-1", "id-2"])
    with Publisher(
        broker.connection, topics=topics.events, source="/shop", clock=ManualClock(NOW), new_id=lambda: next(ids)
    ) as publisher:
        publisher.pin(pin("p", kind=PinEvent.KIND_DELETED), traceparent=parent)
        publisher.pin(pin("p", version=2))
    first, second = read_topic(broker.connection, topics.events.pins, 2)
    found = {name: read_header(first.headers(), str(name)) for name, _ in list(first.headers() or ())}
    assert found == {
        "ce_specversion": "1.0",
        "ce_id": "id-1",
        "ce_source": "/shop",
        "ce_type": "dotstream.pin.deleted.v1",
        "ce_time": "2023-11-14T22:13:20.000Z",
        "ce_subject": "p",
        "content-type": "application/protobuf",
        "kind": "deleted",
        "traceparent": parent,
    }
    assert read_kind(second.headers()) == "created"
    assert is_traceparent(read_traceparent(second.headers()) or "")


def test_events_of_a_key_keep_their_order_in_one_partition(broker: KafkaProcess, topics: TopicNames) -> None:
    with Publisher(broker.connection, topics=topics.events, queue_max=100) as publisher:
        for version in range(1, 51):
            for name in range(20):
                publisher.pin(pin(f"pin-{name}", version))
        publisher.flush(30)
        assert publisher.delivered == 1000
        assert publisher.outstanding == 0
    versions: dict[str, list[int]] = defaultdict(list)
    partitions: dict[str, set[int | None]] = defaultdict(set)
    for record in read_topic(broker.connection, topics.events.pins, 1000):
        event = check_pin(record.key(), record.value(), 0)
        versions[event.pin_id].append(event.version)
        partitions[event.pin_id].add(record.partition())
    assert set(versions) == {f"pin-{name}" for name in range(20)}
    assert all(found == list(range(1, 51)) for found in versions.values())
    assert all(len(found) == 1 for found in partitions.values())
    assert len(set.union(*partitions.values())) > 1


def test_the_largest_events_pass_side_by_side(broker: KafkaProcess, topics: TopicNames) -> None:
    noise = np.random.default_rng(3).bytes(MAX_EVENT_BYTES)
    with Publisher(broker.connection, topics=topics.events) as publisher:
        for number, size in enumerate([600_000, 900_000, MAX_EVENT_BYTES - 2048, 500_000, 40_000] * 3):
            publisher.pin(pin(f"p{number}", inline=noise[:size]))
    records = read_topic(broker.connection, topics.events.pins, 15)
    assert sum(len(record) for record in records) > 9_000_000


def test_an_event_that_no_topic_takes_is_refused_before_it_leaves(broker: KafkaProcess, topics: TopicNames) -> None:
    with Publisher(broker.connection, topics=topics.events) as publisher:
        with pytest.raises(Poison, match="by reference") as caught:
            publisher.pin(pin("huge", inline=bytes(MAX_EVENT_BYTES)))
        assert caught.value.reason == "too_large"
        with pytest.raises(Poison, match="missing_image"):
            publisher.pin(PinEvent(pin_id="p", kind=PinEvent.KIND_CREATED, version=1))
        assert publisher.outstanding == 0


def test_without_a_broker_flush_names_what_is_not_delivered_within_its_limit(
    own_broker: Callable[[], KafkaProcess],
) -> None:
    broker = own_broker()
    ensure(broker.connection, event_topics(TopicSettings()))
    publisher = Publisher(broker.connection)
    try:
        publisher.pin(pin("delivered"))
        publisher.flush(20)
        broker.stop()
        for number in range(3):
            publisher.pin(pin(f"late-{number}"))
        begun = time.monotonic()
        with pytest.raises(Undelivered) as caught:
            publisher.flush(1)
        assert time.monotonic() - begun < 3
        assert caught.value.keys == ("late-0", "late-1", "late-2")
        assert "late-1" in str(caught.value)
        own_broker()
        publisher.flush(30)
        assert publisher.delivered == 4
    finally:
        publisher.close()
    found = [record.key() for record in read_topic(broker.connection, "pins", 4)]
    assert sorted(found) == [b"delivered", b"late-0", b"late-1", b"late-2"]  # type: ignore[type-var]


def test_given_up_events_are_told_once_by_the_next_call_which_takes_nothing() -> None:
    publisher = Publisher(KafkaConnection("127.0.0.1:9"), delivery_limit_s=0.2)
    try:
        publisher.pin(pin("first"))
        deadline = time.monotonic() + 20
        with pytest.raises(Undelivered) as caught:
            while time.monotonic() < deadline:
                publisher.pin(pin("second"))
        assert "first" in caught.value.keys
        assert all(failure.topic == "pins" for failure in caught.value.failures)
        with pytest.raises(Undelivered) as later:
            publisher.flush(20)
        assert "first" not in later.value.keys
        publisher.flush(0)
    finally:
        publisher.close()


def test_a_full_queue_holds_the_caller_back_up_to_its_limit() -> None:
    publisher = Publisher(KafkaConnection("127.0.0.1:9"), queue_max=5, block_limit_s=0.3)
    try:
        for number in range(5):
            publisher.pin(pin(f"p{number}"))
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="5 events wait"):
            publisher.pin(pin("p5"))
        assert 0.3 <= time.monotonic() - begun < 5
        assert publisher.outstanding == 5
    finally:
        publisher.close()


def test_leaving_the_block_raises_what_was_not_delivered() -> None:
    with (
        pytest.raises(Undelivered, match="p1"),
        Publisher(KafkaConnection("127.0.0.1:9"), flush_limit_s=0.2) as publisher,
    ):
        publisher.pin(pin("p1"))


def test_an_error_inside_the_block_is_not_hidden() -> None:
    with (
        pytest.raises(ZeroDivisionError),
        Publisher(KafkaConnection("127.0.0.1:9"), flush_limit_s=0.2) as publisher,
    ):
        publisher.pin(pin("p1"))
        raise ZeroDivisionError


def test_settings_that_the_client_refuses_are_a_configuration_error() -> None:
    with pytest.raises(Misconfigured, match="nonsense"):
        Publisher(KafkaConnection("127.0.0.1:9", {"security.protocol": "nonsense"}))


def test_names_behind_a_prefix() -> None:
    names = EventTopics.prefixed("shop.")
    assert (names.pins, names.pins_backfill, names.saves) == ("shop.pins", "shop.pins.backfill", "shop.saves")
    assert (names.engagements, names.tags) == ("shop.engagements", "shop.tags")
