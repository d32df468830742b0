"""POST /search/flashlight and POST /search/objects: by a pin's object or box, or by an uploaded picture."""

from __future__ import annotations

from fastapi import APIRouter, Request

from discovery import questions
from discovery.boxes import of_message
from discovery.ports import Hit
from discovery.problems import documented
from discovery.routes.context import Context, Here
from discovery.schemas import AnnotationJson, AnswerJson, QueryJson, QueryObjectJson, ResultJson
from discovery.search import Answer, Kind

router = APIRouter(tags=["search"])

WHOLE = (0.0, 0.0, 1.0, 1.0)
RESPONSES = documented(
    "bad-request", "unknown-pin", "unknown-object", "deleted-pin", "too-large", "wrong-content-type", "bad-field",
    "bad-box", "bad-picture", "bad-watermark", "other-generation", "too-many-requests", "busy", "too-slow",
    "not-yet-indexed", "unavailable",
)  # fmt: skip


@router.post(
    "/search/flashlight",
    response_model_exclude_none=True,
    responses=RESPONSES,
    openapi_extra=questions.OPENAPI,
)
async def flashlight(here: Here, request: Request) -> AnswerJson:
    """What looks like this, whole pictures and objects together, with annotations to narrow it down."""
    return await _search(here, request, "flashlight")


@router.post(
    "/search/objects",
    response_model_exclude_none=True,
    responses=RESPONSES,
    openapi_extra=questions.OPENAPI,
)
async def objects(here: Here, request: Request) -> AnswerJson:
    """Scenes that hold an object like this one; empty when the query holds no object and no box was drawn."""
    return await _search(here, request, "objects")


async def _search(here: Context, request: Request, kind: Kind) -> AnswerJson:
    here.admit(request)
    asked = await questions.read(request)
    await here.reach(asked.indexed_up_to)
    picture, pin_id = asked.picture, asked.pin_id
    if picture is not None:
        answer = await here.heavy(lambda: here.search.by_picture(kind, picture, asked.box, asked.k))
    else:
        answer = await here.heavy(
            lambda: here.search.by_pin(kind, pin_id or "", asked.object_index, asked.box, asked.k)
        )
    return _json(here, answer)


def _json(here: Context, answer: Answer) -> AnswerJson:
    query = answer.query
    seen = query.objects
    return AnswerJson(
        results=[_result(hit) for hit in answer.results],
        annotations=[AnnotationJson(annotation=name, score=score) for name, score in answer.annotations],
        indexed_up_to=here.word(answer.watermark),
        query=QueryJson(
            pin_id=query.pin_id,
            object_index=query.object_index,
            box=query.box,
            label=query.label,
            objects=None
            if seen is None
            else [QueryObjectJson(box=one.box, label=one.label, score=one.score) for one in seen],
            inference=query.inference,
        ),
    )


def _result(hit: Hit) -> ResultJson:
    record = hit.record
    item = next((item for item in record.objects if item.index == hit.object_index), None)
    return ResultJson(
        pin_id=hit.pin_id,
        object_index=None if item is None else item.index,
        box=WHOLE if item is None else of_message(item.box),
        label=None if item is None else item.label,
        distance=hit.distance,
        similarity=hit.similarity,
        title=record.title,
        annotations=list(record.annotations),
        image_width=record.image_width,
        image_height=record.image_height,
    )
