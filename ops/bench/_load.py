"""An open-loop load: requests begin at their appointed times, and a late beginning counts as latency.

One thread for each connection, plain http.client: on two cores a heavier client would measure itself.
"""

from __future__ import annotations

import http.client
import json
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
    """What came of a load.

    Attributes:
        times: milliseconds of each request from its appointed time.
        failures: answers that were not 2xx, by status and type of problem, and requests without one, by error.
    """

    times: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


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
            failure = _failure(connection, ask_of(number))
            took = (time.monotonic() - appointed) * 1000
            with lock:
                found.times.append(took)
                if failure:
                    found.failures[failure] += 1

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _failure(connection: http.client.HTTPConnection, ask: Ask) -> str:
    """Asks, and says what was wrong with the answer; empty for nothing."""
    try:
        connection.request(ask.method, ask.path, ask.body, dict(ask.headers))
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return f"no answer: {type(error).__name__}"
    if 200 <= response.status < 300:
        return ""
    problem = json.loads(body).get("type", "") if response.headers.get_content_subtype() == "problem+json" else ""
    return f"{response.status} {problem}".strip()
