"""What a connection has to keep to before the app sees anything of it: how many there are, and how long a header takes.

uvicorn waits for ever for a request's header, takes every connection, and answers what is no HTTP in plain text. Here a
header has a time limit, connections a number, of which the longest idle one makes room for a new one, and what cannot
be read is answered by a problem document. A connection is idle while no request of it is being answered.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from discovery import problems
from discovery.errors import Problem
from discovery.middleware import SECURITY
from discovery.services import Limits

HEADER_BYTES = 65_536


class Connection(H11Protocol):
    """uvicorn's connection, within the limits of the app that it is made for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits: Limits = self.config.app.state.context.limits  # type: ignore[union-attr]  # ours, an Api
        self._header: asyncio.TimerHandle | None = None
        self.idle_since: float | None = None

    @property
    def asked(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    # What asyncio and uvicorn call.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Takes the connection, if need be for an idle one, else ends it."""
        if len(self.connections) >= self._limits.connections and not self._make_room():
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self._await_header()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request; the first of a header start its time."""
        super().data_received(data)
        if not self.asked and self._header is None:
            self._await_header()

    def handle_events(self) -> None:
        """Takes in what was read; a whole header ends its time."""
        super().handle_events()
        if self.asked:
            self.idle_since = None
            self._cancel()

    def on_response_complete(self) -> None:
        """The answer is written; the next request may have been read already."""
        super().on_response_complete()
        if not self.asked:
            self.idle_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side, or this one, is gone."""
        self._cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answers what h11 cannot read."""
        self._refuse(Problem("bad-request", f"{msg} Its header has at most {HEADER_BYTES} bytes."))

    # The time of a header.

    def _await_header(self) -> None:
        self._header = self.loop.call_later(self._limits.header_s, self._late)

    def _cancel(self) -> None:
        if self._header is not None:
            self._header.cancel()
            self._header = None

    def _late(self) -> None:
        self._header = None
        if self.asked or self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:
            self._refuse(Problem("request-timeout", f"the header did not come within {self._limits.header_s:g} s"))
        else:
            self.transport.close()

    def _make_room(self) -> bool:
        """Ends the connection that has been idle longest. False when none is idle."""
        known = [one for one in self.connections if isinstance(one, Connection)]
        idle = [(one.idle_since, one) for one in known if one.idle_since is not None]
        if not idle:
            return False
        _, oldest = min(idle, key=lambda each: each[0])
        oldest.transport.abort()
        self.connections.discard(oldest)
        return True

    def _refuse(self, problem: Problem) -> None:
        """Answers before there is a request, and closes."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            answer = problems.answer(problem, None)
            headers = [
                *self.server_state.default_headers,
                *answer.raw_headers,
                *((name.encode(), value.encode()) for name, value in SECURITY.items()),
                (b"connection", b"close"),
            ]
            reason = HTTPStatus(answer.status_code).phrase.encode()
            start = h11.Response(status_code=answer.status_code, headers=headers, reason=reason)
            for event in (start, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
