"""GET /pins and what lies below a pin: its record, its dots, its picture, its way through the stream."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response

from discovery import cursor
from discovery import lineage as lines
from discovery.errors import Problem
from discovery.problems import documented
from discovery.routes.context import Context, Here
from discovery.schemas import (
    DeadLetterJson,
    DotsJson,
    LineageJson,
    PageJson,
    PinJson,
    StageJson,
    of_card,
    of_dots,
    of_pin,
)
from discovery.thumbnails import snapped

router = APIRouter(tags=["pins"])

PinId = Annotated[str, Path(min_length=1, max_length=1024, description="UTF-8; percent-encoded in the path")]
IndexedUpTo = Annotated[
    str | None, Query(description="Answer only from an index that is at least as far as an earlier answer was")
]
# A stored picture that is opened by itself may do nothing at all.
PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
REVALIDATE = "private, no-cache"


@router.get("/pins", response_model_exclude_none=True, responses=documented("bad-cursor", "bad-field", "unavailable"))
async def pins(
    here: Here,
    limit: Annotated[int, Query(ge=1, le=200)] = 60,
    before: Annotated[str | None, Query(max_length=2048, description="`next` of an earlier page")] = None,
    indexed_up_to: IndexedUpTo = None,
) -> PageJson:
    """Pins, newest record first, each with its dots once it has some."""
    await here.reach(indexed_up_to)
    return await here.read(lambda: _page(here, limit, before))


@router.get(
    "/pins/{pin_id:part}/dots",
    response_model=DotsJson,
    responses=documented("bad-request", "unknown-pin", "no-dots-yet", "dots-elsewhere", "deleted-pin", "unavailable"),
)
async def dots(here: Here, pin_id: PinId, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """The pin's dots, shown and suppressed, with signals and reasons. Has an ETag."""
    found = await here.pin(pin_id)
    record, only = here.services.dots.get(pin_id), here.services.dots.only
    if only is not None and (record is None or record.deleted):
        raise Problem("dots-elsewhere", lines.undecided_beside(only))
    if record is None or record.deleted:
        raise Problem("no-dots-yet", "the pin is searchable; its dots are still to be decided", retry_after_s=1)
    tag = f'"{record.generation}.{record.version}.{record.epoch}.{record.decision}"'
    headers = {"ETag": tag, "Cache-Control": REVALIDATE}
    if _matches(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    answer = of_dots(record, lines.scores_of(found.record, record))
    return Response(answer.model_dump_json(exclude_none=True), headers=headers, media_type="application/json")


@router.get(
    "/pins/{pin_id:part}/picture",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {}, "image/png": {}, "image/webp": {}}},
        **documented("bad-request", "unknown-pin", "picture-gone", "deleted-pin", "unavailable"),
    },
)
async def picture(
    here: Here,
    pin_id: PinId,
    width: Annotated[int | None, Query(ge=16, le=1920, description="scaled down to about this width, as JPEG")] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The pin's picture as it was published, or scaled down and upright."""
    record = (await here.pin(pin_id)).record
    tag = f'"{record.image_sha256.hex()}.{snapped(width) if width else 0}"'
    headers = {"ETag": tag, "Cache-Control": REVALIDATE, "Content-Security-Policy": PICTURE_POLICY}
    if _matches(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    if width is None:
        data, media_type = await here.fetch(lambda: here.thumbnails.original(record.image_ref))
    else:
        data, media_type = await here.fetch(lambda: here.thumbnails.scaled(record.image_ref, width))
    return Response(data, media_type=media_type, headers=headers)


@router.get(
    "/pins/{pin_id:part}/lineage",
    response_model_exclude_none=True,
    responses=documented("bad-request", "bad-field", "unavailable"),
)
async def lineage(here: Here, pin_id: PinId) -> LineageJson:
    """Where the pin is on its way from event to dots, or where and why it stopped. Answers for any pin_id."""
    services = here.services
    found = await here.trace(
        lambda: lines.trace(pin_id, index=services.index, dots=services.dots, dead=services.dead_letters)
    )
    return _lineage(here, found)


@router.get(
    "/pins/{pin_id:part}",
    response_model_exclude_none=True,
    responses=documented(
        "bad-request", "unknown-pin", "deleted-pin", "bad-watermark", "not-yet-indexed", "unavailable"
    ),
)
async def pin(here: Here, pin_id: PinId, indexed_up_to: IndexedUpTo = None) -> PinJson:
    """The pin's newest record: its objects, its picture's size and colours, and the pin's own fields."""
    await here.reach(indexed_up_to)
    return of_pin((await here.pin(pin_id)).record)


def _page(here: Context, limit: int, before: str | None) -> PageJson:
    index = here.services.index
    offsets = index.refresh()
    try:
        place = None if before is None else cursor.read(before)
    except ValueError as error:
        raise Problem("bad-cursor", str(error)) from None
    # One more than wanted tells whether there is a next page.
    records = [entry.record for entry in index.newest(limit + 1, place)]
    cards = [of_card(record, here.services.dots.get(record.pin_id)) for record in records[:limit]]
    last = records[limit - 1] if len(records) > limit else None
    behind = None if last is None else cursor.write((last.recorded_at, last.pin_id))
    return PageJson(pins=cards, next=behind, indexed_up_to=here.word(offsets))


def _matches(if_none_match: str | None, tag: str) -> bool:
    if if_none_match is None:
        return False
    given = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return tag in given or "*" in given


def _lineage(here: Context, found: lines.Lineage) -> LineageJson:
    start = found.event_time
    return LineageJson(
        pin_id=found.pin_id,
        state=found.state,
        summary=found.summary,
        stages=[
            StageJson(
                stage=stage.name,
                state=stage.state,
                at=None if stage.at is None else str(stage.at),
                after_ms=None if stage.at is None or start is None else str(stage.at - start),
                detail=stage.detail,
            )
            for stage in found.stages
        ],
        dots=None if found.dots is None else of_dots(found.dots, found.scores),
        witnesses=None if found.dots is None else list(found.witnesses),
        dead_letters=[
            DeadLetterJson(
                topic=letter.topic,
                partition=letter.partition,
                offset=str(letter.offset),
                reason=letter.reason,
                detail=letter.detail,
                event_timestamp=str(letter.event_timestamp),
                dead_at=str(letter.dead_at),
            )
            for letter in found.dead_letters
        ],
        dead_letters_checked=found.dead_letters_checked,
        dead_letters_limit=found.dead_letters_limit,
        indexed_up_to=here.word(found.watermark),
    )
