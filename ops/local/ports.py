"""Free loopback ports for the parts of a local stack."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

from dotstream.errors import Misconfigured

LOOPBACK = "127.0.0.1"
_FIRST, _LAST = 20_000, 32_000


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing listens on at this moment, all different.

    They lie below the range that Linux gives to outgoing connections: a client that keeps dialling a dead server at
    a port within that range can be given the very port as its own end, connect to itself, and hold it.

    Raises:
        Misconfigured: a thousand ports in a row were taken.
    """
    chooser = random.SystemRandom()
    found: list[int] = []
    with ExitStack() as held:
        for _ in range(1000):
            if len(found) == count:
                return found
            probe = held.enter_context(socket.socket())
            try:
                probe.bind((LOOPBACK, chooser.randrange(_FIRST, _LAST)))
            except OSError:
                continue
            found.append(int(probe.getsockname()[1]))
    raise Misconfigured(f"no free port between {_FIRST} and {_LAST} on {LOOPBACK}; stop what holds them")


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now, as servers do: over connections that are closing."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
