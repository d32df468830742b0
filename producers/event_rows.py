"""One row of a log of saves, engagements or tags as an event, as producers/rows.py does it for pins.

    saves        pin_id, board_id, kind (saved unless given | unsaved), event_time
    engagements  pin_id, kind (impression | closeup | click | long_click | crop | save), user_id, request_id,
                 query_pin_id, query_object_index, box (x0,y0,x1,y1 or a list), position, event_time
    tags         pin_id, product_pin_id, kind (tagged unless given | untagged), object_index or box, expert_id,
                 event_time

Numbers may be text. event_time is Unix milliseconds; a row without one gets the time of its publication.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dotstream.errors import Poison
from producers.events import validate_engagement, validate_save, validate_tag
from producers.events_pb2 import EngagementEvent, EventBox, SaveEvent, TagEvent
from producers.rows import integer, text

SAVE_COLUMNS = frozenset({"pin_id", "board_id", "kind", "event_time"})
ENGAGEMENT_COLUMNS = frozenset(
    {
        "pin_id",
        "kind",
        "user_id",
        "request_id",
        "query_pin_id",
        "query_object_index",
        "box",
        "position",
        "event_time",
    }
)
TAG_COLUMNS = frozenset({"pin_id", "product_pin_id", "kind", "object_index", "box", "expert_id", "event_time"})

MAX_INT32 = 2**31 - 1


def save_from_row(row: Mapping[str, object], now_ms: Callable[[], int]) -> SaveEvent:
    """The save event of a row.

    Raises:
        Poison: the row is not a good event; `detail` says why.
    """
    _known(row, SAVE_COLUMNS)
    event = SaveEvent(
        pin_id=text(row, "pin_id"),
        board_id=text(row, "board_id"),
        kind=_kind(SaveEvent.Kind.keys(), text(row, "kind") or "saved"),
        event_time=integer(row, "event_time") or now_ms(),
    )
    validate_save(event)
    return event


def engagement_from_row(row: Mapping[str, object], now_ms: Callable[[], int]) -> EngagementEvent:
    """The engagement event of a row; raises as `save_from_row`."""
    _known(row, ENGAGEMENT_COLUMNS)
    event = EngagementEvent(
        pin_id=text(row, "pin_id"),
        kind=_kind(EngagementEvent.Kind.keys(), text(row, "kind")),
        user_id=text(row, "user_id"),
        request_id=text(row, "request_id"),
        query_pin_id=text(row, "query_pin_id"),
        box=_box(row.get("box")),
        position=integer(row, "position", MAX_INT32),
        event_time=integer(row, "event_time") or now_ms(),
    )
    if row.get("query_object_index") not in (None, ""):
        event.query_object_index = integer(row, "query_object_index", MAX_INT32)
    validate_engagement(event)
    return event


def tag_from_row(row: Mapping[str, object], now_ms: Callable[[], int]) -> TagEvent:
    """The tag event of a row; raises as `save_from_row`."""
    _known(row, TAG_COLUMNS)
    event = TagEvent(
        pin_id=text(row, "pin_id"),
        product_pin_id=text(row, "product_pin_id"),
        kind=_kind(TagEvent.Kind.keys(), text(row, "kind") or "tagged"),
        box=_box(row.get("box")),
        expert_id=text(row, "expert_id"),
        event_time=integer(row, "event_time") or now_ms(),
    )
    if row.get("object_index") not in (None, ""):
        event.object_index = integer(row, "object_index", MAX_INT32)
    validate_tag(event)
    return event


def _known(row: Mapping[str, object], columns: frozenset[str]) -> None:
    unknown = sorted(str(name) for name in row if name not in columns)
    if unknown:
        raise _bad(f"unknown column {', '.join(unknown)} (known: {', '.join(sorted(columns))})")


def _kind(names: Sequence[str], word: str) -> str:
    """The kind's name in the message."""
    name = f"KIND_{word.upper()}"
    if name not in names[1:]:
        known = ", ".join(known.removeprefix("KIND_").lower() for known in names[1:])
        raise _bad(f"kind is {word!r}; there are {known}")
    return name


def _box(value: object) -> EventBox | None:
    if value in (None, ""):
        return None
    corners = value.split(",") if isinstance(value, str) else value
    try:
        x0, y0, x1, y1 = (float(corner) for corner in corners)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise _bad(f"box is {value!r}, x0,y0,x1,y1 is needed") from error
    return EventBox(x0=x0, y0=y0, x1=x1, y1=y1)


def _bad(detail: str) -> Poison:
    return Poison("bad_row", detail)
