"""What a client may report: what people did with pins, as the events of `engagements` and `saves` say it.

Fields are those of the events (producers/events.proto). Times are the API's own, because clients' clocks are anything.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from discovery import boxes
from discovery.schemas import Model
from producers.events import validate_engagement, validate_save
from producers.events_pb2 import EngagementEvent, EventBox, SaveEvent

Event = EngagementEvent | SaveEvent
MAX_EVENTS = 100
Id = Annotated[str, Field(min_length=1, max_length=512)]
Name = Annotated[str, Field(max_length=512)]
Int32 = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Report(BaseModel):
    """A part of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)


class DoneJson(Report):
    """One thing that a person did with a pin. Without a query it counts for no search."""

    pin_id: Annotated[Id, Field(description="the pin that was seen, clicked or cropped")]
    kind: Literal["impression", "closeup", "click", "long_click", "crop", "save"]
    user_id: Annotated[Name, Field(description="tells people apart; one counts once a day")] = ""
    request_id: Annotated[Name, Field(description="the same for everything in one answer")] = ""
    query_pin_id: Annotated[Name, Field(description="the pin whose answer showed pin_id")] = ""
    query_object_index: Annotated[Int32 | None, Field(description="`object_index` or `on_object` of the query")] = None
    box: Annotated[
        list[float] | None,
        Field(
            description="x0, y0, x1, y1 in 0..1: of a crop, or drawn as the query",
            json_schema_extra={"minItems": 4, "maxItems": 4},
        ),
    ] = None
    position: Annotated[Int32, Field(description="place in the answer, from 0")] = 0

    def event(self, now_ms: int) -> EngagementEvent:
        """The event that says it.

        Raises:
            BadBox: the box is inverted, outside of the picture, or empty.
            Poison: another field breaks the event's contract.
        """
        event = EngagementEvent(
            pin_id=self.pin_id,
            kind=f"KIND_{self.kind.upper()}",
            user_id=self.user_id,
            request_id=self.request_id,
            query_pin_id=self.query_pin_id,
            query_object_index=self.query_object_index,
            position=self.position,
            event_time=now_ms,
        )
        if self.box is not None:
            x0, y0, x1, y1 = boxes.check(self.box)
            event.box.CopyFrom(EventBox(x0=x0, y0=y0, x1=x1, y1=y1))
        validate_engagement(event)
        return event


class EngagementsJson(Report):
    """What people did, in any order."""

    model_config = ConfigDict(extra="forbid", strict=True, title="Engagements")

    events: Annotated[list[DoneJson], Field(min_length=1, max_length=MAX_EVENTS)]

    def told(self, now_ms: int) -> list[EngagementEvent]:
        """The events that say it. Raises as `DoneJson.event`."""
        return [one.event(now_ms) for one in self.events]


class SaveJson(Report):
    """A pin that was put on a board, or taken from it."""

    pin_id: Id
    board_id: Id
    kind: Literal["saved", "unsaved"] = "saved"

    def event(self, now_ms: int) -> SaveEvent:
        """The event that says it. Raises Poison as `DoneJson.event`."""
        kind = f"KIND_{self.kind.upper()}"
        event = SaveEvent(pin_id=self.pin_id, board_id=self.board_id, kind=kind, event_time=now_ms)
        validate_save(event)
        return event


class SavesJson(Report):
    """Saves; of those of one (board, pin) the last counts."""

    model_config = ConfigDict(extra="forbid", strict=True, title="Saves")

    events: Annotated[list[SaveJson], Field(min_length=1, max_length=MAX_EVENTS)]

    def told(self, now_ms: int) -> list[SaveEvent]:
        """The events that say it; as all have one time, only the last of a (board, pin). Raises as `SaveJson.event`."""
        last = {(one.board_id, one.pin_id): one for one in self.events}
        return [one.event(now_ms) for one in last.values()]


class TakenJson(Model):
    """How many events were published.

    The others were of pins that are not live (unknown, or deleted since), or saves that a later one takes back.
    """

    taken: int
    left_out: int
