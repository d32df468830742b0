"""From the Kafka client's messages to the plain records of consumers/ports.py, tens of thousands of them a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confluent_kafka import Message as KafkaMessage

from consumers.ports import Message, Partition


class _Headers(Sequence[tuple[str, bytes]]):
    """The headers of a record, read when somebody looks: most records of most workers are never asked for theirs."""

    __slots__ = ("_raw",)

    def __init__(self, raw: KafkaMessage) -> None:
        self._raw = raw

    def __len__(self) -> int:
        return len(self._all())

    def __getitem__(self, at: Any) -> Any:
        return self._all()[at]

    def _all(self) -> tuple[tuple[str, bytes], ...]:
        pairs: Any = self._raw.headers() or ()
        return tuple((str(name), _bytes(data)) for name, data in pairs)


def plain(raw: KafkaMessage, source: Partition) -> Message:
    """The record that a consumer gave, of the topic and partition that it named."""
    key, value = raw.key(), raw.value()
    return Message(
        source[0],
        source[1],
        int(raw.offset() or 0),
        raw.timestamp()[1],
        None if key is None else _bytes(key),
        None if value is None else _bytes(value),
        _Headers(raw),
    )


def _bytes(data: str | bytes | None) -> bytes:
    if data is None:
        return b""
    return data.encode() if isinstance(data, str) else data
