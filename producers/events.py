"""What makes an event a good one: the checks that a publisher and every consumer of events share.

Each `check_*` takes a record as it lies in the topic and returns the message with its gaps filled, or raises `Poison`
with the reason under which it goes to the dead letters:

    null_value       the record has no value; deletes are events of their own
    undecodable      the value is not the message
    missing_pin_id   no pin_id (or board_id, or product_pin_id, where one is needed)
    key_mismatch     the record's key is not the id by which the topic is keyed
    missing_version  a pin event with neither version nor event_time
    unknown_kind     no kind, or one that this version does not know
    missing_image    a created or updated pin without a picture
    bad_field        a value outside its range
"""

from __future__ import annotations

import math
import re
from typing import TypeVar

from google.protobuf.message import DecodeError

from dotstream.errors import Poison
from producers.events_pb2 import EngagementEvent, EventBox, PinEvent, SaveEvent, TagEvent

__all__ = [
    "TAKEDOWN_VERSION",
    "EngagementEvent",
    "EventBox",
    "PinEvent",
    "SaveEvent",
    "TagEvent",
    "check_engagement",
    "check_pin",
    "check_save",
    "check_tag",
    "fill_pin",
    "kind_name",
    "validate_engagement",
    "validate_pin",
    "validate_save",
    "validate_tag",
]

TAKEDOWN_VERSION = 2**63 - 1
"""The version of a takedown: no event of the pin comes after it."""

MAX_ID_BYTES = 512
MAX_CATEGORIES = 32
MAX_URL_CHARS = 8192
MAX_TITLE_CHARS = 8192
MAX_ANNOTATIONS = 512
MAX_ANNOTATION_CHARS = 256

Event = PinEvent | SaveEvent | EngagementEvent | TagEvent
_SHORT_ID = MAX_ID_BYTES // 4
"""Characters that fit whatever they are."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PIN_KINDS, _SAVE_KINDS, _ENGAGEMENT_KINDS, _TAG_KINDS = (
    frozenset(kinds.values()) - {0} for kinds in (PinEvent.Kind, SaveEvent.Kind, EngagementEvent.Kind, TagEvent.Kind)
)
_E = TypeVar("_E", PinEvent, SaveEvent, EngagementEvent, TagEvent)


def check_pin(key: bytes | None, value: bytes | None, timestamp_ms: int) -> PinEvent:
    """A record of `pins` or `pins.backfill` as a pin event with its version filled from event_time where it is 0.

    Args:
        key: the record's key.
        value: the record's value.
        timestamp_ms: the record's timestamp; becomes event_time where the event has a version but no time.
    """
    event = _decode(PinEvent(), value)
    validate_pin(event)
    _check_key(key, event.pin_id)
    return fill_pin(event, timestamp_ms)


def fill_pin(event: PinEvent, timestamp_ms: int) -> PinEvent:
    """Fills version from event_time, then event_time from the record's timestamp, where they are 0."""
    event.version = event.version or event.event_time
    event.event_time = event.event_time or max(timestamp_ms, 0)
    return event


def validate_pin(event: PinEvent) -> None:
    """Raises `Poison` unless the event is one that `check_pin` lets through."""
    _check_id("pin_id", event.pin_id)
    _check_kind(_PIN_KINDS, event.kind)
    if event.version < 0:
        raise Poison("bad_field", f"version {event.version} is negative")
    _check_time(event.event_time)
    if event.version == 0 and event.event_time == 0:
        raise Poison("missing_version", "neither version nor event_time is set")
    deleted = event.kind == PinEvent.KIND_DELETED
    if event.version == TAKEDOWN_VERSION and not deleted:
        raise Poison("bad_field", f"version {TAKEDOWN_VERSION} is a takedown's, the event is not a delete")
    if not deleted and not (event.image.url or event.image.inline):
        raise Poison("missing_image", "a created or updated pin needs image.url or image.inline")
    _check_length("image.url", event.image.url, MAX_URL_CHARS)
    _check_length("link", event.link, MAX_URL_CHARS)
    _check_length("title", event.title, MAX_TITLE_CHARS)
    _check_length("board_id", event.board_id, MAX_ID_BYTES)
    if len(event.annotations) > MAX_ANNOTATIONS:
        raise Poison("bad_field", f"{len(event.annotations)} annotations, {MAX_ANNOTATIONS} at most")
    for annotation in event.annotations:
        _check_length("an annotation", annotation, MAX_ANNOTATION_CHARS)
    _check_categories(event)


def _check_length(name: str, value: str, most: int) -> None:
    if len(value) > most:
        raise Poison("bad_field", f"{name} has {len(value)} characters, {most} at most")


def _check_categories(event: PinEvent) -> None:
    if len(event.category_weights) > MAX_CATEGORIES:
        raise Poison("bad_field", f"{len(event.category_weights)} category_weights, {MAX_CATEGORIES} at most")
    for name, weight in event.category_weights.items():
        if not name or not math.isfinite(weight) or weight < 0:
            raise Poison(
                "bad_field", f"category_weights[{name!r}] is {weight}; names are not empty, weights at least 0"
            )


def check_save(key: bytes | None, value: bytes | None, timestamp_ms: int) -> SaveEvent:
    """A record of `saves`, keyed by board_id; event_time is filled from the record's timestamp where it is 0."""
    event = _decode(SaveEvent(), value)
    validate_save(event)
    _check_key(key, event.board_id)
    return _timed(event, timestamp_ms)


def validate_save(event: SaveEvent) -> None:
    """Raises `Poison` unless the event is one that `check_save` lets through."""
    _check_id("pin_id", event.pin_id)
    _check_id("board_id", event.board_id)
    _check_kind(_SAVE_KINDS, event.kind)
    _check_time(event.event_time)


def check_engagement(key: bytes | None, value: bytes | None, timestamp_ms: int) -> EngagementEvent:
    """A record of `engagements`, keyed by pin_id; event_time is filled from the record's timestamp where it is 0."""
    event = _decode(EngagementEvent(), value)
    validate_engagement(event)
    _check_key(key, event.pin_id)
    return _timed(event, timestamp_ms)


def validate_engagement(event: EngagementEvent) -> None:
    """Raises `Poison` unless the event is one that `check_engagement` lets through."""
    _check_id("pin_id", event.pin_id)
    _check_kind(_ENGAGEMENT_KINDS, event.kind)
    _check_time(event.event_time)
    if event.kind == EngagementEvent.KIND_CROP and not event.HasField("box"):
        raise Poison("bad_field", "a crop needs its box")
    if event.HasField("box"):
        _check_box(event.box)
    if event.position < 0 or event.query_object_index < 0:
        raise Poison("bad_field", f"position {event.position} or query_object_index is negative")


def check_tag(key: bytes | None, value: bytes | None, timestamp_ms: int) -> TagEvent:
    """A record of `tags`, keyed by pin_id; event_time is filled from the record's timestamp where it is 0."""
    event = _decode(TagEvent(), value)
    validate_tag(event)
    _check_key(key, event.pin_id)
    return _timed(event, timestamp_ms)


def validate_tag(event: TagEvent) -> None:
    """Raises `Poison` unless the event is one that `check_tag` lets through."""
    _check_id("pin_id", event.pin_id)
    _check_id("product_pin_id", event.product_pin_id)
    _check_kind(_TAG_KINDS, event.kind)
    _check_time(event.event_time)
    if event.HasField("box"):
        _check_box(event.box)
    if event.object_index < 0:
        raise Poison("bad_field", f"object_index {event.object_index} is negative")


def kind_name(event: Event) -> str:
    """The event's kind in lower case without its prefix: created, unsaved, long_click."""
    return event.Kind.Name(event.kind).removeprefix("KIND_").lower()


def _decode(message: _E, value: bytes | None) -> _E:
    if value is None:
        raise Poison("null_value", "the record has no value")
    try:
        message.ParseFromString(value)
    except DecodeError as error:
        raise Poison("undecodable", f"{len(value)} bytes are not a {message.DESCRIPTOR.full_name}: {error}") from error
    return message


def _check_key(key: bytes | None, expected: str) -> None:
    if key != expected.encode():
        shown = "missing" if key is None else repr(key[:80])
        raise Poison("key_mismatch", f"the record's key is {shown}, the event's id {expected[:80]!r}")


def _check_id(name: str, value: str) -> None:
    if not value:
        raise Poison("missing_pin_id", f"{name} is empty")
    if len(value) > _SHORT_ID and len(value.encode()) > MAX_ID_BYTES:
        raise Poison("bad_field", f"{name} has {len(value.encode())} bytes, {MAX_ID_BYTES} at most")
    if not value.isprintable() and _CONTROL.search(value):  # the first is quick, and no control character is printable
        raise Poison("bad_field", f"{name} {value[:80]!r} holds control characters")


def _check_kind(known: frozenset[int], kind: int) -> None:
    if kind not in known:
        raise Poison("unknown_kind", f"kind {kind} is not one of {sorted(known)}")


def _check_time(event_time: int) -> None:
    if event_time < 0:
        raise Poison("bad_field", f"event_time {event_time} is negative")


def _check_box(box: EventBox) -> None:
    if not (0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1):
        raise Poison("bad_field", f"box ({box.x0}, {box.y0}, {box.x1}, {box.y1}) is not within 0..1, or is empty")


_T = TypeVar("_T", SaveEvent, EngagementEvent, TagEvent)


def _timed(event: _T, timestamp_ms: int) -> _T:
    event.event_time = event.event_time or max(timestamp_ms, 0)
    return event
