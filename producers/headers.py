"""What travels beside an event's value: CloudEvents attributes, the event's kind, and the trace it belongs to.

The attributes follow the Kafka protocol binding of CloudEvents 1.0 in binary mode (`ce_` headers in UTF-8, the value is
the data, `content-type` its media type); `traceparent` follows W3C Trace Context. The takedown worker selects by `kind`
without opening the value.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

Headers = list[tuple[str, bytes]]
AnyHeaders = Iterable[tuple[str, bytes | str | None]] | Mapping[str, bytes | str | None] | None
"""Headers as the Kafka client's types describe what it hands out: possibly none, possibly with null values."""

CONTENT_TYPE = "application/protobuf"
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def event_headers(  # noqa: PLR0917  the attributes of CloudEvents, in its own order
    kind: str,
    event_id: str,
    source: str,
    type: str,
    time_ms: int,
    traceparent: str | None,
    *,
    subject: str | None = None,
) -> Headers:
    """The headers of one event.

    Args:
        kind: what happened, in the words of the message's enum: created, updated, deleted; saved, unsaved; …
        event_id: unique among the events of `source`.
        source: who emits, a URI reference.
        type: the event's type, as "dotstream.pin.created.v1".
        time_ms: when it happened, Unix milliseconds.
        traceparent: of the trace that this event belongs to, if any.
        subject: what it happened to, usually the pin's id.
    """
    headers = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_source": source,
        "ce_type": type,
        "ce_time": _rfc3339(time_ms),
        "content-type": CONTENT_TYPE,
        "kind": kind,
    }
    if subject is not None:
        headers["ce_subject"] = subject
    if traceparent is not None:
        headers["traceparent"] = traceparent
    return [(name, value.encode()) for name, value in headers.items()]


def _rfc3339(time_ms: int) -> str:
    """The time in RFC 3339 with milliseconds, in UTC; times outside the years 1 to 9999 become the nearest one."""
    seconds, millis = divmod(min(max(time_ms, -62_135_596_800_000), 253_402_300_799_999), 1000)
    # The fields are exact for any time; a float of seconds would round the milliseconds.
    whole = datetime.fromtimestamp(seconds, UTC)
    return f"{whole.year:04d}-{whole:%m-%dT%H:%M:%S}.{millis:03d}Z"


def read_header(headers: AnyHeaders, name: str) -> str | None:
    """The last header of this name as text; None when there is none or it is not UTF-8."""
    found: bytes | str | None = None
    for key, value in headers.items() if isinstance(headers, Mapping) else headers or ():
        if key == name:
            found = value
    if not isinstance(found, bytes):
        return found
    try:
        return found.decode()
    except UnicodeDecodeError:
        return None


def read_kind(headers: AnyHeaders) -> str | None:
    """The event's kind as its header tells it: lower case, or None when the header is absent or unreadable."""
    kind = read_header(headers, "kind")
    return kind.strip().lower() if kind else None


def read_traceparent(headers: AnyHeaders) -> str | None:
    """The trace context, or None when it is absent or not a valid version 00 value."""
    text = read_header(headers, "traceparent")
    return text if text is not None and is_traceparent(text) else None


def is_traceparent(text: str) -> bool:
    """Whether this is a version 00 traceparent whose trace and parent ids are not all zero."""
    match = _TRACEPARENT.fullmatch(text)
    return match is not None and int(match[1], 16) != 0 and int(match[2], 16) != 0


def new_traceparent(*, sampled: bool = True) -> str:
    """The root of a new trace."""
    return f"00-{_nonzero_hex(16)}-{_nonzero_hex(8)}-{'01' if sampled else '00'}"


def child_traceparent(parent: str | None) -> str:
    """A new span in the trace of `parent`, with its flags; a new trace when `parent` is absent or invalid."""
    match = _TRACEPARENT.fullmatch(parent) if parent is not None and is_traceparent(parent) else None
    return new_traceparent() if match is None else f"00-{match[1]}-{_nonzero_hex(8)}-{match[3]}"


def _nonzero_hex(size: int) -> str:
    text = secrets.token_hex(size)
    return text if int(text, 16) else _nonzero_hex(size)
