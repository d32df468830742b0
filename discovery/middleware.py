"""What every request passes: limits of number, time and size, security headers, metrics, the last net for errors.

Plain ASGI. The net stands inside of the header middleware, so that even an answer to a defect carries the headers and
is a problem document.
"""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from discovery import problems
from discovery.errors import Problem
from discovery.metrics import ApiMetrics
from discovery.services import Limits

log = logging.getLogger(__name__)

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Content-Security-Policy": PAGE_POLICY,
}

OPERATIONS = frozenset(("/healthz", "/readyz", "/metrics"))
"""Answered however many requests there are."""


class SecurityHeaders:
    """Sets the headers above on every answer that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


class Measured:
    """Times each request by its route's template, and answers what no handler caught."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 0
        streamed = False

        async def noting(message: Message) -> None:
            nonlocal status, streamed
            if message["type"] == "http.response.start":
                status = message["status"]
                streamed = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if status:
                raise
            log.exception("%s %s failed", scope["method"], scope["path"])
            self._metrics.problem("internal")
            await problems.answer(problems.of(error), scope["path"])(scope, receive, noting)
        finally:
            if status and not streamed:
                seconds = time.monotonic() - started
                self._metrics.answered(_method(scope), _route(scope), status, seconds)


class Prompt:
    """Bounds how many requests are answered at once, and how long a request's body takes to come.

    A request that waits for its client, for a body or as an event stream, is not counted: clients that stand still hold
    up nobody else.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: ApiMetrics) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._at_work >= self._limits.requests and scope["path"] not in OPERATIONS:
            problem = Problem("busy", f"{self._limits.requests} requests are being answered", retry_after_s=1)
            self._metrics.problem(problem.slug)
            await problems.answer(problem, scope["path"])(scope, receive, send)
            return
        now = asyncio.get_running_loop().time
        deadline = now() + self._limits.body_s
        arrived = late = started = False

        async def prompt() -> Message:
            nonlocal arrived, late
            left = None if arrived or started else max(0.0, min(self._limits.body_stall_s, deadline - now()))
            self._at_work -= 1
            try:
                async with asyncio.timeout(left):
                    message = await receive()
            except TimeoutError:
                late = True
                raise Problem("request-timeout", "the body did not come in time") from None
            finally:
                self._at_work += 1
            arrived = not message.get("more_body", False)
            return message

        async def closing(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if late:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        self._at_work += 1
        try:
            await self._app(scope, prompt, closing)
        finally:
            self._at_work -= 1


class BodyLimit:
    """Stops a request whose body grows beyond the limit, announced or not, while it is still being sent."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdecimal() or int(announced) > self._limit:
            await problems.answer(self._problem(), scope["path"])(scope, receive, send)
            return
        taken = 0

        async def counting() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._limit:
                    raise self._problem()
            return message

        await self._app(scope, counting, send)

    def _problem(self) -> Problem:
        return Problem("too-large", f"a body has at most {self._limit} bytes", {"limit_bytes": self._limit})


def _route(scope: Scope) -> str:
    """The template of the route that answered; never the path, whose values are without number."""
    path = getattr(scope.get("route"), "path_format", None)
    if isinstance(path, str):
        return path
    return "/page" if scope["path"].startswith("/page/") else "unmatched"


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in {"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"} else "other"


class KnownHost:
    """Refuses requests under a host name that is not ours, so that no other site's name can be pointed at this API."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "*" not in self._hosts:
            host = Headers(scope=scope).get("host", "")
            name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
            if name not in self._hosts:
                problem = Problem("bad-request", "the Host header names another host")
                await problems.answer(problem, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)
