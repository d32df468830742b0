"""GET /events: pins and dots as they arrive, as server-sent events.

    event: hello    once, first: {"generation", "pins", "takes_reports"}; pins: how many live ones
    event: pin      a pin that the index took in, with its dots if it has some (CardJson)
    event: dots     a pin whose dots were decided (CardJson); it may be one of long ago
    event: deleted  {"pin_id"}
    event: size     {"pins"}: how many live ones there are now, at most once a second
    event: reset    something was missed: load the page anew

Ids belong to one process; a client that returns with another's gets `reset`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from starlette.types import Receive, Scope, Send

from discovery.errors import Problem
from discovery.feed import Reader
from discovery.problems import documented
from discovery.routes.context import Context, Here

router = APIRouter(tags=["pins"])

RECONNECT_MS = 1000


class EventStream(StreamingResponse):
    """A stream that gives its reader's place back however it ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], reader: Reader) -> None:
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._reader.close()


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **documented("busy", "unavailable")},
)
async def events(here: Here, last_event_id: Annotated[str | None, Header()] = None) -> EventStream:
    """Pins and dots as they arrive."""
    size = await here.read(here.services.index.size)
    reader = here.feed.open(last_event_id)
    if reader is None:
        raise Problem("busy", f"{here.limits.event_clients} clients are listening already", retry_after_s=5)
    services = here.services
    hello = {"generation": services.index.generation, "pins": size.pins, "takes_reports": services.reports.taken}
    return EventStream(_stream(here, reader, json.dumps(hello)), reader)


async def _stream(here: Context, reader: Reader, hello: str) -> AsyncIterator[bytes]:
    yield format_sse_event(event="hello", data_str=hello, retry=RECONNECT_MS)
    while not here.feed.closed:
        found = await reader.next(here.limits.heartbeat_s)
        for event in found:
            yield format_sse_event(event=event.kind, data_str=event.data, id=event.id)
        if not found:
            yield format_sse_event(comment="still here")
