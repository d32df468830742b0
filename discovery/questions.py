"""Reads a search request's body: JSON about a pin, or a multipart form with a picture.

Both are checked here once; what comes out is plain and within limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from discovery import boxes
from discovery.errors import Problem
from discovery.filters import Filters, Group, Preset, filters_of
from discovery.ports import Box
from discovery.search import MAX_K, Asked, Duplicates

FIELD_BYTES = 16_384
JSON_BYTES = 65_536
MAX_FIELDS = 40
LISTS = ("annotations",)
Form = TypeVar("Form", bound=BaseModel)
Word = Annotated[str, Field(min_length=1, max_length=256)]


class Asking(BaseModel):
    """What every question may say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    k: Annotated[int, Field(ge=1, le=MAX_K, description="results wanted")] = 10
    annotations: Annotated[
        list[Word], Field(max_length=20, description="results carry all of these; those of an answer narrow it down")
    ] = []
    category: Annotated[Word | None, Field(description="top category of the results' pins")] = None
    buyable: Annotated[bool | None, Field(description="whether results can be bought")] = None
    indexed_up_to: Annotated[
        str | None, Field(max_length=8192, description="of an earlier answer; this one is at least as far")
    ] = None


class Narrowed(Asking):
    """What Flashlight and object search may be narrowed by besides."""

    label: Annotated[Word | None, Field(description="of the object; leaves whole pictures out")] = None
    preset: Annotated[
        Literal["similar_looks", "shop_the_look"] | None,
        Field(description="similar_looks: fashion only; shop_the_look: buyable only, experts' products first"),
    ] = None
    duplicates: Annotated[
        Literal["group", "keep"], Field(description="group: near-copies are named by the best of them")
    ] = "group"


class ByPin(Narrowed):
    """A search from a pin: a known object, a box, or (neither) its dominant object or whole picture."""

    model_config = ConfigDict(extra="forbid", strict=True, title="SearchByPin")

    pin_id: Annotated[str, Field(min_length=1, max_length=1024)]
    object_index: Annotated[int | None, Field(ge=0, le=2**31 - 1, description="of a known object")] = None
    box: Annotated[
        list[float] | None,
        Field(
            description="x0, y0, x1, y1 in 0..1; instead of object_index",
            json_schema_extra={"minItems": 4, "maxItems": 4},
        ),
    ] = None


class ByPicture(Narrowed):
    """The fields of the form beside the picture. Forms carry text, so that numbers and words are read from it."""

    model_config = ConfigDict(extra="forbid", strict=False, title="SearchByPicture")

    box: Annotated[str | None, Field(description="x0,y0,x1,y1 in 0..1")] = None


class ByLens(Asking):
    """The fields of Lens's form beside the picture."""

    model_config = ConfigDict(extra="forbid", strict=False, title="Lens")


@dataclass(frozen=True, slots=True)
class Photograph:
    """A checked request to Lens."""

    picture: bytes
    k: int
    filters: Filters
    indexed_up_to: str | None


@dataclass(frozen=True, slots=True)
class Question:
    """A checked request. Either `pin_id` or `picture` is there."""

    pin_id: str | None
    object_index: int | None
    picture: bytes | None
    box: Box | None
    k: int
    annotations: frozenset[str]
    category: str | None
    label: str | None
    buyable: bool | None
    preset: Preset | None
    duplicates: Duplicates
    indexed_up_to: str | None

    def asked(self, fashion: Group) -> Asked:
        """How it is to be searched; `fashion` is what Similar Looks means."""
        filters = filters_of(
            self.preset,
            annotations=self.annotations,
            category=self.category,
            label=self.label,
            buyable=self.buyable,
            fashion=fashion,
        )
        return Asked(self.k, filters, self.duplicates)


def _form_schema(model: type[BaseModel]) -> dict[str, Any]:
    fields = dict(model.model_json_schema()["properties"])
    image = {"type": "string", "format": "binary", "description": "JPEG, PNG or WebP"}
    return {
        "type": "object",
        "required": ["image"],
        "additionalProperties": False,
        "properties": {"image": image, **fields},
    }


FORM: dict[str, Any] = {"multipart/form-data": {"schema": _form_schema(ByPicture)}}
OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/SearchByPin"},
                "example": {"pin_id": "pin-1", "object_index": 0, "k": 10},
            },
            **FORM,
        },
    }
}
LENS_OPENAPI: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _form_schema(ByLens)}}}
}


async def read(request: Request) -> Question:
    """The question in a request's body.

    Raises:
        Problem: wrong-content-type, bad-request, bad-field (also where preset and `buyable` contradict), too-large.
        BadBox: the box cannot be searched.
    """
    kind = _content_type(request)
    if kind == "application/json":
        return await _of_json(request)
    if kind == "multipart/form-data":
        return await _of_form(request)
    raise Problem("wrong-content-type", "send application/json, or multipart/form-data with a picture in field image")


async def read_photograph(request: Request) -> Photograph:
    """The question to Lens in a request's body. Raises as `read`."""
    if _content_type(request) != "multipart/form-data":
        raise Problem("wrong-content-type", "send multipart/form-data with a picture in field image")
    picture, fields = await _form(request)
    asked = _fields(ByLens, fields)
    filters = Filters(frozenset(asked.annotations), category=asked.category, buyable=asked.buyable)
    return Photograph(picture, asked.k, filters, asked.indexed_up_to)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def read_json(request: Request, model: type[Form]) -> Form:
    """A JSON body as this model. A page of another site cannot send one unasked, as it can a form or a text.

    Raises:
        Problem: wrong-content-type, too-large, bad-request, bad-field.
    """
    if _content_type(request) != "application/json":
        raise Problem("wrong-content-type", "send application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > JSON_BYTES:
            raise Problem("too-large", f"a JSON body has at most {JSON_BYTES} bytes", {"limit_bytes": JSON_BYTES})
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise _invalid(error) from None


async def _of_json(request: Request) -> Question:
    asked = await read_json(request, ByPin)
    box = None if asked.box is None else boxes.check(asked.box)
    if box is not None and asked.object_index is not None:
        raise Problem("bad-field", "give object_index or box, not both")
    return _question(asked, pin_id=asked.pin_id, object_index=asked.object_index, picture=None, box=box)


async def _of_form(request: Request) -> Question:
    picture, fields = await _form(request)
    asked = _fields(ByPicture, fields)
    box = None if asked.box is None else boxes.parse(asked.box)
    return _question(asked, pin_id=None, object_index=None, picture=picture, box=box)


async def _form(request: Request) -> tuple[bytes, dict[str, object]]:
    """The picture and the other fields of a form."""
    try:
        async with request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=FIELD_BYTES) as form:
            image = form.get("image")
            if not isinstance(image, UploadFile):
                raise Problem("bad-field", "the form has no file in field image")
            picture = await image.read()
            fields: dict[str, object] = {
                name: form.getlist(name) if name in LISTS else form.get(name) for name in form if name != "image"
            }
    except HTTPException as error:
        raise Problem("bad-request", f"the form cannot be read: {error.detail}") from None
    except ClientDisconnect:
        raise Problem("bad-request", "the body ended early") from None
    return picture, fields


def _fields(model: type[Form], fields: Mapping[str, object]) -> Form:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _invalid(error) from None


def _question(
    asked: Narrowed, *, pin_id: str | None, object_index: int | None, picture: bytes | None, box: Box | None
) -> Question:
    if asked.preset == "shop_the_look" and asked.buyable is False:
        message = "shop_the_look answers buyable pins only; leave buyable out, or the preset"
        raise Problem("bad-field", f"buyable: {message}", {"fields": [{"field": "buyable", "message": message}]})
    return Question(
        pin_id=pin_id,
        object_index=object_index,
        picture=picture,
        box=box,
        k=asked.k,
        annotations=frozenset(asked.annotations),
        category=asked.category,
        label=asked.label,
        buyable=asked.buyable,
        preset=asked.preset,
        duplicates=asked.duplicates,
        indexed_up_to=asked.indexed_up_to,
    )


def _invalid(error: ValidationError) -> Problem:
    faults = error.errors(include_url=False, include_context=False, include_input=False)[:20]
    if any(fault["type"] == "json_invalid" for fault in faults):
        return Problem("bad-request", f"the body is not JSON: {faults[0]['msg']}")
    fields = [{"field": ".".join(map(str, fault["loc"])), "message": fault["msg"]} for fault in faults]
    return Problem("bad-field", "; ".join(f"{f['field']}: {f['message']}" for f in fields), {"fields": fields})
