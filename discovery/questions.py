"""Reads a search request's body: JSON about a pin, or a multipart form with a picture.

Both are checked here once; what comes out is plain and within limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from discovery import boxes
from discovery.errors import Problem
from discovery.ports import Box
from discovery.search import MAX_K

FIELD_BYTES = 16_384
JSON_BYTES = 65_536


class ByPin(BaseModel):
    """A search from a pin: a known object, a box, or (neither) its dominant object or whole picture."""

    model_config = ConfigDict(extra="forbid", strict=True, title="SearchByPin")

    pin_id: Annotated[str, Field(min_length=1, max_length=1024)]
    object_index: Annotated[int | None, Field(ge=0, le=2**31 - 1, description="of a known object")] = None
    box: Annotated[list[float] | None, Field(description="x0, y0, x1, y1 in 0..1; instead of object_index")] = None
    k: Annotated[int, Field(ge=1, le=MAX_K, description="results wanted")] = 10
    indexed_up_to: Annotated[str | None, Field(description="of an earlier answer; this one is at least as far")] = None


class ByPicture(BaseModel):
    """The fields of the form beside the picture."""

    model_config = ConfigDict(extra="forbid")

    box: str | None = None
    k: Annotated[int, Field(ge=1, le=MAX_K)] = 10
    indexed_up_to: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A checked request. Either `pin_id` or `picture` is there."""

    pin_id: str | None
    object_index: int | None
    picture: bytes | None
    box: Box | None
    k: int
    indexed_up_to: str | None


OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/SearchByPin"},
                "example": {"pin_id": "pin-1", "object_index": 0, "k": 10},
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "string", "format": "binary", "description": "JPEG, PNG or WebP"},
                        "box": {"type": "string", "description": "x0,y0,x1,y1 in 0..1"},
                        "k": {"type": "integer", "minimum": 1, "maximum": MAX_K, "default": 10},
                        "indexed_up_to": {"type": "string"},
                    },
                }
            },
        },
    }
}


async def read(request: Request) -> Question:
    """The question in a request's body.

    Raises:
        Problem: wrong-content-type, bad-request, bad-field, too-large.
        BadBox: the box cannot be searched.
    """
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type == "application/json":
        return await _of_json(request)
    if content_type == "multipart/form-data":
        return await _of_form(request)
    raise Problem("wrong-content-type", "send application/json, or multipart/form-data with a picture in field image")


async def _of_json(request: Request) -> Question:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > JSON_BYTES:
            raise Problem("too-large", f"a JSON question has at most {JSON_BYTES} bytes", {"limit_bytes": JSON_BYTES})
    try:
        asked = ByPin.model_validate_json(bytes(body))
    except ValidationError as error:
        raise _invalid(error) from None
    box = None if asked.box is None else boxes.check(asked.box)
    if box is not None and asked.object_index is not None:
        raise Problem("bad-field", "give object_index or box, not both")
    return Question(asked.pin_id, asked.object_index, None, box, asked.k, asked.indexed_up_to)


async def _of_form(request: Request) -> Question:
    try:
        async with request.form(max_files=1, max_fields=8, max_part_size=FIELD_BYTES) as form:
            image = form.get("image")
            if not isinstance(image, UploadFile):
                raise Problem("bad-field", "the form has no file in field image")
            picture = await image.read()
            fields = {name: value for name, value in form.items() if name != "image"}
    except HTTPException as error:
        raise Problem("bad-request", f"the form cannot be read: {error.detail}") from None
    except ClientDisconnect:
        raise Problem("bad-request", "the body ended early") from None
    try:
        asked = ByPicture.model_validate(fields)
    except ValidationError as error:
        raise _invalid(error) from None
    box = None if asked.box is None else boxes.parse(asked.box)
    return Question(None, None, picture, box, asked.k, asked.indexed_up_to)


def _invalid(error: ValidationError) -> Problem:
    faults = error.errors(include_url=False, include_context=False, include_input=False)[:20]
    if any(fault["type"] == "json_invalid" for fault in faults):
        return Problem("bad-request", f"the body is not JSON: {faults[0]['msg']}")
    fields = [{"field": ".".join(map(str, fault["loc"])), "message": fault["msg"]} for fault in faults]
    return Problem("bad-field", "; ".join(f"{f['field']}: {f['message']}" for f in fields), {"fields": fields})
