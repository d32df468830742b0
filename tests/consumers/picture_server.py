"""A real HTTP server on a loopback port that serves a picture well, and misbehaves on request."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from tests.poison.build import jpeg

PICTURE = jpeg()
TICK_S = 0.03


class PictureServer:
    """Serves until closed. `requests` are (path, headers) in order of arrival."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.failures_left = 0
        self.closing = threading.Event()
        owner = self

        class Handler(_Handler):
            server_of = owner

        self._http = _Quiet(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = False
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = int(self._http.server_address[1])
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def url(self, path: str, host: str = "pictures.example") -> str:
        return f"http://{host}:{self.port}{path}"


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 1
    server_of: PictureServer

    def do_GET(self) -> None:
        self.server_of.requests.append((self.path, dict(self.headers.items())))
        parts = urlsplit(self.path)
        name, _, rest = parts.path[1:].partition("/")
        try:
            getattr(self, f"answer_{name}")(rest or unquote(parts.query))
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer_good(self, _: str) -> None:
        self.reply(200, PICTURE, Last_Modified="Mon, 23 Nov 2026 12:00:00 GMT", ETag='"1"')

    def answer_close(self, _: str) -> None:
        self.reply(200, PICTURE, Connection="close")
        self.close_connection = True

    def answer_to(self, target: str) -> None:
        self.reply(302, Location=target)

    def answer_nowhere(self, _: str) -> None:
        self.reply(301)

    def answer_loop(self, left: str) -> None:
        if int(left):
            self.reply(307, Location=f"/loop/{int(left) - 1}")
        else:
            self.reply(200, PICTURE)

    def answer_status(self, status: str) -> None:
        self.reply(int(status))

    def answer_flaky(self, _: str) -> None:
        if self.server_of.failures_left:
            self.server_of.failures_left -= 1
            self.reply(503)
        else:
            self.reply(200, PICTURE)

    def answer_encoded(self, encoding: str) -> None:
        self.reply(200, PICTURE, Content_Encoding=encoding)

    def answer_declared(self, length: str) -> None:
        self.reply(200, b"", Content_Length=length)
        self.close_connection = True

    def answer_endless(self, _: str) -> None:
        self.reply(200, b"", Content_Length=str(1 << 40))
        while not self.server_of.closing.is_set():
            self.wfile.write(bytes(65536))

    def answer_undeclared(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not self.server_of.closing.is_set():
            self.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")

    def answer_drip(self, _: str) -> None:
        self.reply(200, b"", Content_Length="100000")
        self._drip(b"x")

    def answer_headers(self, _: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self._drip(b"X-Slow: yes\r\n")

    def _drip(self, piece: bytes) -> None:
        self.close_connection = True
        while not self.server_of.closing.wait(TICK_S):
            self.wfile.write(piece)
            self.wfile.flush()

    def answer_silence(self, _: str) -> None:
        self.close_connection = True
        self.server_of.closing.wait(10)

    def answer_garbage(self, _: str) -> None:
        self.wfile.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        self.close_connection = True
