"""Dead letters: the original record, unchanged, with headers that say where it stood and why it could not pass.

A dead letter is an ordinary record of `<topic>.dead` with the original key, value and headers, and:

    dotstream-dead-topic, -partition, -offset, -timestamp   coordinates of the original (decimal text)
    dotstream-dead-reason                                   the stable slug of `Poison.reason`
    dotstream-dead-detail                                   one line for a person, at most 1,000 bytes
    dotstream-dead-at                                       Unix milliseconds
    dotstream-dead-null                                     "1" when the original value was null
    dotstream-dead-bytes-left-out                           size of a value that was too large to keep
"""

from __future__ import annotations

from consumers.ports import Headers, Message, Output
from dotstream.errors import Poison

PREFIX = "dotstream-dead-"
DETAIL_LIMIT = 1_000


def dead_topic(topic: str) -> str:
    """The topic that holds the dead letters of `topic`."""
    return f"{topic}.dead"


def dead_letter(message: Message, poison: Poison, *, now_ms: int, size_limit: int) -> Output:
    """The record that keeps `message` with its coordinates and reason.

    A record larger than `size_limit`, the bytes that the dead-letter topic accepts for one, keeps its coordinates, key
    and reason without its value, so that it never blocks the stream.
    """
    headers = _coordinates(message, poison, now_ms)
    value = message.value if message.value is not None else b""
    if message.value is None:
        headers += ((PREFIX + "null", b"1"),)
    kept = tuple(message.headers)
    if _size(message.key, value, kept + headers) > size_limit:
        headers += ((PREFIX + "bytes-left-out", str(len(value)).encode()),)
        value, kept = b"", ()
    return Output(dead_topic(message.topic), message.key, value, kept + headers)


def _coordinates(message: Message, poison: Poison, now_ms: int) -> tuple[tuple[str, bytes], ...]:
    detail = " ".join(poison.detail.split()).encode()[:DETAIL_LIMIT].decode(errors="ignore")
    facts = {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "timestamp": message.timestamp_ms,
        "reason": poison.reason,
        "detail": detail,
        "at": now_ms,
    }
    return tuple((PREFIX + name, str(value).encode()) for name, value in facts.items())


def _size(key: bytes | None, value: bytes, headers: Headers) -> int:
    framing = 100 + 10 * len(headers)
    return len(key or b"") + len(value) + sum(len(name) + len(data) for name, data in headers) + framing
