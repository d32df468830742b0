"""The HTTP API from Python: typed calls for those who ask it from another process. The commands use it.

with Client("http://127.0.0.1:8080") as api:
    answer = api.search_picture(Path("chair.jpg").read_bytes(), k=5)
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from discovery.errors import Problem
from discovery.filters import Preset
from discovery.ports import Box
from discovery.problems import KINDS
from discovery.related.model import Variant
from discovery.related.schemas import RelatedJson
from discovery.report_schemas import DoneJson, EngagementsJson, SaveJson, SavesJson, TakenJson
from discovery.schemas import AnswerJson, DotsJson, HealthJson, LensJson, LineageJson, PageJson, PinJson
from discovery.search import Duplicates, Kind
from dotstream.errors import Misconfigured, Unavailable

LIMIT_S = 15.0
Json = TypeVar("Json", bound=BaseModel)


class Asking(TypedDict, total=False):
    """What every question may say; docs/api.md tells each. What is left out has the API's default."""

    k: int
    annotations: list[str]
    category: str | None
    buyable: bool | None
    indexed_up_to: str | None


class Narrowed(Asking, total=False):
    """What Flashlight and object search may be narrowed by besides."""

    label: str | None
    preset: Preset | None
    duplicates: Duplicates


class Client:
    """A client of one API.

    Every call raises `Problem` with the API's own words, or with the same words for what cannot be asked at all; and
    Unavailable when the API is away or what answers is none. `indexed_up_to` of an answer, given to a later call, makes
    its answer at least as new.

    Args:
        address: "http://host:port", with or without the scheme.
        limit_s: of one call.
    """

    def __init__(self, address: str, *, limit_s: float = LIMIT_S, transport: httpx.BaseTransport | None = None) -> None:
        self.address = address if "://" in address else f"http://{address}"
        try:
            self._http = httpx.Client(base_url=self.address, timeout=limit_s, transport=transport, trust_env=False)
        except httpx.InvalidURL as error:
            raise Misconfigured(f"{address!r} is no address of an API: {error}") from None

    def pin(self, pin_id: str, *, indexed_up_to: str | None = None) -> PinJson:
        """The pin's newest record."""
        return self._get(PinJson, _path(pin_id), indexed_up_to=indexed_up_to)

    def dots(self, pin_id: str) -> DotsJson:
        """The pin's dots."""
        return self._get(DotsJson, _path(pin_id, "/dots"))

    def picture(self, pin_id: str, width: int | None = None) -> bytes:
        """The pin's picture as published, or a JPEG scaled down to about this width."""
        params = {} if width is None else {"width": str(width)}
        return self._answer("GET", _path(pin_id, "/picture"), params=params).content

    def lineage(self, pin_id: str) -> LineageJson:
        """Where the pin is on its way from event to dots."""
        return self._get(LineageJson, _path(pin_id, "/lineage"))

    def related(
        self,
        pin_id: str,
        *,
        k: int = 25,
        variant: Variant = Variant.C,
        explain: bool = False,
        indexed_up_to: str | None = None,
    ) -> RelatedJson:
        """Pins that people keep together with this one, re-ranked."""
        asked = {"k": str(k), "variant": variant.value, "explain": json.dumps(explain), "indexed_up_to": indexed_up_to}
        return self._get(RelatedJson, _path(pin_id, "/related"), **asked)

    def pins(self, limit: int = 60, before: str | None = None, *, indexed_up_to: str | None = None) -> PageJson:
        """Pins, newest first."""
        return self._get(PageJson, "/pins", limit=str(limit), before=before, indexed_up_to=indexed_up_to)

    def search_pin(
        self,
        pin_id: str,
        *,
        kind: Kind = "flashlight",
        object_index: int | None = None,
        box: Box | None = None,
        **narrowed: Unpack[Narrowed],
    ) -> AnswerJson:
        """What is similar to a pin's object or box."""
        asked = {"pin_id": pin_id, "object_index": object_index, "box": box, **narrowed}
        body = {name: value for name, value in asked.items() if value is not None}
        return self._call(AnswerJson, "POST", f"/search/{kind}", json=body)

    def search_picture(
        self, picture: bytes, *, kind: Kind = "flashlight", box: Box | None = None, **narrowed: Unpack[Narrowed]
    ) -> AnswerJson:
        """What is similar to a picture, or to a box of it."""
        return self._posted(AnswerJson, f"/search/{kind}", picture, box, narrowed)

    def engage(self, events: Sequence[DoneJson]) -> TakenJson:
        """Reports what people did with pins."""
        return self._reported("/engagements", EngagementsJson, events)

    def save(self, events: Sequence[SaveJson]) -> TakenJson:
        """Reports pins that were put on boards or taken from them."""
        return self._reported("/saves", SavesJson, events)

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def lens(self, picture: bytes, **asked: Unpack[Asking]) -> LensJson:
        """What a photograph is about, and a diverse set of pins that mean the same."""
        return self._posted(LensJson, "/lens", picture, None, asked)

    def events(self, last_event_id: str | None = None) -> Generator[tuple[str, str, dict[str, Any]], None, None]:
        """(id, kind, data) of pins and dots as they arrive, until the API ends the stream or is away.

        The kinds are those of docs/api.md; `hello` comes first and has no id. Give the last id back to go on there.
        """
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        try:
            with self._http.stream("GET", "/events", headers=headers, timeout=httpx.Timeout(LIMIT_S, read=None)) as got:
                if not got.is_success:
                    got.read()
                    raise self._problem(got)
                yield from _events(got.iter_lines())
        except httpx.RequestError as error:
            raise Unavailable(f"the API at {self.address} is away: {error}") from error
        except (ValueError, TypeError) as error:
            raise self._stranger(f"events that cannot be read: {error}") from None

    def health(self) -> HealthJson:
        """Raises Unavailable when the process does not answer."""
        return self._get(HealthJson, "/healthz")

    def ready(self) -> HealthJson:
        """Raises Problem `unavailable` while index or dots are behind."""
        return self._get(HealthJson, "/readyz")

    def metrics(self) -> str:
        """Prometheus text."""
        return self._answer("GET", "/metrics").text

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        try:
            return dict(self._answer("GET", "/openapi.json").json())
        except (ValueError, TypeError) as error:
            raise self._stranger(f"a document that cannot be read: {error}") from None

    def _posted(self, model: type[Json], path: str, picture: bytes, box: Box | None, asked: Asking | Narrowed) -> Json:
        """The answer to a form with a picture."""
        fields: dict[str, str | list[str]] = {}
        for name, value in asked.items():
            if isinstance(value, list):
                fields[name] = [str(one) for one in value]
            elif value is not None:
                fields[name] = json.dumps(value) if isinstance(value, bool) else str(value)
        if box is not None:
            fields["box"] = ",".join(repr(corner) for corner in box)
        files = {"image": ("picture", picture, "application/octet-stream")}
        return self._call(model, "POST", path, data=fields, files=files)

    def _reported(
        self, path: str, model: type[EngagementsJson] | type[SavesJson], events: Sequence[DoneJson | SaveJson]
    ) -> TakenJson:
        try:
            body = model.model_validate({"events": list(events)})
        except ValidationError as error:
            raise Problem("bad-field", _fault(error)) from None
        return self._call(TakenJson, "POST", path, json=body.model_dump(exclude_none=True))

    def _get(self, model: type[Json], path: str, **asked: str | None) -> Json:
        return self._call(
            model, "GET", path, params={name: value for name, value in asked.items() if value is not None}
        )

    def _call(self, model: type[Json], method: str, path: str, **options: Any) -> Json:
        content = self._answer(method, path, **options).content
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            raise self._stranger(f"no {model.__name__} to {path} ({_fault(error)})") from None

    def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TimeoutException as error:
            raise Unavailable(f"the API at {self.address} did not answer in time: {error}") from error
        except httpx.RequestError as error:
            raise Unavailable(f"the API at {self.address} is away: {error}") from error
        except httpx.InvalidURL as error:
            raise Problem("bad-field", f"it cannot be asked by a URL: {error}") from None
        except UnicodeEncodeError:
            raise Problem("bad-field", "a text that UTF-8 cannot write cannot be asked") from None
        if not response.is_success:
            raise self._problem(response)
        return response

    def _problem(self, response: httpx.Response) -> Exception:
        try:
            body = response.json()
            slug = str(body["type"]).rpartition("/")[2]
            detail = str(body["detail"])
        except (ValueError, KeyError, TypeError):
            return self._stranger(str(response.status_code))
        if slug not in KINDS:
            return Unavailable(f"{self.address} answered {response.status_code}: {detail}")
        after = response.headers.get("Retry-After", "")
        return Problem(slug, detail, body, retry_after_s=int(after) if after.isdecimal() else None)

    def _stranger(self, what: str) -> Unavailable:
        return Unavailable(f"{self.address} answered {what} and is no dotstream API of this version")


def _events(lines: Iterable[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Server-sent events out of their lines; comments are left out."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields:
            yield fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"])
        fields = {}


def _fault(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"


def _path(pin_id: str, rest: str = "") -> str:
    """The path of a pin.

    Raises:
        Problem: bad-field, the id cannot be a part of a URL's path: empty, "." or ".." (clients and proxies on the way
            take these for steps of the path, escaped or not), or no text that UTF-8 can write.
    """
    if pin_id in {"", ".", ".."}:
        raise Problem("bad-field", f"the pin id {pin_id!r} cannot be part of a URL's path; searches take it in a body")
    try:
        return f"/pins/{quote(pin_id, safe='')}{rest}"
    except UnicodeEncodeError:
        raise Problem("bad-field", "a pin id is text that UTF-8 can write") from None
