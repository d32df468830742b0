"""Runs the app under uvicorn: on connections with limits, and so that a stop ends open event streams at once."""

from __future__ import annotations

import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from discovery.connection import HEADER_BYTES, Connection
from discovery.routes.context import Context

GRACE_S = 5


class Server(uvicorn.Server):
    """uvicorn that tells the app's event streams of a stop."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT or SIGTERM."""
        self._context.feed.close()
        super().handle_exit(sig, frame)

    def stop(self) -> None:
        """Ends serving; from any thread."""
        self._context.feed.close()
        self.should_exit = True


def server(app: FastAPI, host: str, port: int) -> Server:
    """A server for an app of `create_app`. `run()` serves until a signal or `stop()`; port 0 is not for this."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=75,
        http=Connection,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )
    return Server(config, app.state.context)


def free_port(host: str, wanted: int | None = None) -> int:
    """`wanted` when it is free on this address, else any free one."""
    for port in (wanted, 0) if wanted else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port or 0))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(f"no free port on {host}")
