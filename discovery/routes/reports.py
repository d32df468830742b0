"""POST /engagements and /saves: what people did, published for clients that have no access to Kafka, as the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request

from discovery import questions
from discovery.errors import Problem
from discovery.problems import documented
from discovery.report_schemas import EngagementsJson, Event, SavesJson, TakenJson
from discovery.routes.context import Context, Here
from dotstream.errors import Poison
from producers.events_pb2 import EngagementEvent

router = APIRouter(tags=["reports"])

RESPONSES = documented(
    "bad-request", "takes-no-reports", "request-timeout", "too-large", "wrong-content-type", "bad-field", "bad-box",
    "too-many-requests", "busy", "too-slow", "unavailable",
)  # fmt: skip


def _body(schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"requestBody": {"required": True, "content": content}}


@router.post("/engagements", status_code=202, responses=RESPONSES, openapi_extra=_body("Engagements"))
async def engagements(here: Here, request: Request) -> TakenJson:
    """What people did with pins: known good results rise, and boxes that many crop become objects."""
    return await _take(here, request, EngagementsJson)


@router.post("/saves", status_code=202, responses=RESPONSES, openapi_extra=_body("Saves"))
async def saves(here: Here, request: Request) -> TakenJson:
    """Pins put on boards or taken from them: what is kept together becomes related."""
    return await _take(here, request, SavesJson)


async def _take(here: Context, request: Request, body: type[EngagementsJson] | type[SavesJson]) -> TakenJson:
    if not here.services.reports.taken:
        raise Problem("takes-no-reports", "the setting api.takes_reports lets it take what people did")
    here.admit(request)
    asked = await questions.read_json(request, body)
    now_ms = here.services.clock.now_ms()
    try:
        events: Sequence[Event] = asked.told(now_ms)
    except Poison as error:
        raise Problem("bad-field", error.detail) from None
    live = await here.read(lambda: _live(here, events))
    taken = [event for event in events if _pins(event) <= live]
    if taken:
        await here.tell(taken)
    return TakenJson(taken=len(taken), left_out=len(asked.events) - len(taken))


def _live(here: Context, events: Sequence[Event]) -> set[str]:
    """Which of the pins that the events name are live."""
    named = sorted(set().union(*(_pins(event) for event in events)))
    here.services.index.refresh()
    entries = here.services.index.pins(named)
    return {entry.record.pin_id for entry in entries if entry is not None and not entry.record.deleted}


def _pins(event: Event) -> set[str]:
    query = event.query_pin_id if isinstance(event, EngagementEvent) else ""
    return {event.pin_id, query} - {""}
