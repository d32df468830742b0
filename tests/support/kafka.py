"""A real Kafka broker for tests: one for the session, own ones for tests that stop or kill theirs.

Loaded as a plugin by tests/conftest.py. Tests share the session's broker and keep apart by the prefix of their topics.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from ops.local.kafka import KafkaProcess, ensure_jars, start
from ops.topics import TopicNames, TopicSettings, all_topics, ensure
from producers.kafka import KafkaConnection, translate

READY_LIMIT_S = 60


def cache_folder() -> Path:
    """The machine's cache, where the jars lie after the first run."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dotstream"


@pytest.fixture(scope="session")
def kafka_jars() -> Path:
    """What `ops.local.kafka.start` needs."""
    return ensure_jars(cache_folder(), lambda _: None)


@pytest.fixture(scope="session")
def broker(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaProcess]:
    """The session's broker. Tests neither stop it nor count on its topics being empty."""
    process = start(kafka_jars, tmp_path_factory.mktemp("kafka"))
    try:
        process.wait_ready(READY_LIMIT_S)
        yield process
    finally:
        process.kill()


@pytest.fixture
def own_broker(kafka_jars: Path, tmp_path: Path) -> Iterator[Callable[[], KafkaProcess]]:
    """Starts a broker of the test's own and waits for it; called again, it starts it again in the same folder."""
    started: list[KafkaProcess] = []

    def begin() -> KafkaProcess:
        started.append(start(kafka_jars, tmp_path / "kafka"))
        started[-1].wait_ready(READY_LIMIT_S)
        return started[-1]

    yield begin
    for process in started:
        process.kill()


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}."


@pytest.fixture
def topics(broker: KafkaProcess, topic_prefix: str) -> TopicNames:
    """All topics of a stream with generation g1, under the test's own prefix on the session's broker."""
    settings = TopicSettings(prefix=topic_prefix)
    ensure(broker.connection, all_topics(settings, ["g1"]), settings=settings)
    return TopicNames(topic_prefix)


def read_topic(
    connection: KafkaConnection, topic: str, count: int, *, limit_s: float = 20, isolation: str = "read_committed"
) -> list[Message]:
    """The first `count` records of a topic, all partitions, each partition in its order. Joins no group.

    Raises:
        AssertionError: fewer came within the limit.
    """
    config = {"group.id": "none", "enable.auto.commit": False, "isolation.level": isolation}
    consumer = Consumer(connection.config(**config))
    found: list[Message] = []
    try:
        partitions = consumer.list_topics(topic, limit_s).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        deadline = time.monotonic() + limit_s
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} records of {topic} came within {limit_s} s"
            for message in consumer.consume(count - len(found), 0.1):
                error = message.error()
                if error is not None:
                    raise translate(error)
                found.append(message)
    finally:
        consumer.close()
    return found
