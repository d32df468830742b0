"""Fetching over real HTTP from a loopback server: what is let through, what is refused, and within what time."""

from __future__ import annotations

import inspect
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import quote

import httpcore
import pytest

from consumers import fetch as fetch_module
from consumers.addresses import FetchPolicy
from consumers.fetch import HTTP_ERRORS, Fetcher, translated
from consumers.network import Resolver
from dotstream.clock import SystemClock
from dotstream.errors import DotstreamError, Poison, Retryable
from producers.events_pb2 import PinEvent
from tests.consumers.picture_server import PICTURE, PictureServer

LOOPBACK = (ip_network("127.0.0.0/8"),)


def resolve(host: str, port: int) -> Sequence[str]:
    """A name service of our own: nobody outside is asked."""
    table = {
        "pictures.example": ["127.0.0.1"],
        "other.example": ["127.0.0.1"],
        "inside.example": ["10.1.2.3"],
        "both.example": ["127.0.0.1", "192.168.0.9"],
        "metadata.example": ["169.254.169.254"],
        "two.example": ["127.0.0.2", "127.0.0.1"],
    }
    if host in table:
        return table[host]
    raise socket.gaierror(socket.EAI_AGAIN, "temporary failure")


@pytest.fixture
def server() -> Iterator[PictureServer]:
    with PictureServer() as running:
        yield running


def policy_for(server: PictureServer, **changes: object) -> FetchPolicy:
    policy = FetchPolicy(http=True, ports=frozenset({server.port}), private_networks=LOOPBACK, limit_s=5.0)
    return replace(policy, **changes)  # type: ignore[arg-type]  # names are checked by the dataclass


def get(policy: FetchPolicy, url: str, resolver: Resolver = resolve) -> bytes:
    with Fetcher(policy, clock=SystemClock(), resolve=resolver) as fetcher:
        return fetcher.fetch(PinEvent.Image(url=url))


def reason(policy: FetchPolicy, url: str, resolver: Resolver = resolve) -> str:
    with pytest.raises(Poison) as caught:
        get(policy, url, resolver)
    return caught.value.reason


def test_a_picture_is_fetched_by_its_name_from_the_checked_address(server: PictureServer) -> None:
    assert get(policy_for(server), server.url("/good")) == PICTURE
    (path, headers), *more = server.requests
    assert not more
    assert path == "/good"
    assert headers["Host"] == f"pictures.example:{server.port}"
    assert headers["Accept-Encoding"] == "identity"


def test_connections_are_kept_and_looked_up_once(server: PictureServer) -> None:
    looked_up: list[str] = []

    def counting(host: str, port: int) -> Sequence[str]:
        looked_up.append(host)
        return resolve(host, port)

    with Fetcher(policy_for(server), clock=SystemClock(), resolve=counting) as fetcher:
        for _ in range(3):
            assert fetcher.fetch(PinEvent.Image(url=server.url("/good"))) == PICTURE
        assert looked_up == ["pictures.example"]
        assert fetcher.fetch(PinEvent.Image(url=server.url("/good", "other.example"))) == PICTURE
        assert looked_up == ["pictures.example", "other.example"]


def test_many_threads_share_a_fetcher(server: PictureServer) -> None:
    got: list[bytes] = []
    with Fetcher(policy_for(server), clock=SystemClock(), resolve=resolve) as fetcher:
        image = PinEvent.Image(url=server.url("/good"))
        threads = [threading.Thread(target=lambda: got.append(fetcher.fetch(image))) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert got == [PICTURE] * 12


def test_inline_bytes_need_no_network() -> None:
    with Fetcher(FetchPolicy(max_bytes=len(PICTURE)), clock=SystemClock()) as fetcher:
        assert fetcher.fetch(PinEvent.Image(inline=PICTURE)) == PICTURE
        assert fetcher.fetch(PinEvent.Image(inline=b"")) == b""
        with pytest.raises(Poison, match="fetch_too_large"):
            fetcher.fetch(PinEvent.Image(inline=PICTURE + b"x"))
        with pytest.raises(Poison, match="fetch_no_source"):
            fetcher.fetch(PinEvent.Image())


@pytest.mark.parametrize("host", ["inside.example", "both.example", "metadata.example"])
def test_names_of_private_addresses_are_refused(server: PictureServer, host: str) -> None:
    assert reason(policy_for(server), server.url("/good", host)) == "fetch_address"
    assert not server.requests


def test_a_public_name_that_resolves_to_loopback_is_refused_by_default(server: PictureServer) -> None:
    policy = policy_for(server, private_networks=())
    assert reason(policy, server.url("/good")) == "fetch_address"
    assert not server.requests


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "017700000001", "0", "[::1]"])
def test_spellings_of_loopback_are_refused(server: PictureServer, host: str) -> None:
    with Fetcher(policy_for(server, private_networks=()), clock=SystemClock()) as fetcher:
        with pytest.raises(Poison) as caught:
            fetcher.fetch(PinEvent.Image(url=server.url("/good", host)))
        assert caught.value.reason in ("fetch_address", "fetch_bad_url")
    assert not server.requests


def test_a_name_that_changes_its_address_is_checked_at_each_connection(server: PictureServer) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])

    def rebinding(host: str, port: int) -> Sequence[str]:
        return next(answers)

    with Fetcher(policy_for(server), clock=SystemClock(), resolve=rebinding) as fetcher:
        assert fetcher.fetch(PinEvent.Image(url=server.url("/close"))) == PICTURE
        with pytest.raises(Poison, match="fetch_address"):
            fetcher.fetch(PinEvent.Image(url=server.url("/close")))
    assert len(server.requests) == 1


def test_the_next_address_is_tried_when_one_refuses(server: PictureServer) -> None:
    assert get(policy_for(server), server.url("/good", "two.example")) == PICTURE


def redirect(server: PictureServer, target: str) -> str:
    return server.url(f"/to?{quote(target, safe='')}")


def test_redirects_are_followed_three_times(server: PictureServer) -> None:
    assert get(policy_for(server), server.url("/loop/3")) == PICTURE
    assert reason(policy_for(server), server.url("/loop/4")) == "fetch_redirects"
    assert reason(policy_for(server), server.url("/nowhere")) == "fetch_redirects"
    assert get(policy_for(server), redirect(server, server.url("/good", "other.example"))) == PICTURE


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("http://inside.example:{port}/good", "fetch_address"),
        ("http://10.0.0.1:{port}/good", "fetch_address"),
        ("http://[::ffff:10.0.0.1]:{port}/good", "fetch_address"),
        ("http://metadata.example:{port}/latest/meta-data", "fetch_address"),
        ("http://user:pass@pictures.example:{port}/good", "fetch_user_info"),
        ("http://pictures.example:22/good", "fetch_port"),
        ("file:///etc/passwd", "fetch_scheme"),
        ("s3://bucket/key", "fetch_scheme"),
        ("gopher://pictures.example/x", "fetch_scheme"),
        ("http://[::1", "fetch_bad_url"),
    ],
)
def test_each_redirect_is_checked_again(server: PictureServer, target: str, expected: str) -> None:
    literal: Resolver = lambda host, port: resolve(host, port) if "example" in host else [host]  # noqa: E731
    policy = policy_for(server, file_roots=(Path("/"),))
    assert reason(policy, redirect(server, target.format(port=server.port)), literal) == expected
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, "fetch_forbidden"),
        (403, "fetch_forbidden"),
        (404, "fetch_not_found"),
        (410, "fetch_not_found"),
        (451, "fetch_forbidden"),
        (400, "fetch_status"),
        (204, "fetch_status"),
        (206, "fetch_status"),
        (304, "fetch_status"),
    ],
)
def test_refusals_are_poison_at_once(server: PictureServer, status: int, expected: str) -> None:
    assert reason(policy_for(server), server.url(f"/status/{status}")) == expected
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_an_overloaded_server_is_tried_again_and_given_up(server: PictureServer, status: int) -> None:
    assert reason(policy_for(server, attempts=2), server.url(f"/status/{status}")) == "fetch_unreachable"
    assert len(server.requests) == 2


def test_a_server_that_recovers_is_fetched_from(server: PictureServer) -> None:
    server.failures_left = 2
    assert get(policy_for(server), server.url("/flaky")) == PICTURE
    assert len(server.requests) == 3


def test_one_try_leaves_the_decision_to_the_caller(server: PictureServer) -> None:
    with (
        Fetcher(policy_for(server), clock=SystemClock(), resolve=resolve) as fetcher,
        pytest.raises(Retryable),
    ):
        fetcher.fetch_once(server.url("/status/503"))


@pytest.mark.parametrize("path", ["/declared/20000001", "/endless", "/undeclared"])
def test_oversize_bodies_are_cut_off(server: PictureServer, path: str) -> None:
    assert reason(policy_for(server), server.url(path)) == "fetch_too_large"


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "GZIP, identity"])
def test_compressed_bodies_are_refused(server: PictureServer, encoding: str) -> None:
    assert reason(policy_for(server), server.url(f"/encoded?{quote(encoding)}")) == "fetch_encoding"


def test_identity_is_no_compression(server: PictureServer) -> None:
    assert get(policy_for(server), server.url("/encoded/identity")) == PICTURE


@pytest.mark.parametrize("path", ["/drip", "/headers", "/silence"])
def test_a_slow_server_holds_nobody_beyond_the_limit(server: PictureServer, path: str) -> None:
    started = time.monotonic()
    assert reason(policy_for(server, limit_s=0.6), server.url(path)) == "fetch_unreachable"
    assert time.monotonic() - started < 2.0


def test_a_silent_server_is_given_up_before_the_limit(server: PictureServer) -> None:
    started = time.monotonic()
    policy = policy_for(server, limit_s=30.0, stall_s=0.1, attempts=2)
    assert reason(policy, server.url("/silence")) == "fetch_unreachable"
    assert time.monotonic() - started < 5.0
    assert len(server.requests) == 2


def test_a_name_service_that_hangs_holds_nobody_beyond_the_limit(server: PictureServer) -> None:
    let_go = threading.Event()

    def hanging(host: str, port: int) -> Sequence[str]:
        let_go.wait(10)
        return []

    started = time.monotonic()
    try:
        assert reason(policy_for(server, limit_s=0.5), server.url("/good"), hanging) == "fetch_unreachable"
        assert time.monotonic() - started < 2.0
    finally:
        let_go.set()


@pytest.mark.parametrize("path", ["/garbage", "/declared/100"])
def test_broken_answers_are_tried_again(server: PictureServer, path: str) -> None:
    assert reason(policy_for(server, attempts=2), server.url(path)) == "fetch_unreachable"
    assert len(server.requests) == 2


def test_refused_connections_and_unknown_names_are_tried_again() -> None:
    tries: list[str] = []

    def counting(host: str, port: int) -> Sequence[str]:
        tries.append(host)
        return resolve(host, port)

    with socket.socket() as bound:  # bound but not listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        policy = FetchPolicy(http=True, ports=frozenset({port}), private_networks=LOOPBACK)
        assert reason(policy, f"http://pictures.example:{port}/x", counting) == "fetch_unreachable"
        assert reason(policy, f"http://unknown.example:{port}/x", counting) == "fetch_unreachable"
    assert tries == ["pictures.example"] * 3 + ["unknown.example"] * 3


def test_dead_letters_hold_no_secrets_of_urls(server: PictureServer) -> None:
    with pytest.raises(Poison) as caught:
        get(policy_for(server), server.url("/status/403?signature=s3cret"))
    assert "s3cret" not in str(caught.value)


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context for a self-signed certificate of `name`, and a client's that trusts just it."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True, timeout=60)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert, key)
    return serving, ssl.create_default_context(cafile=str(cert))


def test_tls_vouches_for_the_name_although_the_address_is_connected_to(tmp_path: Path) -> None:
    serving, trusting = certificate(tmp_path, "pictures.example")
    asked: list[str | None] = []
    serving.sni_callback = lambda _, name, __: asked.append(name)
    with PictureServer(serving) as server:
        policy = policy_for(server, http=False)
        with Fetcher(policy, clock=SystemClock(), resolve=resolve, tls=trusting) as fetcher:
            good = PinEvent.Image(url=server.url("/good").replace("http:", "https:"))
            assert fetcher.fetch(good) == PICTURE
            assert asked == ["pictures.example"]
            other = PinEvent.Image(url=server.url("/good", "other.example").replace("http:", "https:"))
            with pytest.raises(Poison, match="fetch_certificate"):
                fetcher.fetch(other)
        with Fetcher(policy, clock=SystemClock(), resolve=resolve) as distrusting:
            with pytest.raises(Poison, match="fetch_certificate"):
                distrusting.fetch(good)
            with pytest.raises(Poison, match="fetch_scheme"):
                distrusting.fetch(PinEvent.Image(url=server.url("/good")))
    assert [path for path, _ in server.requests] == ["/good"]


def test_every_error_of_httpcore_has_a_translation() -> None:
    raised = [kind for _, kind in inspect.getmembers(httpcore, inspect.isclass) if issubclass(kind, Exception)]
    assert len(raised) >= 14
    for kind in raised:
        assert issubclass(kind, HTTP_ERRORS), kind
        assert isinstance(translated(kind("x"), "https://a.example/"), DotstreamError)


def test_the_docstring_lists_every_reason() -> None:
    folder = Path(fetch_module.__file__).parent
    text = "".join(
        (folder / f"{name}.py").read_text() for name in ("fetch", "addresses", "network", "files", "buckets")
    )
    raised = {word for word in text.replace('"', " ").split() if word.startswith("fetch_") and word.isidentifier()}
    reasons = raised - {"fetch_once", "fetch_module"}
    assert fetch_module.__doc__ is not None
    assert {word for word in fetch_module.__doc__.split() if word.startswith("fetch_")} >= reasons
