"""The two readers of real topics: dots into the view, dead letters for lineage. On a real broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from consumers.dead import dead_letter
from consumers.ports import Message, Output
from discovery.dead_letters import KafkaDeadLetters, read_dead_letter
from discovery.dot_store import DotStore
from discovery.dot_view import DotView
from discovery.ports import Letters
from dotstream.errors import Poison, Retryable, Unavailable
from indexer.records_pb2 import DotRecord
from ops.local.kafka import KafkaProcess
from ops.topics import TopicNames
from producers.kafka import KafkaConnection
from producers.whole_topic import KafkaWholeTopic, Logged
from tests.discovery.waiting import until


def dots(pin_id: str, version: int = 1) -> DotRecord:
    return DotRecord(pin_id=pin_id, version=version, epoch=1, decision=1, generation="g1")


def write(connection: KafkaConnection, outputs: list[Output], *, commit: bool = True, name: str = "writer") -> None:
    """One transaction, as the dots worker writes."""
    config = {"transactional.id": f"{name}-{outputs[0].topic}", "partitioner": "murmur2_random"}
    producer = Producer(connection.config(**config))
    producer.init_transactions(30)
    producer.begin_transaction()
    for output in outputs:
        producer.produce(output.topic, output.value, output.key, headers=list(output.headers))
    producer.flush(30)
    if commit:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)


def of_dots(topics: TopicNames, *records: DotRecord) -> list[Output]:
    return [Output(topics.dots, record.pin_id.encode(), record.SerializeToString()) for record in records]


@pytest.fixture
def follow(broker: KafkaProcess, topics: TopicNames, tmp_path: Path) -> Iterator[Callable[[], DotView]]:
    views: list[DotView] = []

    def begin() -> DotView:
        for view in views:
            view.close()
        views[:] = [
            DotView(DotStore(tmp_path / "dots"), KafkaWholeTopic(broker.connection, topics.dots, client_id="test"))
        ]
        views[0].start()
        return views[0]

    yield begin
    for view in views:
        view.close()


def test_committed_dots_are_seen_and_aborted_ones_are_not(
    broker: KafkaProcess, topics: TopicNames, follow: Callable[[], DotView]
) -> None:
    write(broker.connection, of_dots(topics, *(dots(f"p{n}") for n in range(20))))
    write(broker.connection, of_dots(topics, dots("aborted")), commit=False)
    view = follow()
    assert view.wait_ready(30)
    assert all(view.get(f"p{n}") == dots(f"p{n}") for n in range(20))
    write(broker.connection, of_dots(topics, dots("later")))
    until(lambda: view.get("later") is not None)
    assert view.get("aborted") is None


def test_a_restart_reads_on_behind_transaction_markers(
    broker: KafkaProcess, topics: TopicNames, follow: Callable[[], DotView]
) -> None:
    write(broker.connection, of_dots(topics, *(dots(f"p{n}") for n in range(20))))
    view = follow()
    assert view.wait_ready(30)
    until(lambda: view.behind == 0)
    again = follow()
    assert again.wait_ready(30)
    write(broker.connection, of_dots(topics, dots("p3", 2)))
    until(lambda: again.get("p3") == dots("p3", 2))
    assert again.applied == 1
    assert again.rebuilds == 0


def test_a_new_topic_of_the_same_name_is_another_topic(
    broker: KafkaProcess, topics: TopicNames, follow: Callable[[], DotView]
) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    write(broker.connection, of_dots(topics, dots("old")))
    view = follow()
    assert view.wait_ready(30)
    until(lambda: view.get("old") is not None)
    admin = AdminClient(broker.connection.config())
    admin.delete_topics([topics.dots])[topics.dots].result(30)
    until(lambda: topics.dots not in admin.list_topics(timeout=10).topics)
    until(lambda: _created(admin, NewTopic(topics.dots, 4, 1)))
    write(broker.connection, of_dots(topics, dots("new")), name="second")
    view = follow()
    assert view.wait_ready(30)
    until(lambda: view.get("new") is not None)
    assert view.get("old") is None
    assert view.rebuilds == 1


def _created(admin: object, topic: object) -> bool:
    from confluent_kafka import KafkaException

    try:
        admin.create_topics([topic])[topic.topic].result(30)  # type: ignore[attr-defined]
    except KafkaException:
        return False
    return True


def test_ends_are_told_while_a_fetch_waits_for_records(
    broker: KafkaProcess, topics: TopicNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.whole_topic.FETCH_WAIT_S", 30.0)
    write(broker.connection, of_dots(topics, *(dots(f"p{n}") for n in range(20))))
    followed = KafkaWholeTopic(broker.connection, topics.dots, client_id="test")
    try:
        extent = followed.open()
        followed.start(extent.first)
        read: list[Logged] = []
        deadline = time.monotonic() + 30
        while len(read) < 20 and time.monotonic() < deadline:
            read += followed.read(100, 0.1)[0]
        assert len(read) == 20
        followed.read(100, 1.0)  # from here on a fetch waits
        assert {partition: followed.end(partition) for partition in extent.first} == extent.end
    finally:
        followed.close()


def test_what_is_not_committed_yet_counts_in_the_end(broker: KafkaProcess, topics: TopicNames) -> None:
    """Else a reader would take itself for level between a commit and its markers, which the broker writes later."""
    write(broker.connection, of_dots(topics, *(dots(f"p{n}") for n in range(20))))
    producer = Producer(broker.connection.config(**{"transactional.id": "undecided"}))
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topics.dots, b"value", b"key", partition=2)
    followed = KafkaWholeTopic(broker.connection, topics.dots, client_id="test")
    try:
        assert producer.flush(30) == 0
        extent = followed.open()
        followed.start(extent.first)
        committed = extent.end[2]
        assert followed.end(2) == committed + 1
        producer.commit_transaction(30)
        position, deadline = 0, time.monotonic() + 30
        while position < committed + 2 and time.monotonic() < deadline:
            position = followed.read(100, 0.1)[1].get(2, position)
        assert position == followed.end(2) == committed + 2, "the record and its marker"
    finally:
        followed.close()


def test_without_a_broker_opening_is_retryable() -> None:
    log = KafkaWholeTopic(
        KafkaConnection("127.0.0.1:9", {"socket.connection.setup.timeout.ms": "1000"}), "dots", client_id="test"
    )
    log_request = pytest.MonkeyPatch()
    log_request.setattr("producers.whole_topic.REQUEST_S", 1.0)
    try:
        with pytest.raises(Retryable):
            log.open()
        with pytest.raises(Unavailable):
            log.read(1, 0)
    finally:
        log_request.undo()
        log.close()


def test_dead_letters_are_found_by_pin_newest_first(broker: KafkaProcess, topics: TopicNames) -> None:
    events = topics.events
    headers = (("kind", b"created"), ("ce_time", b"1970-01-01T00:00:00.900Z"))
    letters = [
        dead_letter(
            Message(events.pins, 1, offset, 1_000 + offset, pin.encode(), b"event", headers),
            Poison(reason, f"why {reason}"),
            now_ms=2_000 + offset,
            size_limit=1_000_000,
        )
        for offset, (pin, reason) in enumerate([("a", "first"), ("b", "other"), ("a", "second")])
    ]
    dead = topics.dead(events.pins)
    assert {letter.topic for letter in letters} == {dead}
    write(broker.connection, letters)
    lookup = KafkaDeadLetters(broker.connection, [dead, f"{dead}.that-is-missing"], limit_s=20)
    found = lookup.find("a").found
    assert [(one.reason, one.detail, one.offset, one.event_timestamp, one.dead_at) for one in found] == [
        ("second", "why second", 2, 1_002, 2_002),
        ("first", "why first", 0, 1_000, 2_000),
    ]
    assert found[0].topic == events.pins
    assert found[0].event_time == 900
    assert lookup.find("unknown") == Letters([])
    bounded = KafkaDeadLetters(broker.connection, [dead], records=2, limit_s=20).find("a")
    assert [one.reason for one in bounded.found] == ["second"]
    assert bounded.newest_only == 2


def test_headers_of_strangers_are_no_dead_letter() -> None:
    assert read_dead_letter([]) is None
    assert read_dead_letter([("dotstream-dead-reason", b"x"), ("dotstream-dead-offset", b"not a number")]) is None


def test_dead_letters_without_a_broker_are_retryable() -> None:
    lookup = KafkaDeadLetters(KafkaConnection("127.0.0.1:9"), ["pins.dead"], limit_s=0.5)
    with pytest.raises(Retryable):
        lookup.find("a")
