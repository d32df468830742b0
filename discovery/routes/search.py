"""POST /search/flashlight, /search/objects and /lens: by a pin's object or box, or by an uploaded picture."""

from __future__ import annotations

from fastapi import APIRouter, Request

from discovery import questions
from discovery.problems import documented
from discovery.routes.context import Context, Here
from discovery.schemas import AnswerJson, LensJson
from discovery.search import Kind
from discovery.search_schemas import of_answer, of_lens

router = APIRouter(tags=["search"])

RESPONSES = documented(
    "bad-request", "unknown-pin", "unknown-object", "deleted-pin", "request-timeout", "too-large", "wrong-content-type",
    "bad-field", "bad-box", "bad-picture", "bad-watermark", "other-generation", "too-many-requests", "busy", "too-slow",
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


@router.post(
    "/lens",
    response_model_exclude_none=True,
    responses=documented(
        "bad-request", "request-timeout", "too-large", "wrong-content-type", "bad-field", "bad-picture",
        "bad-watermark", "other-generation", "too-many-requests", "busy", "too-slow", "not-yet-indexed", "unavailable",
    ),
    openapi_extra=questions.LENS_OPENAPI,
)  # fmt: skip
async def lens(here: Here, request: Request) -> LensJson:
    """What a photograph is about, and a diverse set of pins that mean the same, blended from several sources."""
    here.admit(request)
    asked = await questions.read_photograph(request)
    await here.reach(asked.indexed_up_to)
    answer = await here.looked(
        lambda: here.lens.look(asked.picture), lambda sight: here.lens.answer(sight, asked.k, asked.filters)
    )
    return of_lens(answer, here.word(answer.watermark))


async def _search(here: Context, request: Request, kind: Kind) -> AnswerJson:
    here.admit(request)
    asked = await questions.read(request)
    await here.reach(asked.indexed_up_to)
    how = asked.asked(here.services.fashion)
    picture, pin_id, search = asked.picture, asked.pin_id or "", here.search
    if picture is None and asked.box is None:
        answer = await here.heavy(lambda: search.by_pin(kind, pin_id, asked.object_index, None, how))
    else:
        answer = await here.looked(
            lambda: search.subject(kind, asked.box, pin_id=pin_id, picture=picture),
            lambda subject: search.answer(kind, subject, how),
        )
    return of_answer(answer, here.word(answer.watermark))
