"""An open-loop load: requests begin at their appointed times, and a late beginning counts as latency.

One thread for each connection, plain http.client: on two cores a heavier client would measure itself.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

LIMIT_S = 15.0


@dataclass(frozen=True)
class Ask:
    """One HTTP request."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Answers:
    """What came of a load: milliseconds of each request from its appointed time, and how many had which status.

    Status 0: no answer.
    """

    times: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def errors(self) -> int:
        """Answers that were not 2xx, and requests without one."""
        return sum(n for status, n in self.statuses.items() if not 200 <= status < 300)


def load(address: str, ask_of: Callable[[int], Ask], *, rate: float, seconds: float, connections: int) -> Answers:
    """Asks at a steady rate.

    Args:
        address: "http://host:port".
        ask_of: the n-th request.
        rate: requests a second, over all connections.
        seconds: for so long.
        connections: kept open, each asked by a thread of its own.
    """
    total = int(rate * seconds)
    found = Answers()
    turn = iter(range(total))
    lock = threading.Lock()
    begun = time.monotonic() + 0.2

    def work() -> None:
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=LIMIT_S)
        while True:
            with lock:
                number = next(turn, None)
            if number is None:
                connection.close()
                return
            appointed = begun + number / rate
            time.sleep(max(0.0, appointed - time.monotonic()))
            status = _status(connection, ask_of(number))
            took = (time.monotonic() - appointed) * 1000
            with lock:
                found.times.append(took)
                found.statuses[status] += 1

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _status(connection: http.client.HTTPConnection, ask: Ask) -> int:
    try:
        connection.request(ask.method, ask.path, ask.body, dict(ask.headers))
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0
    return response.status
