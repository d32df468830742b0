"""The HTTP API from Python: typed calls for those who ask it from another process. The commands use it.

with Client("http://127.0.0.1:8080") as api:
    answer = api.search_picture(Path("chair.jpg").read_bytes(), k=5)
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypedDict, Unpack
from urllib.parse import quote

import httpx

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
    """A client of one API. Every call raises `Problem` with the API's own words, or Unavailable when it is away.

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

    def pin(self, pin_id: str) -> PinJson:
        """The pin's newest record."""
        return PinJson.model_validate(self._get(_path(pin_id)))

    def dots(self, pin_id: str) -> DotsJson:
        """The pin's dots."""
        return DotsJson.model_validate(self._get(_path(pin_id, "/dots")))

    def picture(self, pin_id: str, width: int | None = None) -> bytes:
        """The pin's picture as published, or a JPEG scaled down to about this width."""
        params = {} if width is None else {"width": str(width)}
        return self._answer("GET", _path(pin_id, "/picture"), params=params).content

    def lineage(self, pin_id: str) -> LineageJson:
        """Where the pin is on its way from event to dots."""
        return LineageJson.model_validate(self._get(_path(pin_id, "/lineage")))

    def related(self, pin_id: str, *, k: int = 25, variant: Variant = Variant.C, explain: bool = False) -> RelatedJson:
        """Pins that people keep together with this one, re-ranked."""
        params = {"k": str(k), "variant": variant.value, "explain": json.dumps(explain)}
        return RelatedJson.model_validate(self._get(_path(pin_id, "/related"), params))

    def pins(self, limit: int = 60, before: str | None = None) -> PageJson:
        """Pins, newest first."""
        params = {"limit": str(limit), **({} if before is None else {"before": before})}
        return PageJson.model_validate(self._get("/pins", params))

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
        return AnswerJson.model_validate(self._call("POST", f"/search/{kind}", json=body))

    def search_picture(
        self, picture: bytes, *, kind: Kind = "flashlight", box: Box | None = None, **narrowed: Unpack[Narrowed]
    ) -> AnswerJson:
        """What is similar to a picture, or to a box of it."""
        return AnswerJson.model_validate(self._posted(f"/search/{kind}", picture, box, narrowed))

    def engage(self, events: Sequence[DoneJson]) -> TakenJson:
        """Reports what people did with pins."""
        return self._reported("/engagements", EngagementsJson(events=list(events)))

    def save(self, events: Sequence[SaveJson]) -> TakenJson:
        """Reports pins that were put on boards or taken from them."""
        return self._reported("/saves", SavesJson(events=list(events)))

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
        return LensJson.model_validate(self._posted("/lens", picture, None, asked))

    def events(self, last_event_id: str | None = None) -> Generator[tuple[str, str, dict[str, Any]], None, None]:
        """(id, kind, data) of pins and dots as they arrive, until the API ends the stream or is away.

        The kinds are those of docs/api.md; `hello` comes first and has no id. Give the last id back to go on there.
        """
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        try:
            with self._http.stream("GET", "/events", headers=headers, timeout=httpx.Timeout(LIMIT_S, read=None)) as got:
                if got.is_error:
                    got.read()
                    raise self._problem(got)
                yield from _events(got.iter_lines())
        except httpx.TransportError as error:
            raise Unavailable(f"the API at {self.address} is away: {error}") from error

    def health(self) -> HealthJson:
        """Raises Unavailable when the process does not answer."""
        return HealthJson.model_validate(self._get("/healthz"))

    def ready(self) -> HealthJson:
        """Raises Problem `unavailable` while index or dots are behind."""
        return HealthJson.model_validate(self._get("/readyz"))

    def metrics(self) -> str:
        """Prometheus text."""
        return self._answer("GET", "/metrics").text

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return dict(self._get("/openapi.json"))

    def _posted(self, path: str, picture: bytes, box: Box | None, asked: Asking | Narrowed) -> Any:
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
        return self._call("POST", path, data=fields, files=files)

    def _reported(self, path: str, body: EngagementsJson | SavesJson) -> TakenJson:
        return TakenJson.model_validate(self._call("POST", path, json=body.model_dump(exclude_none=True)))

    def _get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        return self._call("GET", path, params=params)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        return self._answer(method, path, **options).json()

    def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TimeoutException as error:
            raise Unavailable(f"the API at {self.address} did not answer in time: {error}") from error
        except httpx.TransportError as error:
            raise Unavailable(f"the API at {self.address} is away: {error}") from error
        if response.is_error:
            raise self._problem(response)
        return response

    def _problem(self, response: httpx.Response) -> Exception:
        try:
            body = response.json()
            slug = str(body["type"]).rpartition("/")[2]
            detail = str(body["detail"])
        except (ValueError, KeyError, TypeError):
            return Unavailable(f"{self.address} answered {response.status_code} and is no dotstream API")
        if slug not in KINDS:
            return Unavailable(f"{self.address} answered {response.status_code}: {detail}")
        after = response.headers.get("Retry-After", "")
        return Problem(slug, detail, body, retry_after_s=int(after) if after.isdecimal() else None)


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


def _path(pin_id: str, rest: str = "") -> str:
    return f"/pins/{quote(pin_id, safe='')}{rest}"
