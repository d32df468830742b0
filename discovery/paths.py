"""Which parts a URL's path has: an encoded slash belongs to a part, and only a plain one parts them.

`pins/a%2Fdots` is the pin `a/dots`, and `pins/a/dots` are the dots of pin `a`. Servers hand on a path in which both are
a slash, so that routes look at one made anew from the path as it was sent: every part decoded, but with the slashes and
per cent signs that it holds written as %2F and %25. The convertor `part` takes those back.
"""

from __future__ import annotations

from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import ASGIApp, Receive, Scope, Send

from discovery import problems
from discovery.errors import Problem


class Parts:
    """Lets routes see the path's parts as they were sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope["path"] = routed(scope)
            except UnicodeDecodeError:
                problem = Problem("bad-request", "the path is not percent-encoded UTF-8")
                await problems.answer(problem, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)


def routed(scope: Scope) -> str:
    """The path that routes look at.

    Raises:
        UnicodeDecodeError: a part is not UTF-8.
    """
    sent: bytes | None = scope.get("raw_path")
    if sent is None:  # a server may leave it out; then an encoded slash cannot be told from a plain one
        return str(scope["path"]).replace("%", "%25")
    if b"%" not in sent:
        return str(scope["path"])
    return "/".join(_kept(unquote(part, errors="strict")) for part in sent.decode("ascii").split("/"))


class Part(Convertor[str]):
    """One part of a path, decoded; as in "/pins/{pin_id:part}"."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """What was meant by a part of a path out of `routed`."""
        return value.replace("%2F", "/").replace("%25", "%")

    def to_string(self, value: str) -> str:
        """The part for a value."""
        return _kept(value)


def _kept(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F")


register_url_convertor("part", Part())
