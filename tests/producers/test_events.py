"""Which events are good, and the reason of each that is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dotstream.errors import Poison
from producers.events import (
    MAX_CATEGORIES,
    MAX_ID_BYTES,
    TAKEDOWN_VERSION,
    check_engagement,
    check_pin,
    check_save,
    check_tag,
    kind_name,
)
from producers.events_pb2 import EngagementEvent, EventBox, PinEvent, SaveEvent, TagEvent

URL = PinEvent.Image(url="https://example.org/a.jpg")


def pin(**changes: object) -> PinEvent:
    fields: dict[str, object] = {"pin_id": "p1", "kind": PinEvent.KIND_CREATED, "version": 7, "image": URL}
    fields.update({"event_time": 5, **changes})
    return PinEvent(**fields)  # type: ignore[arg-type]


def refused(event: PinEvent, key: bytes | None = None) -> str:
    with pytest.raises(Poison) as caught:
        check_pin(event.pin_id.encode() if key is None else key, event.SerializeToString(), 1)
    assert caught.value.detail
    return caught.value.reason


def test_a_good_pin_passes_as_it_is() -> None:
    assert check_pin(b"p1", pin().SerializeToString(), 99) == pin()


def test_version_falls_back_to_event_time_and_event_time_to_the_record() -> None:
    event = check_pin(b"p1", pin(version=0, event_time=1234).SerializeToString(), 99)
    assert (event.version, event.event_time) == (1234, 1234)
    event = check_pin(b"p1", pin(event_time=0).SerializeToString(), 99)
    assert (event.version, event.event_time) == (7, 99)
    event = check_pin(b"p1", pin(event_time=0).SerializeToString(), -1)
    assert event.event_time == 0


def test_null_value() -> None:
    with pytest.raises(Poison) as caught:
        check_pin(b"p1", None, 1)
    assert caught.value.reason == "null_value"


def test_undecodable() -> None:
    for value in (b"\xff\xff\xff", b"<html>", pin().SerializeToString()[:-1]):
        with pytest.raises(Poison) as caught:
            check_pin(b"p1", value, 1)
        assert caught.value.reason == "undecodable"


def test_key_must_be_the_pin_id() -> None:
    assert refused(pin(), b"other") == "key_mismatch"
    with pytest.raises(Poison) as caught:
        check_pin(None, pin().SerializeToString(), 1)
    assert caught.value.reason == "key_mismatch"


def test_an_unknown_kind_is_told_and_not_guessed() -> None:
    later = pin().SerializeToString() + b"\x10\x63"  # field kind, value 99: from a newer writer
    with pytest.raises(Poison) as caught:
        check_pin(b"p1", later, 1)
    assert caught.value.reason == "unknown_kind"
    assert refused(pin(kind=PinEvent.KIND_UNSPECIFIED)) == "unknown_kind"


def test_fields_of_a_newer_writer_are_left_alone() -> None:
    later = pin().SerializeToString() + b"\xfa\x7f\x01x"  # field 2047, bytes
    assert check_pin(b"p1", later, 1).pin_id == "p1"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (pin(pin_id=""), "missing_pin_id"),
        (pin(version=0, event_time=0), "missing_version"),
        (pin(image=None), "missing_image"),
        (pin(image=PinEvent.Image(inline=b"")), "missing_image"),
        (pin(version=-1), "bad_field"),
        (pin(event_time=-5), "bad_field"),
        (pin(version=TAKEDOWN_VERSION), "bad_field"),
        (pin(pin_id="x" * (MAX_ID_BYTES + 1)), "bad_field"),
        (pin(pin_id="a\nb"), "bad_field"),
        (pin(category_weights={"art": float("nan")}), "bad_field"),
        (pin(category_weights={"art": -0.5}), "bad_field"),
        (pin(category_weights={"": 0.5}), "bad_field"),
        (pin(category_weights={str(n): 1.0 for n in range(MAX_CATEGORIES + 1)}), "bad_field"),
        (pin(image=PinEvent.Image(url="https://x/" + "a" * 9000)), "bad_field"),
    ],
)
def test_reasons(event: PinEvent, reason: str) -> None:
    assert refused(event) == reason


def test_a_delete_needs_no_picture_and_may_be_final() -> None:
    event = PinEvent(pin_id="p", kind=PinEvent.KIND_DELETED, version=TAKEDOWN_VERSION)
    assert check_pin(b"p", event.SerializeToString(), 3).version == TAKEDOWN_VERSION


@given(st.binary(max_size=200))
def test_garbage_is_poison_and_nothing_else(value: bytes) -> None:
    for check in (check_pin, check_save, check_engagement, check_tag):
        try:
            check(b"p1", value, 1)
        except Poison as error:
            assert error.reason


texts = st.text(st.characters(codec="utf-8", min_codepoint=0x80), min_size=1, max_size=20)
floats = st.floats(min_value=0, width=32, allow_nan=False, allow_infinity=False)


@given(
    pin_id=texts,
    version=st.integers(1, TAKEDOWN_VERSION - 1),
    annotations=st.lists(texts),
    weights=st.dictionaries(texts, floats, max_size=MAX_CATEGORIES),
    inline=st.binary(min_size=1),
    event_time=st.integers(1, 2**62),
)
def test_good_pins_round_trip(
    *, pin_id: str, version: int, annotations: list[str], weights: dict[str, float], inline: bytes, event_time: int
) -> None:
    event = PinEvent(
        pin_id=pin_id,
        kind=PinEvent.KIND_UPDATED,
        version=version,
        image=PinEvent.Image(inline=inline),
        annotations=annotations,
        category_weights=weights,
        event_time=event_time,
    )
    assert check_pin(pin_id.encode(), event.SerializeToString(), 0) == event


def test_saves_are_keyed_by_board() -> None:
    event = SaveEvent(pin_id="p", board_id="b", kind=SaveEvent.KIND_SAVED, event_time=4)
    assert check_save(b"b", event.SerializeToString(), 9) == event
    with pytest.raises(Poison, match="key_mismatch"):
        check_save(b"p", event.SerializeToString(), 9)
    with pytest.raises(Poison, match="missing_pin_id: board_id"):
        check_save(b"", SaveEvent(pin_id="p", kind=SaveEvent.KIND_SAVED).SerializeToString(), 9)
    assert (
        check_save(
            b"b", SaveEvent(pin_id="p", board_id="b", kind=SaveEvent.KIND_SAVED).SerializeToString(), 9
        ).event_time
        == 9
    )


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (EngagementEvent(pin_id="p", kind=EngagementEvent.KIND_CROP), "bad_field"),
        (EngagementEvent(pin_id="p", kind=EngagementEvent.KIND_CROP, box=EventBox(x0=0.5, x1=0.5, y1=1)), "bad_field"),
        (EngagementEvent(pin_id="p", kind=EngagementEvent.KIND_CROP, box=EventBox(x1=1.5, y1=1)), "bad_field"),
        (EngagementEvent(pin_id="p", kind=EngagementEvent.KIND_CLICK, position=-1), "bad_field"),
        (EngagementEvent(pin_id="p", kind=EngagementEvent.KIND_CLICK, query_object_index=-1), "bad_field"),
        (EngagementEvent(pin_id="p"), "unknown_kind"),
        (EngagementEvent(pin_id="p", kind=EngagementEvent.KIND_CROP, box=EventBox(x1=0.5, y1=1)), None),
        (EngagementEvent(pin_id="p", kind=EngagementEvent.KIND_LONG_CLICK), None),
    ],
)
def test_engagements(event: EngagementEvent, reason: str | None) -> None:
    expect_reason(lambda: check_engagement(b"p", event.SerializeToString(), 1), reason)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (TagEvent(pin_id="p", kind=TagEvent.KIND_TAGGED), "missing_pin_id"),
        (TagEvent(pin_id="p", kind=TagEvent.KIND_TAGGED, product_pin_id="q", object_index=-2), "bad_field"),
        (TagEvent(pin_id="p", kind=TagEvent.KIND_TAGGED, product_pin_id="q", box=EventBox(x0=1)), "bad_field"),
        (TagEvent(pin_id="p", kind=TagEvent.KIND_UNTAGGED, product_pin_id="q", object_index=0), None),
    ],
)
def test_tags(event: TagEvent, reason: str | None) -> None:
    expect_reason(lambda: check_tag(b"p", event.SerializeToString(), 1), reason)


def expect_reason(check: Callable[[], object], reason: str | None) -> None:
    if reason is None:
        check()
        return
    with pytest.raises(Poison) as caught:
        check()
    assert caught.value.reason == reason


def test_kind_names() -> None:
    assert kind_name(pin()) == "created"
    assert kind_name(SaveEvent(kind=SaveEvent.KIND_UNSAVED)) == "unsaved"
    assert kind_name(EngagementEvent(kind=EngagementEvent.KIND_LONG_CLICK)) == "long_click"
