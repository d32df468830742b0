"""Engagement aggregated for each query object: what people did with the results of a search (paper section 7).

Kept by the engagements worker (consumers/engagements.py) from topic `engagements`, one row for each (result, query pin,
query object), in the partition of the result. For a result r of query q, with w(kind) below and w(d) the sum of the
weights of day d (UTC),

    n(q, r) = sum over days d of the last `WINDOW_DAYS` of  w(d) * 2 ^ (-(today - d) / HALF_LIFE_DAYS)

    kind     impression  closeup  click  long click  save  crop
    weight            0     0.25      1           2     3     0

One person counts once a day for each kind, query and result of an answer (`request_id`); without user and request an
event is told from its repetition by all that it says, its time included. So an event counts once however often it is
published. What comes more than `LATE_DAYS` behind the newest event of its partition is left out, because so long is
remembered what was counted; a time ahead of the log's counts as at most a day ahead. Weights are kept in whole
thousandths, so that sums do not depend on sequence.

    family   key                                                    value
    counts   result NUL query NUL ("w" | object index)              (day u32, thousandths u32) each, ascending by day
    days     day u32, counts key                                    nothing; the newest day of each row, for its end
    seen     day u32, hash 16 bytes                                 nothing; what was counted
    marks    "newest"                                               day u32 of the newest event
"""

from __future__ import annotations

import hashlib
import math
import struct
import time
from collections.abc import Callable, Mapping, Sequence

from indexer.errors import Damaged
from indexer.keyed_layout import Store
from indexer.keyed_reader import KeyedReader

ENGAGEMENT = Store("engagement", 1, ("counts", "days", "seen", "marks"))
WEIGHTS = {"closeup": 250, "click": 1_000, "long_click": 2_000, "save": 3_000}
"""Thousandths; a kind that is not here counts nothing."""
DAY_MS = 86_400_000
WINDOW_DAYS = 90
HALF_LIFE_DAYS = 30.0
LATE_DAYS = 8
MAX_WEIGHT = 2**32 - 1
DAY = struct.Struct(">I")
NEWEST = b"newest"
_BUCKET = struct.Struct("<II")


def key_of(result: str, query: str, object_index: int | None) -> bytes:
    """The row of a result for a query object."""
    part = "w" if object_index is None else str(object_index)
    return b"\0".join((result.encode(), query.encode(), part.encode()))


def identity(*parts: object) -> bytes:
    """16 bytes by which an event is told from others."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=16).digest()


def unpack(row: bytes | None) -> dict[int, int]:
    """Day -> thousandths.

    Raises:
        Damaged: the row is not laid out as above.
    """
    if row is None:
        return {}
    if len(row) % _BUCKET.size:
        raise Damaged(f"an engagement row of {len(row)} bytes")
    return dict(_BUCKET.iter_unpack(row))


def pack(days: Mapping[int, int], newest: int) -> bytes:
    """The row, without days that left the window."""
    kept = sorted((day, weight) for day, weight in days.items() if day > newest - WINDOW_DAYS)
    return b"".join(_BUCKET.pack(day, min(weight, MAX_WEIGHT)) for day, weight in kept)


def decayed(days: Mapping[int, int], today: int) -> float:
    """N of the formula above; days to come count as today."""
    return sum(
        weight / 1_000 * math.exp2(-max(0, today - day) / HALF_LIFE_DAYS)
        for day, weight in days.items()
        if day > today - WINDOW_DAYS
    )


class EngagementReader:
    """Reads engagement in another process; `reader` follows the store `ENGAGEMENT`. Thread-safe.

    Args:
        now_ms: Unix milliseconds.
    """

    def __init__(self, reader: KeyedReader, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._reader = reader
        self._now_ms = now_ms

    def of(self, pin_id: str, object_index: int | None, results: Sequence[str]) -> Mapping[str, float]:
        """Result -> n, of these results of a query object; results without engagement are left out.

        Raises:
            Retryable: the store is being replaced or its disk refuses.
        """
        self._reader.refresh()
        keys = [key_of(result, pin_id, object_index) for result in results]
        rows = self._reader.get_many("counts", keys, owners=[result.encode() for result in results])
        today = self._now_ms() // DAY_MS
        found = {result: decayed(unpack(row), today) for result, row in zip(results, rows, strict=True) if row}
        return {result: n for result, n in found.items() if n > 0}

    def close(self) -> None:
        """Lets go of the files."""
        self._reader.close()
