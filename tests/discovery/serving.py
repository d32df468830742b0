"""Runs the app under its real server on a free loopback port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from discovery.api import create_app
from discovery.server import Server, free_port, server
from discovery.services import Services
from tests.discovery.waiting import until


@contextmanager
def serving(services: Services, port: int = 0) -> Iterator[tuple[str, Server]]:
    """The address and the server; on leaving, the server ends and all that the app started. Port 0: a free one."""
    port = port or free_port("127.0.0.1")
    running = server(create_app(services), "127.0.0.1", port)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        until(lambda: running.started)
        yield f"http://127.0.0.1:{port}", running
    finally:
        running.stop()
        thread.join(20)
        assert not thread.is_alive(), "the server did not end"
