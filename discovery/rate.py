"""How often one client may ask: a token bucket for each address, for a bounded number of addresses."""

from __future__ import annotations

from collections import OrderedDict

from dotstream.clock import Clock

ADDRESSES = 10_000


class RateLimit:
    """Token buckets. Belongs to one event loop.

    Args:
        per_s: tokens that come back in a second; 0 lets everything pass.
        burst: tokens in a full bucket.
    """

    def __init__(self, per_s: float, burst: int, clock: Clock) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Takes a token of this address: 0, or the seconds until there is one."""
        if self._per_s <= 0:
            return 0.0
        now = self._clock.monotonic()
        tokens, since = self._buckets.pop(address, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - since) * self._per_s)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._per_s
        self._buckets[address] = (tokens if wait else tokens - 1, now)
        while len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        return wait
