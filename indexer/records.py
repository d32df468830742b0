"""Object records: their total order, their bytes, and the check that a logged record must pass.

A record enters the index through `decode` (the index worker's edge to topic objects.<generation>); what fails
there is poison and goes to objects.<generation>.dead. Among the records of one pin the greatest `order_of` wins,
whatever the order in which they were logged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from google.protobuf.message import DecodeError

from dotstream.errors import Poison
from indexer.records_pb2 import Code, DetectedObject, ObjectRecord

SHA256_BYTES = 32
MAX_PIN_ID_BYTES = 1024
_SOURCES = frozenset((DetectedObject.SOURCE_DETECTOR, DetectedObject.SOURCE_CROPS))


class Order(NamedTuple):
    """Where a record stands among the records of its pin; comparable, and total.

    By version, then deleted over live, then revision, then content digest; the greater wins.

    Attributes:
        version: int64 > 0.
        deleted: whether the record takes the pin out.
        revision: int32 >= 0, rises when objects from crops join.
        digest: sha256 over the record's canonical bytes, 32 bytes.
    """

    version: int
    deleted: bool
    revision: int
    digest: bytes


def encode(record: ObjectRecord) -> bytes:
    """The record's canonical bytes: protobuf with sorted maps. This is what is logged, stored and digested."""
    canonical: bytes = record.SerializeToString(deterministic=True)
    return canonical


def order_of(record: ObjectRecord, canonical: bytes | None = None) -> Order:
    """The record's place in the total order of its pin's records.

    Args:
        record: a record that passed `decode` or was made here.
        canonical: its `encode`d bytes, when the caller has them already.
    """
    content = encode(record) if canonical is None else canonical
    return Order(record.version, record.deleted, record.revision, sha256(content).digest())


def delete_record(pin_id: str, version: int, generation: str, now_ms: int) -> ObjectRecord:
    """The record that takes a pin out as of `version`; it wins over live records of the same version."""
    return ObjectRecord(
        pin_id=pin_id, version=version, deleted=True, generation=generation, event_time=now_ms, recorded_at=now_ms
    )


def decode(key: bytes | None, value: bytes, *, generation: str, bits: int, feature: str | None = None) -> ObjectRecord:
    """The record that a logged key and value carry, checked.

    Args:
        key: the Kafka record's key, the pin_id in UTF-8.
        value: protobuf bytes of an ObjectRecord. Null values are no records; the caller sees to them.
        generation: the generation whose topic this is.
        bits: width of the searched codes, a multiple of 8.
        feature: name of the searched codes; None leaves it unchecked.

    Raises:
        Poison: `undecodable`, `key_mismatch`, `missing_version`, `wrong_generation`, `wrong_bits` or `bad_field`.
    """
    record = ObjectRecord()
    try:
        record.ParseFromString(value)
    except DecodeError as error:
        raise Poison("undecodable", f"{len(value)} bytes are no ObjectRecord: {error}") from None
    check(record, key, generation=generation, bits=bits, feature=feature)
    return record


def check(record: ObjectRecord, key: bytes | None, *, generation: str, bits: int, feature: str | None = None) -> None:
    """What `decode` checks once the bytes are parsed; raises the same `Poison` reasons."""
    if key is None or record.pin_id.encode() != key:
        raise Poison("key_mismatch", f"key {key!r} is not pin_id {record.pin_id!r}")
    if not 0 < len(key) <= MAX_PIN_ID_BYTES:
        raise Poison("bad_field", f"pin_id has {len(key)} bytes; 1 to {MAX_PIN_ID_BYTES} are allowed")
    if record.version <= 0:
        raise Poison("missing_version", f"version is {record.version}; it must be positive")
    if record.generation != generation:
        raise Poison("wrong_generation", f"record of {record.generation!r} in the topic of {generation!r}")
    if record.revision < 0 or record.recorded_at < 0 or record.event_time < 0:
        raise Poison("bad_field", "revision, recorded_at and event_time must not be negative")
    if not record.deleted:
        _check_live(record, bits, feature)


def _check_live(record: ObjectRecord, bits: int, feature: str | None) -> None:
    if len(record.image_sha256) != SHA256_BYTES:
        raise Poison("bad_field", f"image_sha256 has {len(record.image_sha256)} bytes, not {SHA256_BYTES}")
    if record.image_width < 0 or record.image_height < 0:
        raise Poison("bad_field", f"picture of {record.image_width}x{record.image_height} pixels")
    _check_code(record.codes, bits, feature, None)
    seen: set[int] = set()
    for item in record.objects:
        _check_object(item, seen)
        _check_code(item.codes, bits, feature, item)
    for name, weight in record.category_weights.items():
        if not (name and math.isfinite(weight) and weight >= 0):
            raise Poison("bad_field", f"category_weights[{name!r}] is {weight}")


def _check_object(item: DetectedObject, seen: set[int]) -> None:
    index, box, score = item.index, item.box, item.score
    if index < 0 or index in seen:
        raise Poison("bad_field", f"object index {index} is negative or taken")
    seen.add(index)
    x0, y0, x1, y1 = box.x0, box.y0, box.x1, box.y1
    if not (0 <= x0 <= x1 <= 1 and 0 <= y0 <= y1 <= 1):
        raise Poison("bad_field", f"box of object {index} is ({x0}, {y0}, {x1}, {y1})")
    if not 0 <= score <= 1:
        raise Poison("bad_field", f"score of object {index} is {score}")
    if item.source not in _SOURCES:
        raise Poison("bad_field", f"source of object {index} is {item.source}")


def _check_code(codes: Sequence[Code], bits: int, feature: str | None, item: DetectedObject | None) -> None:
    first = codes[0] if codes else None
    if first is not None and len(first.bits) * 8 == bits and (feature is None or first.feature == feature):
        return
    of = "the whole picture" if item is None else f"object {item.index}"
    if first is None:
        raise Poison("wrong_bits", f"{of} has no code; {bits} bits are searched")
    if len(first.bits) * 8 != bits:
        raise Poison("wrong_bits", f"the code of {of} has {len(first.bits) * 8} bits, not {bits}")
    raise Poison("bad_field", f"the code of {of} is of {first.feature!r}, not {feature!r}")


def searched_codes(record: ObjectRecord) -> list[tuple[int, bytes]]:
    """The codes that the index searches: the whole picture's first, then each object's, in the record's order.

    Returns:
        (object index, code) pairs; -1 stands for the whole picture. Empty for a delete.
    """
    if record.deleted:
        return []
    found = [(-1, record.codes[0].bits)]
    found.extend((item.index, item.codes[0].bits) for item in record.objects)
    return found


def top_category(record: ObjectRecord) -> str | None:
    """The category with the greatest weight; the first by name where weights tie; None without any."""
    weights = record.category_weights
    if len(weights) < 2:
        return next(iter(weights), None)
    return min(weights, key=lambda name: (-weights[name], name))
