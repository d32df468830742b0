"""Dead letters on a real broker: listed, shown, and published again exactly as they were."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from consumers.dead import dead_letter
from consumers.ports import Message
from dotstream.errors import Poison
from ops.dead import DeadLetter, read_letters, replay
from ops.local.kafka import KafkaProcess
from ops.topics import TopicNames
from producers.events_pb2 import PinEvent
from tests.ops.test_cli import dotstream
from tests.support.kafka import read_topic


def bury(broker: KafkaProcess, *dead: tuple[Message, str], size_limit: int = 1_000_000) -> None:
    producer = Producer(broker.connection.config())
    for message, reason in dead:
        letter = dead_letter(
            message, Poison(reason, f"{reason} was found"), now_ms=message.offset, size_limit=size_limit
        )
        producer.produce(letter.topic, letter.value, letter.key, headers=list(letter.headers))
    assert producer.flush(20) == 0
    producer.close()


def event(pin_id: str) -> bytes:
    image = PinEvent.Image(inline=b"no picture at all")
    return PinEvent(pin_id=pin_id, kind=PinEvent.KIND_CREATED, version=3, image=image).SerializeToString()


@pytest.fixture
def buried(broker: KafkaProcess, topics: TopicNames) -> list[DeadLetter]:
    pins = topics.events.pins
    kept = Message(
        pins, 2, 11, 1_700_000_000_123, b"pin-a", event("pin-a"), (("kind", b"created"), ("traceparent", b"x"))
    )
    null = Message(pins, 1, 12, 1_700_000_000_124, b"pin-b", None)
    other = Message(topics.events.saves, 0, 13, 1_700_000_000_125, b"board", b"\xff\xff")
    bury(broker, (kept, "picture_truncated"), (null, "null_value"), (other, "undecodable"))
    large = Message(pins, 0, 14, 1_700_000_000_126, b"pin-c", b"x" * 5000)
    bury(broker, (large, "too_large"), size_limit=1000)
    return read_letters(broker.connection, [topics.dead(pins), topics.dead(topics.events.saves), "no-such-topic.dead"])


def test_every_letter_is_read_with_its_reason(buried: list[DeadLetter], topics: TopicNames) -> None:
    assert [letter.reason for letter in buried] == ["picture_truncated", "null_value", "undecodable", "too_large"]
    first, null, _, large = buried
    assert (first.topic, first.partition, first.offset) == (topics.events.pins, 2, 11)
    assert first.value == event("pin-a")
    assert first.headers == (("kind", b"created"), ("traceparent", b"x"))
    assert (null.value, null.kept) == (None, True)
    assert (large.value, large.kept, large.value_bytes) == (None, False, 5000)


def test_a_replay_is_the_original_event(broker: KafkaProcess, topics: TopicNames, buried: list[DeadLetter]) -> None:
    done, skipped = replay(broker.connection, buried)
    assert done == 3
    assert [(letter.key_text, "too large" in why) for letter, why in skipped] == [("pin-c", True)]
    messages = {message.key(): message for message in read_topic(broker.connection, topics.events.pins, 2)}
    again = messages[b"pin-a"]
    assert again.value() == event("pin-a")
    assert again.headers() == [("kind", b"created"), ("traceparent", b"x")]
    assert again.timestamp()[1] == 1_700_000_000_123
    assert messages[b"pin-b"].value() is None


def run(broker: KafkaProcess, topics: TopicNames, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"DOTSTREAM_KAFKA__BOOTSTRAP": broker.bootstrap, "DOTSTREAM_TOPICS__PREFIX": topics.prefix}
    return dotstream("dead", *arguments, cwd=folder, env=environment)


def test_the_commands(broker: KafkaProcess, topics: TopicNames, buried: list[DeadLetter], tmp_path: Path) -> None:
    listed = run(broker, topics, tmp_path, "list", "--json")
    found: list[dict[str, Any]] = json.loads(listed.stdout)
    assert [letter["key"] for letter in found] == ["pin-a", "pin-b", "board", "pin-c"]
    of_saves = run(broker, topics, tmp_path, "list", "--topic", "saves")
    assert "undecodable was found" in of_saves.stdout
    assert "1 dead letter\n" in of_saves.stdout
    shown = run(broker, topics, tmp_path, "show", found[0]["where"])
    assert shown.returncode == 0
    assert "picture_truncated" in shown.stdout
    assert 'pin_id: "pin-a"' in shown.stdout
    assert "(17 bytes)" in shown.stdout
    replayed = run(broker, topics, tmp_path, "replay", found[0]["where"])
    assert replayed.returncode == 0
    assert "1 published again" in replayed.stdout
    assert [m.key() for m in read_topic(broker.connection, topics.events.pins, 1)] == [b"pin-a"]
    nothing = run(broker, topics, tmp_path, "replay", "pins.dead/0/999")
    assert nothing.returncode == 1
    assert "no such dead letter" in nothing.stderr
    assert run(broker, topics, tmp_path, "replay").returncode == 2
