"""The network under the fetcher: connects only to addresses that were checked, and never waits beyond a deadline.

httpcore calls this backend with the URL's host name. The name is resolved here, all its addresses are checked, and the
connection goes to one of just those, so that a second lookup cannot give another answer. TLS and the Host header keep
the original name. Each wait for the other side ends at the deadline of the fetch that the calling thread is in, however
slowly bytes drip.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpcore

from consumers.addresses import FetchPolicy, check_addresses
from dotstream.clock import Clock
from dotstream.errors import Retryable

Resolver = Callable[[str, int], Sequence[str]]
"""(host, port) -> addresses. May block; raises OSError."""


def system_resolver(host: str, port: int) -> list[str]:
    """The machine's own name lookup."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Deadline(threading.local):
    """When the fetch of the calling thread must be over. A connection may serve many fetches, one after another."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at = float("inf")

    def start(self, seconds: float) -> None:
        self._at = self._clock.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left; zero or less when over."""
        return self._at - self._clock.monotonic()

    def cut(self, timeout: float | None) -> float:
        """The shorter of a timeout and what is left; never zero, which sockets take for "do not block"."""
        left = self.remaining()
        return max(left if timeout is None else min(timeout, left), 0.001)


class GuardedBackend(httpcore.NetworkBackend):
    """See the module's docstring. Thread-safe."""

    def __init__(self, policy: FetchPolicy, resolve: Resolver, deadline: Deadline) -> None:
        self._policy = policy
        self._resolve = resolve
        self._deadline = deadline
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connects to the first address of the host that answers.

        Raises:
            Poison: fetch_address.
            Retryable: the name cannot be resolved now.
            httpcore.ConnectError, httpcore.ConnectTimeout: no address answers.
        """
        last: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in check_addresses(host, self._lookup(host, port), self._policy):
            if self._deadline.remaining() <= 0:
                raise httpcore.ConnectTimeout(f"no time left to connect to {host}")
            try:
                stream = self._plain.connect_tcp(
                    address, port, self._deadline.cut(timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
            else:
                return DeadlineStream(stream, self._deadline)
        raise last

    def _lookup(self, host: str, port: int) -> Sequence[str]:
        """Resolves on a thread of its own, for a lookup cannot be told how long it may take."""
        answer: queue.SimpleQueue[Sequence[str] | OSError] = queue.SimpleQueue()

        def look() -> None:
            try:
                answer.put(self._resolve(host, port))
            except (OSError, UnicodeError) as error:
                answer.put(OSError(str(error)))

        threading.Thread(target=look, name="lookup", daemon=True).start()
        try:
            found = answer.get(timeout=self._deadline.cut(self._policy.connect_s))
        except queue.Empty:
            raise Retryable(f"looking up {host} takes too long") from None
        if isinstance(found, OSError):
            raise Retryable(f"cannot look up {host}: {found}")
        return found


class DeadlineStream(httpcore.NetworkStream):
    """A stream whose every wait ends at the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._deadline.remaining() <= 0:
            raise httpcore.ReadTimeout("no time left for this picture")
        return self._stream.read(max_bytes, self._deadline.cut(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.cut(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.cut(timeout))
        return DeadlineStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
