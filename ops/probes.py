"""The small HTTP server beside every worker: /metrics for Prometheus, /healthz and /readyz for supervisors."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from dotstream.errors import Misconfigured


class _Server(ThreadingHTTPServer):
    """A client that goes away before its answer is not worth a traceback in the log."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Probes:
    """Serves on its own thread while the context is open.

    Args:
        port: 0 takes a free one; `address` says which.
        healthy: whether the worker's loop still turns.
        ready: whether the worker does its work.

    Raises:
        Misconfigured: the port is taken.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        *,
        healthy: Callable[[], bool],
        ready: Callable[[], bool],
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # seconds for a client to say what it wants

            def do_GET(self) -> None:
                if self.path.split("?")[0] == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif self.path in {"/healthz", "/readyz"}:
                    good = healthy() if self.path == "/healthz" else ready()
                    self._answer(200 if good else 503, "text/plain", b"ok\n" if good else b"not yet\n")
                else:
                    self._answer(404, "text/plain", b"/metrics, /healthz and /readyz are served here\n")

            def _answer(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes come every second; they are not worth a line."""

        try:
            self._server = _Server((host, port), Handler)
        except OSError as error:
            raise Misconfigured(f"the metrics address {host}:{port} cannot be taken: {error.strerror}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 1.0}, daemon=True)

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
