"""Health, metrics, headers, OpenAPI, limits, and the event stream over a real server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from discovery.api import PAGE
from discovery.services import Limits
from tests.discovery.serving import serving
from tests.discovery.stage import Stage, patch
from tests.discovery.test_api_pins import problem
from tests.discovery.waiting import until


def events(response: httpx.Response) -> Iterator[tuple[str, Any, str]]:
    """(kind, data, id) of each event as it comes."""
    found: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            found[name] = value
        elif "event" in found:
            yield found["event"], json.loads(found["data"]), found.get("id", "")
            found = {}


def test_ready_once_index_and_dots_have_caught_up(api: httpx.Client) -> None:
    assert api.get("/healthz").json()["status"] == "ok"
    until(lambda: api.get("/readyz").status_code == 200)
    assert api.get("/readyz").json()["checks"] == {"index": True, "dots": True, "dots_behind": 0, "generation": "g1"}


def test_metrics_are_labelled_by_route_and_never_by_path(api: httpx.Client, stage: Stage) -> None:
    stage.pin("secret-pin", patch("red"))
    api.get("/pins/secret-pin")
    api.get("/pins/nobody-at-all")
    api.get("/no/such/path")
    api.post("/search/objects", json={"pin_id": "secret-pin", "object_index": 0})
    stage.services.dots.undecodable = 3
    text = api.get("/metrics").text
    assert "dotstream_api_dots_undecodable_total 3.0" in text
    assert "dotstream_api_dots_rebuilds_total 0.0" in text
    assert 'route="/pins/{pin_id}",status="200"' in text
    assert 'route="unmatched",status="404"' in text
    assert 'dotstream_api_problems_total{type="unknown-pin"} 1.0' in text
    assert 'dotstream_api_search_stage_seconds_count{stage="scan"} 1.0' in text
    assert "secret-pin" not in text
    assert "nobody-at-all" not in text
    assert (
        "openmetrics" in api.get("/metrics", headers={"Accept": "application/openmetrics-text"}).headers["content-type"]
    )


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/pins", "/pins/x", "/healthz", "/metrics", "/nothing"])
def test_every_answer_carries_the_security_headers(api: httpx.Client, path: str) -> None:
    headers = api.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "same-origin"


def test_nothing_unknown_is_answered_otherwise(api: httpx.Client) -> None:
    problem(api.get("/nothing"), 404, "not-found")
    problem(api.get("/page/nothing.js"), 404, "not-found")
    problem(api.get("/page/..%2fapi.py"), 404, "not-found")
    problem(api.delete("/pins"), 405, "method-not-allowed")
    problem(api.get("/search/objects"), 405, "method-not-allowed")


def test_a_defect_is_a_problem_document_with_headers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    with serving(stage.services) as (address, _), httpx.Client(base_url=address) as api:
        monkeypatch.setattr("discovery.routes.pins.of_pin", broken)
        stage.pin("a", patch("red"))
        response = api.get("/pins/a")
        body = problem(response, 500, "internal")
        assert "ZeroDivision" not in json.dumps(body)
        assert response.headers["x-content-type-options"] == "nosniff"


def test_openapi_names_every_route_and_resolves(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    assert {
        "/pins", "/pins/{pin_id}", "/pins/{pin_id}/dots", "/pins/{pin_id}/picture", "/pins/{pin_id}/lineage",
        "/search/flashlight", "/search/objects", "/events", "/healthz", "/readyz", "/metrics",
    } <= set(document["paths"])  # fmt: skip
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])
    post = document["paths"]["/search/objects"]["post"]
    assert set(post["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert {"400", "404", "410", "413", "415", "422", "429", "503"} <= set(post["responses"])


def test_the_page_asks_nobody_else() -> None:
    files = [path for path in PAGE.iterdir() if path.is_file()]
    assert {"index.html", "app.js", "style.css"} <= {path.name for path in files}
    for path in files:
        outside = re.findall(r"https?://[^\s\"')]+", path.read_text())
        assert [url for url in outside if not url.startswith("http://www.w3.org/")] == [], path
        assert "innerHTML" not in path.read_text()


def test_other_hosts_are_refused_when_hosts_are_named(stage: Stage) -> None:
    services = replace(stage.services, allowed_hosts=("127.0.0.1", "[::1]"))
    with serving(services) as (address, _), httpx.Client(base_url=address) as api:
        problem(api.get("/pins", headers={"Host": "evil.example"}), 400, "bad-request")
        assert api.get("/pins", headers={"Host": "127.0.0.1:8080"}).status_code == 200
        assert api.get("/pins", headers={"Host": "[::1]"}).status_code == 200


def test_a_client_that_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Limits(refresh_s=0.02, requests_per_s=0.1, burst=2))
    try:
        with serving(stage.services) as (address, _), httpx.Client(base_url=address) as api:
            stage.pin("a", patch("red"))
            statuses = [api.post("/search/objects", json={"pin_id": "a"}).status_code for _ in range(3)]
            assert statuses == [200, 200, 429]
            refused = api.post("/search/objects", json={"pin_id": "a"})
            problem(refused, 429, "too-many-requests")
            assert int(refused.headers["retry-after"]) >= 1
            assert api.get("/pins/a").status_code == 200
    finally:
        stage.close()


def test_pins_and_dots_are_told_as_they_arrive(stage: Stage) -> None:
    with serving(stage.services) as (address, _), httpx.Client(base_url=address, timeout=20) as http:
        with http.stream("GET", "/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            stream = events(response)
            kind, hello, _ = next(stream)
            assert (kind, hello) == ("hello", {"generation": "g1", "pins": 0, "takes_reports": True})
            record = stage.pin("a", patch("red"))
            kind, card, _ = next(stream)
            assert (kind, card["pin"]["pin_id"], "dots" in card) == ("pin", "a", False)
            stage.dots(record)
            kind, card, last = next(stream)
            assert kind == "dots"
            assert card["dots"]["dots"][0]["label"] == "Patch"
            assert card["pin"]["pin_id"] == "a"
        until(lambda: "dotstream_api_event_clients 0.0" in http.get("/metrics").text)
        stage.dots(stage.pin("missed", patch("blue")))
        until(lambda: stage.services.dots.get("missed"))
        until(lambda: http.get("/pins/missed/dots").status_code == 200)
        with http.stream("GET", "/events", headers={"Last-Event-ID": last}) as response:
            stream = events(response)
            assert next(stream)[0] == "hello"
            assert next(stream)[0] in {"reset", "pin", "dots"}


def test_listeners_are_bounded_and_end_with_the_server(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Limits(refresh_s=0.02, event_clients=1, heartbeat_s=0.05))
    try:
        with (
            serving(stage.services) as (address, running),
            httpx.Client(base_url=address, timeout=20) as http,
            http.stream("GET", "/events") as response,
        ):
            lines = response.iter_lines()
            assert next(lines) == "event: hello"
            problem(http.get("/events"), 503, "busy")
            until(lambda: next(lines) == ": still here")
            running.stop()
            assert [line for line in lines if line.startswith("event")] == []
    finally:
        stage.close()
