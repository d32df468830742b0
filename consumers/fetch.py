"""Gets the bytes of an event's picture: inline, by https, from a file or from an object store, all within one limit.

The first step of the vision worker. Everything that a stranger's URL could be used for is closed here and in
addresses.py (where to), network.py (how, and how long), files.py and buckets.py. The one edge where HTTP errors are
translated.

Reasons of the `Poison` that `fetch` raises:

    fetch_no_source     the event has neither a URL nor bytes
    fetch_bad_url       the URL cannot be parsed, is too long, or has no host
    fetch_scheme        the scheme is not allowed (http and file only by setting)
    fetch_user_info     the URL carries a user name or password
    fetch_host          the host is not among the allowed ones
    fetch_port          the port is not among the allowed ones
    fetch_address       the host resolves to an address that is not public
    fetch_redirects     more redirects than allowed, or one that leads nowhere
    fetch_certificate   the server's certificate does not vouch for the host
    fetch_file_root     the file is not below an allowed folder
    fetch_bucket        the object is not in an allowed bucket
    fetch_not_found     404, 410; no such file or object
    fetch_forbidden     401, 403, 407, 451; no right to read
    fetch_status        any other answer that is neither a picture nor worth another try
    fetch_encoding      the body is compressed although none was asked for; it is not unpacked
    fetch_too_large     more bytes than `FetchPolicy.max_bytes`
    fetch_unreachable   the other side stayed away, slow or overloaded (408, 425, 429, 5xx) through all tries
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from types import MappingProxyType, TracebackType
from typing import Self

import httpcore
import httpx
import stamina

from consumers.addresses import DEFAULT_PORTS, FetchPolicy, check_url, shown
from consumers.buckets import BUCKET_SCHEMES, Buckets, read_object
from consumers.files import read_file
from consumers.network import Deadline, GuardedBackend, Resolver, system_resolver
from dotstream.clock import Clock
from dotstream.errors import DotstreamError, Poison, Retryable
from producers.events_pb2 import PinEvent

REDIRECTS = frozenset({301, 302, 303, 307, 308})
TRY_AGAIN = frozenset({408, 425, 429})
REFUSALS = MappingProxyType(
    {401: "fetch_forbidden", 403: "fetch_forbidden", 404: "fetch_not_found", 407: "fetch_forbidden"}
    | {410: "fetch_not_found", 451: "fetch_forbidden"}
)
HEADERS = (
    (b"User-Agent", b"dotstream"),
    (b"Accept", b"image/jpeg, image/png, image/webp"),
    (b"Accept-Encoding", b"identity"),
)
FIRST_WAIT_S, LONGEST_WAIT_S, JITTER_S = 0.1, 0.5, 0.1
NO_BUCKETS: Buckets = MappingProxyType({})


class Fetcher:
    """Fetches pictures by one policy. Thread-safe; connections are kept and shared.

    Args:
        buckets: allowed object-store prefixes and their stores (`open_buckets`).
        resolve: name lookup; may block, the limit holds nevertheless.
        tls: None trusts the authorities of the certifi package.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        *,
        clock: Clock,
        buckets: Buckets = NO_BUCKETS,
        resolve: Resolver = system_resolver,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy
        self._buckets = buckets
        self._deadline = Deadline(clock)
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls or httpx.create_ssl_context(trust_env=False),
            max_connections=64,
            max_keepalive_connections=16,
            keepalive_expiry=15.0,
            network_backend=GuardedBackend(policy, resolve, self._deadline),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the kept connections."""
        self._pool.close()

    def fetch(self, image: PinEvent.Image) -> bytes:
        """The picture's bytes, as they are; whether they are a picture is for the decoder to say.

        Blocks at most `FetchPolicy.limit_s`, all tries together.

        Raises:
            Poison: the reasons are listed above.
        """
        if image.WhichOneof("source") == "inline":
            if len(image.inline) > self._policy.max_bytes:
                raise Poison("fetch_too_large", f"{len(image.inline)} inline bytes; at most {self._policy.max_bytes}")
            return image.inline
        if not image.url:
            raise Poison("fetch_no_source", "neither a URL nor bytes")
        return self._with_tries(image.url)

    def _with_tries(self, url: str) -> bytes:
        self._deadline.start(self._policy.limit_s)
        tries = stamina.retry_context(
            on=self._worth_another_try,
            attempts=self._policy.attempts,
            timeout=None,
            wait_initial=FIRST_WAIT_S,
            wait_max=LONGEST_WAIT_S,
            wait_jitter=JITTER_S,
        )
        try:
            for attempt in tries:
                with attempt:
                    return self.fetch_once(url)
        except Retryable as error:
            raise Poison("fetch_unreachable", f"{shown(url)}: {error}") from error
        raise AssertionError("stamina gives at least one try")

    def _worth_another_try(self, error: Exception) -> bool:
        return isinstance(error, Retryable) and self._deadline.remaining() > LONGEST_WAIT_S + JITTER_S

    def fetch_once(self, url: str) -> bytes:
        """One try, within what is left of the calling thread's limit.

        Raises:
            Poison: as `fetch`, without fetch_unreachable.
            Retryable: another try may succeed.
        """
        scheme = url.partition(":")[0].lower()
        if scheme == "file":
            return read_file(url, self._policy.file_roots, self._policy.max_bytes)
        if scheme in BUCKET_SCHEMES:
            return read_object(url, self._buckets, self._policy.max_bytes)
        try:
            return self._get(check_url(url, self._policy))
        except HTTP_ERRORS as error:
            raise translated(error, url) from error

    def _get(self, url: httpx.URL) -> bytes:
        """Follows redirects, each checked as the first URL was."""
        for _ in range(self._policy.redirects + 1):
            with self._pool.stream(
                "GET",
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=_port(url), target=url.raw_path),
                headers=[(b"Host", url.netloc), *HEADERS],
                extensions={"timeout": self._timeouts()},
            ) as response:
                if response.status not in REDIRECTS:
                    return self._body(url, response)
                url = self._next(url, response)
        raise Poison("fetch_redirects", f"more than {self._policy.redirects} redirects, the last to {shown(str(url))}")

    def _timeouts(self) -> dict[str, float]:
        """For single steps; the deadline cuts them further as time goes by."""
        stall = self._policy.stall_s
        return {"connect": self._policy.connect_s, "read": stall, "write": stall, "pool": self._deadline.cut(None)}

    def _next(self, url: httpx.URL, response: httpcore.Response) -> httpx.URL:
        location = _header(response, b"location")
        if not location:
            raise Poison("fetch_redirects", f"{shown(str(url))} redirects to nowhere")
        try:
            target = str(url.join(location))
        except (httpx.InvalidURL, ValueError) as error:
            raise Poison("fetch_bad_url", f"{shown(str(url))} redirects to no URL: {error}") from error
        return check_url(target, self._policy)

    def _body(self, url: httpx.URL, response: httpcore.Response) -> bytes:
        _check_status(url, response.status)
        encoding = _header(response, b"content-encoding").strip().lower()
        if encoding not in ("", "identity"):
            raise Poison("fetch_encoding", f"{shown(str(url))} answers with {encoding[:40]!r}")
        declared = _header(response, b"content-length")
        if declared.isdecimal() and int(declared) > self._policy.max_bytes:
            raise Poison("fetch_too_large", f"{shown(str(url))} has {declared} bytes; at most {self._policy.max_bytes}")
        body = bytearray()
        parts: Iterator[bytes] = response.iter_stream()
        for part in parts:
            body += part
            if len(body) > self._policy.max_bytes:
                raise Poison("fetch_too_large", f"{shown(str(url))} goes on beyond {self._policy.max_bytes} bytes")
        return bytes(body)


HTTP_ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
)


def translated(error: Exception, url: str) -> DotstreamError:
    """The project's error for one of httpcore's."""
    if _is_certificate_error(error):
        return Poison("fetch_certificate", f"{shown(url)}: {error}")
    if isinstance(error, httpcore.LocalProtocolError | httpcore.UnsupportedProtocol):
        return Poison("fetch_bad_url", f"{shown(url)} cannot be asked for: {error}")
    return Retryable(f"{type(error).__name__}: {error}")


def _is_certificate_error(error: BaseException | None) -> bool:
    """Looks along the contexts: httpcore's pool cuts the cause off."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__context__
    return False


def _check_status(url: httpx.URL, status: int) -> None:
    if status == 200:
        return
    if status in TRY_AGAIN or status >= 500:
        raise Retryable(f"{shown(str(url))} answers {status}")
    raise Poison(REFUSALS.get(status, "fetch_status"), f"{shown(str(url))} answers {status}")


def _port(url: httpx.URL) -> int:
    return url.port or DEFAULT_PORTS[url.scheme]


def _header(response: httpcore.Response, name: bytes) -> str:
    """A header's value, "" where it is missing; the first where it is repeated."""
    for key, value in response.headers:
        if key.lower() == name:
            return value.decode("latin-1")
    return ""
