"""Texts from outside that are no UTF-8, and pin ids that look like routes: each means one thing or is refused."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import httpx
import pytest

from tests.discovery.stage import Stage, patch
from tests.discovery.test_api_pins import problem
from tests.discovery.waiting import until


def word(value: object) -> str:
    """An opaque word with a lone surrogate in it, as nobody but a forger writes one."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def form(name: bytes, value: bytes, charset: str) -> dict[str, object]:
    """A request's form with one field beside the picture, in a charset of the client's choice."""
    field = b'--b\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n"
    image = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + patch("red") + b"\r\n"
    content_type = f"multipart/form-data; boundary=b; charset={charset}"
    return {"content": image + field + b"--b--\r\n", "headers": {"Content-Type": content_type}}


def test_a_forged_place_is_the_clients_fault(api: httpx.Client, stage: Stage) -> None:
    stage.pin("a", patch("red"))
    places: list[object] = [[1, "17", "\ud800"], [1, "17", "a\udfffb"], {"\ud800": 1}, [1, "17"]]
    for forged in places:
        problem(api.get("/pins", params={"before": word(forged)}), 400, "bad-cursor")
    marks: list[object] = [{"v": 1, "g": "\ud800", "w": {}}, {"v": 1, "g": "g1", "w": {"\ud800": "1"}}]
    for forged in marks:
        problem(api.get("/pins", params={"indexed_up_to": word(forged)}), 400, "bad-watermark")


@pytest.mark.parametrize("sent", ["%FF", "%ED%A0%80", "a%C3", "x/%80"])
def test_a_path_that_is_no_utf_8_is_refused(api: httpx.Client, sent: str) -> None:
    for rest in ("", "/dots", "/lineage", "/picture", "/related"):
        problem(api.get(f"/pins/{sent}{rest}"), 400, "bad-request")


def test_no_field_of_a_body_takes_a_lone_surrogate(api: httpx.Client, stage: Stage) -> None:
    stage.pin("a", patch("red"))
    for field in ("annotations", "category", "label", "preset", "indexed_up_to", "surprise"):
        sent = form(field.encode(), rb"x\ud800", "raw_unicode_escape")
        problem(api.post("/search/flashlight", **sent), 422, "bad-field")  # type: ignore[arg-type]
    for path, body in (
        ("/search/objects", {"pin_id": "a", "label": "\ud800"}),
        ("/search/objects", {"pin_id": "a", "annotations": ["\ud800"]}),
        ("/engagements", {"events": [{"kind": "click", "pin_id": "\ud800"}]}),
        ("/saves", {"events": [{"pin_id": "a", "board_id": "\ud800"}]}),
    ):
        sent_json = {"content": json.dumps(body), "headers": {"Content-Type": "application/json"}}
        problem(api.post(path, **sent_json), 400, "bad-request")  # type: ignore[arg-type]


AWKWARD = (
    "a/dots",
    "a",
    "/",
    "//",
    "a/",
    "/a",
    "%2F",
    "a%2Fdots",
    "..",
    ".",
    "a b+c?d#e",
    "dots",
    "ü/ü",
    "100%",
    "a%25",
)


def test_an_encoded_slash_belongs_to_the_id(api: httpx.Client, stage: Stage) -> None:
    """Ids that look like routes, like dots and like escapes, all there at once: each is answered as itself."""
    for n, pin_id in enumerate(AWKWARD):
        stage.dots(stage.pin(pin_id, patch("red", size=(400 + n, 300)), title=f"number {n}"))
    until(lambda: all(stage.services.dots.get(pin_id) for pin_id in AWKWARD))
    for n, pin_id in enumerate(AWKWARD):
        # Dots are written as escapes, which this client sends on as they are.
        path = f"/pins/{quote(pin_id, safe='').replace('.', '%2E')}"
        found = api.get(path).json()
        assert (found["pin_id"], found["title"]) == (pin_id, f"number {n}")
        assert api.get(f"{path}/dots").json()["pin_id"] == pin_id
        assert api.get(f"{path}/lineage").json()["pin_id"] == pin_id
        assert api.get(f"{path}/related").json()["pin_id"] == pin_id
        assert api.get(f"{path}/picture").content == patch("red", size=(400 + n, 300))
    assert api.get("/pins/a/dots").json()["pin_id"] == "a", "a plain slash parts id and rest"
    problem(api.get("/pins/a/b/dots"), 404, "not-found")
    problem(api.get("/pins%2Fa"), 404, "not-found")
    assert api.get("/pins/a/%64ots").json()["pin_id"] == "a", "other letters may be escaped anywhere"
    assert api.get("/%70ins/a%2Fdots").json()["pin_id"] == "a/dots"
    assert 'route="/pins/{pin_id}/dots"' in api.get("/metrics").text
