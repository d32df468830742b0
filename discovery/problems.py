"""Errors of the API as RFC 9457 problem documents: one table from what went wrong to status, type and advice.

Every answer with a status of 400 or more has content type application/problem+json and the members `type`, `title`,
`status`, `detail`, and `instance` (the request's path, where one could be read). `type` is a stable relative reference,
listed in docs/api.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from discovery.boxes import BadBox
from discovery.errors import Problem
from discovery.work import Busy, TooSlow
from dotstream.errors import DotstreamError, Fatal, Poison, Retryable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
NOT_KEPT = frozenset(("picture_missing", "picture_damaged", "picture_ref"))
"""Reasons of the picture store: the asked pin's picture is at fault, not the request."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of problem."""

    slug: str
    status: int
    title: str


KINDS = {
    kind.slug: kind
    for kind in (
        Kind("bad-request", 400, "The request cannot be read"),
        Kind("bad-cursor", 400, "The page's place is not one that this API gave out"),
        Kind("bad-watermark", 400, "indexed_up_to is not one that this API gave out"),
        Kind("takes-no-reports", 403, "This API only reads"),
        Kind("unknown-pin", 404, "No such pin"),
        Kind("unknown-object", 404, "No such object on this pin"),
        Kind("picture-gone", 404, "The pin's picture is not kept"),
        Kind("not-found", 404, "Nothing here"),
        Kind("no-dots-yet", 404, "The pin has no dots yet"),
        Kind("dots-elsewhere", 404, "Dots are decided by another generation"),
        Kind("method-not-allowed", 405, "The method is not allowed here"),
        Kind("request-timeout", 408, "The request was not sent in time"),
        Kind("deleted-pin", 410, "The pin was deleted"),
        Kind("too-large", 413, "The body is too large"),
        Kind("wrong-content-type", 415, "The content type is not taken here"),
        Kind("bad-field", 422, "A field is missing or has a value that is not allowed"),
        Kind("bad-box", 422, "The box cannot be searched"),
        Kind("bad-picture", 422, "The picture cannot be taken"),
        Kind("other-generation", 422, "indexed_up_to is of a generation that is not searched here"),
        Kind("too-many-requests", 429, "Too many requests"),
        Kind("internal", 500, "Something is wrong on this side"),
        Kind("busy", 503, "Too much is being asked at once"),
        Kind("too-slow", 503, "The answer took too long"),
        Kind("not-yet-indexed", 503, "The index has not come so far yet"),
        Kind("unavailable", 503, "A part that this needs is away"),
    )
}


def of(error: Exception) -> Problem:
    """The problem that an error of the parts below amounts to."""
    if isinstance(error, Problem):
        return error
    for kind, problem_of in _MEANINGS:
        if isinstance(error, kind):
            return problem_of(error)
    return Problem("internal", "the request could not be answered; the log says more")


def _of_poison(error: Poison) -> Problem:
    slug = "picture-gone" if error.reason in NOT_KEPT else "bad-picture"
    return Problem(slug, error.detail, {"reason": error.reason})


def _of_fatal(error: Fatal) -> Problem:
    log.error("a request met a fatal error: %s", error)
    return Problem("unavailable", "this process must be looked at; its log says more", retry_after_s=30)


def answer(problem: Problem, path: str | None) -> JSONResponse:
    """The problem as a response; `path` is None where no request could be read."""
    kind = KINDS[problem.slug]
    body = {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        **({} if path is None else {"instance": path}),
        **problem.more,
    }
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    return JSONResponse(body, kind.status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Makes every error that the app knows a problem document; discovery/middleware.py sees to the rest."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        problem = of(error)
        request.app.state.context.metrics.problem(problem.slug)
        return answer(problem, request.url.path)

    for kind in (Problem, BadBox, Busy, TooSlow, DotstreamError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, handle)


def documented(*slugs: str) -> dict[int | str, dict[str, object]]:
    """The `responses` of a route in OpenAPI for these problems."""
    by_status: dict[int | str, list[str]] = {}
    for slug in slugs:
        by_status.setdefault(KINDS[slug].status, []).append(f"{slug}: {KINDS[slug].title}")
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": "; ".join(texts), "content": {MEDIA_TYPE: {"schema": schema}}}
        for status, texts in by_status.items()
    }


def instead_of_fastapis(document: dict[str, Any]) -> None:
    """Puts our problem in place of FastAPI's own answer to bad parameters, which is never given."""
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    ours = documented("bad-field")[422]
    for operation in (each for path in document["paths"].values() for each in path.values()):
        own = operation["responses"].get("422")
        if own is not None and MEDIA_TYPE not in own["content"]:
            operation["responses"]["422"] = ours


def _of_http(error: HTTPException) -> Problem:
    by_status = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 415: "wrong-content-type"}
    if error.status_code >= 500:
        return Problem("internal", HTTPStatus(error.status_code).phrase)
    return Problem(by_status.get(error.status_code, "bad-request"), str(error.detail))


def _of_validation(error: RequestValidationError) -> Problem:
    fields = [
        {"field": ".".join(str(part) for part in fault["loc"]), "message": str(fault["msg"])}
        for fault in error.errors()[:20]
    ]
    slug = "bad-request" if any(fault["type"] == "json_invalid" for fault in error.errors()) else "bad-field"
    return Problem(slug, "; ".join(f"{f['field']}: {f['message']}" for f in fields), {"fields": fields})


_MEANINGS: Sequence[tuple[type[Exception], Callable[[Any], Problem]]] = (
    (BadBox, lambda error: Problem("bad-box", str(error))),
    (Poison, _of_poison),
    (Busy, lambda _: Problem("busy", "try again shortly", retry_after_s=1)),
    (TooSlow, lambda _: Problem("too-slow", "the time limit of this request passed", retry_after_s=RETRY_AFTER_S)),
    (Retryable, lambda error: Problem("unavailable", str(error), retry_after_s=RETRY_AFTER_S)),
    (Fatal, _of_fatal),
    (HTTPException, _of_http),
    (RequestValidationError, _of_validation),
)
