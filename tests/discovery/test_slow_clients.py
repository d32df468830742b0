"""Clients that send nothing, half of something, or rubbish, and many at once: each is told, and no other one waits."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from discovery.services import Limits
from tests.discovery.serving import serving
from tests.discovery.stage import Stage, patch
from tests.discovery.test_api_pins import problem
from tests.discovery.waiting import until

STALLED = b"POST /search/objects HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
KNOWN = {"pin_id": "a", "object_index": 0}


@contextmanager
def staged(folder: Path, **limits: Any) -> Iterator[tuple[Stage, str]]:
    """A served stage with one pin under these limits, and its address."""
    stage = Stage(folder, Limits(refresh_s=0.02, requests_per_s=0, **limits))
    try:
        stage.pin("a", patch("red"))
        with serving(stage.services) as (address, _):
            yield stage, address
    finally:
        stage.close()


def opened(address: str, sent: bytes = b"") -> socket.socket:
    """A connection on which these bytes were sent."""
    url = httpx.URL(address)
    one = socket.create_connection((url.host, url.port or 80), timeout=20)
    one.sendall(sent)
    return one


def rest(one: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Status, headers and document that are answered until the server ends the connection; status 0: nothing."""
    with one:
        found = b"".join(iter(lambda: one.recv(65_536), b""))
    if not found:
        return 0, {}, None
    head, _, body = found.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, json.loads(body)


def healthy(one: socket.socket) -> bool:
    """Whether the connection, on which more may be asked, answers that the process is well."""
    one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    found = b""
    while not found.endswith(b'"checks":{}}'):
        more = one.recv(65_536)
        assert more, found
        found += more
    return found.startswith(b"HTTP/1.1 200")


def ended(one: socket.socket) -> bool:
    """Whether the server ended the connection without a word."""
    with one:
        try:
            return one.recv(1) == b""
        except ConnectionResetError:  # by a server that had not read everything
            return True


def refused(one: socket.socket, status: int, slug: str) -> dict[str, Any]:
    """The problem document after which the connection was closed."""
    found, headers, document = rest(one)
    assert (found, document["type"], document["status"]) == (status, f"/problems/{slug}", status)
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    return dict(document)


@pytest.mark.parametrize("limits", [{"body_stall_s": 0.2}, {"body_s": 0.2}])
def test_a_body_that_does_not_come_is_given_up(tmp_path: Path, limits: dict[str, float]) -> None:
    with staged(tmp_path, **limits) as (_, address), httpx.Client(base_url=address) as api:
        assert refused(opened(address, STALLED), 408, "request-timeout")["instance"] == "/search/objects"
        form = STALLED.replace(b"application/json", b"multipart/form-data; boundary=b")[:-1] + b"--b"
        refused(opened(address, form), 408, "request-timeout")
        chunked = form.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked").replace(b"--b", b"3\r\n--b\r\n")
        refused(opened(address, chunked), 408, "request-timeout")
        refused(opened(address, STALLED.replace(b"search/objects", b"saves")), 408, "request-timeout")
        assert 'dotstream_api_problems_total{type="request-timeout"} 4.0' in api.get("/metrics").text


def test_a_header_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    with (
        staged(tmp_path, header_s=1.0) as (stage, address),
        httpx.Client(base_url=address, timeout=20) as kept,
        kept.stream("GET", "/events") as events,
    ):
        lines = events.iter_lines()
        assert "event: hello" in iter(lambda: next(lines), "")
        silent, again = opened(address), opened(address)
        assert healthy(again)
        assert kept.get("/healthz").status_code == 200
        refused(opened(address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n"), 408, "request-timeout")
        assert rest(silent)[0] == 0, "nothing was asked, so nothing is answered"
        again.sendall(b"GET /pins")
        refused(again, 408, "request-timeout")
        stage.pin("new", patch("blue"))
        assert "event: pin" in iter(lambda: next(lines), "never"), "a stream is no header that does not come"


def test_a_kept_connection_may_be_idle_for_longer_than_a_header(tmp_path: Path) -> None:
    with staged(tmp_path, header_s=1.0) as (_, address):
        kept = opened(address)
        assert healthy(kept)
        for _ in range(2):
            rest(opened(address))  # ends when the time of a header is over
        assert healthy(kept)
        kept.close()


def test_idle_connections_make_room_for_new_ones(tmp_path: Path) -> None:
    with staged(tmp_path, connections=8) as (_, address):
        idle = [opened(address, b"GET /pins HTTP/1.1\r\n" if n % 2 else b"") for n in range(40)]
        with httpx.Client(base_url=address, timeout=20) as api:
            for _ in range(5):
                assert api.post("/search/objects", json=KNOWN).status_code == 200
        assert all(ended(one) for one in idle[:30]), "those that were idle longest are closed"
        for one in idle[30:]:
            one.close()


def test_connections_that_all_have_a_request_are_no_more_than_the_limit(tmp_path: Path) -> None:
    with staged(tmp_path, connections=4) as (_, address):
        busy = [opened(address, STALLED) for _ in range(4)]
        with httpx.Client(base_url=address, timeout=20) as api:
            until(lambda: refuses(address))
            busy.pop().close()
            until(lambda: not refuses(address))
            assert api.get("/healthz").status_code == 200
        for one in busy:
            one.close()


def refuses(address: str) -> bool:
    try:
        return not httpx.get(f"{address}/healthz", timeout=20).is_success
    except httpx.TransportError:
        return True


def test_what_is_no_http_is_a_problem_document_too(tmp_path: Path) -> None:
    with staged(tmp_path) as (_, address):
        for sent in (
            b"garbage\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n",
        ):
            assert "instance" not in refused(opened(address, sent), 400, "bad-request")
        # Rubbish after a good request whose answer is there already.
        one = opened(address)
        assert healthy(one)
        one.sendall(b"garbage\r\n\r\n")
        refused(one, 400, "bad-request")


def test_too_many_requests_at_once_are_told_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    with staged(tmp_path, requests=2) as (stage, address), httpx.Client(base_url=address, timeout=20) as api:
        stalled = [opened(address, STALLED) for _ in range(6)]
        idle = [opened(address) for _ in range(6)]
        assert api.post("/search/objects", json=KNOWN).status_code == 200, "those that wait for clients do not count"
        embed = stage.models.embed
        monkeypatch.setattr(stage.models, "embed", lambda images: gate.wait() and embed(images))
        with ThreadPoolExecutor(2) as pool:
            asked = {"pin_id": "a", "box": [0.1, 0.1, 0.9, 0.9]}
            crops = [pool.submit(api.post, "/search/objects", json=asked) for _ in range(2)]
            try:
                until(lambda: 'dotstream_api_work_held{room="look"} 2.0' in api.get("/metrics").text)
                for response in (api.get("/pins"), api.get("/pins/a"), api.post("/search/objects", json=KNOWN)):
                    problem(response, 503, "busy")
                    assert response.headers["retry-after"] == "1"
                assert api.get("/healthz").status_code == api.get("/readyz").status_code == 200
                assert 'dotstream_api_problems_total{type="busy"} 3.0' in api.get("/metrics").text
            finally:
                gate.set()
            assert [crop.result().status_code for crop in crops] == [200, 200]
        assert api.get("/pins").status_code == 200
        for one in stalled + idle:
            one.close()
        assert api.get("/pins").status_code == 200
