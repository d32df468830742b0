"""Headers of events: CloudEvents in binary mode, the kind, and W3C trace context."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.headers import (
    child_traceparent,
    event_headers,
    is_traceparent,
    new_traceparent,
    read_header,
    read_kind,
    read_traceparent,
)

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
texts = st.text(st.characters(codec="utf-8"), min_size=1)


def test_one_event_in_full() -> None:
    headers = event_headers(
        "created", "id1", "/shop", "dotstream.pin.created.v1", 1_700_000_000_123, PARENT, subject="p"
    )
    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"id1",
        "ce_source": b"/shop",
        "ce_type": b"dotstream.pin.created.v1",
        "ce_time": b"2023-11-14T22:13:20.123Z",
        "content-type": b"application/protobuf",
        "kind": b"created",
        "ce_subject": b"p",
        "traceparent": PARENT.encode(),
    }


def test_optional_headers_are_left_out() -> None:
    names = [name for name, _ in event_headers("deleted", "i", "/s", "t", 0, None)]
    assert "traceparent" not in names
    assert "ce_subject" not in names
    assert len(names) == len(set(names))


@given(kind=texts, event_id=texts, source=texts, subject=texts)
def test_what_was_written_is_read_back(kind: str, event_id: str, source: str, subject: str) -> None:
    headers = event_headers(kind, event_id, source, "t", 0, PARENT, subject=subject)
    assert read_header(headers, "kind") == kind
    assert read_header(headers, "ce_id") == event_id
    assert read_header(headers, "ce_source") == source
    assert read_header(headers, "ce_subject") == subject
    assert read_traceparent(headers) == PARENT


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC)))
def test_times_are_rfc_3339_to_the_millisecond(when: datetime) -> None:
    since = when - datetime(1970, 1, 1, tzinfo=UTC)
    time_ms = since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000
    text = read_header(event_headers("k", "i", "s", "t", time_ms, None), "ce_time")
    assert text is not None
    assert datetime.fromisoformat(text) == when.replace(microsecond=when.microsecond // 1000 * 1000)


@pytest.mark.parametrize("time_ms", [-(2**63), -1, 2**63 - 1])
def test_times_beyond_the_calendar_do_not_fail(time_ms: int) -> None:
    text = read_header(event_headers("k", "i", "s", "t", time_ms, None), "ce_time")
    assert text is not None
    assert datetime.fromisoformat(text).tzinfo == UTC


def test_the_last_of_repeated_headers_counts() -> None:
    assert read_header([("kind", b"created"), ("kind", b"deleted")], "kind") == "deleted"


def test_absent_null_and_undecodable_headers_read_as_none() -> None:
    assert read_kind(None) is None
    assert read_kind([]) is None
    assert read_kind([("kind", None)]) is None
    assert read_kind([("kind", b"\xff")]) is None
    assert read_kind([("kind", b" Deleted ")]) == "deleted"
    assert read_kind([("kind", "updated")]) == "updated"
    assert read_kind({"kind": b"created"}) == "created"


@given(st.binary() | st.text().map(str.encode))
def test_a_traceparent_is_valid_or_none(value: bytes) -> None:
    found = read_traceparent([("traceparent", value)])
    assert found is None or is_traceparent(found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        PARENT.upper(),
        PARENT + "-more",
        "ff" + PARENT[2:],
    ],
)
def test_bad_traceparents(text: str) -> None:
    assert not is_traceparent(text)
    assert read_traceparent([("traceparent", text.encode())]) is None


def test_a_child_stays_in_its_trace_with_a_span_of_its_own() -> None:
    child = child_traceparent(PARENT)
    assert is_traceparent(child)
    assert child[:36] == PARENT[:36]
    assert child[36:52] != PARENT[36:52]
    assert child[-2:] == "01"


def test_a_child_of_nothing_begins_a_trace() -> None:
    assert is_traceparent(child_traceparent(None))
    assert is_traceparent(child_traceparent("rubbish"))
    assert new_traceparent() != new_traceparent()
    assert new_traceparent(sampled=False).endswith("-00")
