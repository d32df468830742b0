"""Candidate generation (section 7 of the paper): the nearest codes by Hamming distance that pass the filters, by pin.

The index answers codes; a pin may be found by several of its codes, and filters that it does not know may refuse many.
So more codes are fetched until enough pins are among them, up to `FETCH_LIMIT` codes or the time limit. What ended the
search early is said in the answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from discovery.filters import Filters
from discovery.ports import Hit, Index
from discovery.subjects import Subject
from indexer.errors import SearchTimeout
from indexer.search import Scope
from indexer.signals import by_pin

FETCH_LIMIT = 2_000
Partial = Literal["time-limit", "candidate-limit"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pins by their nearest code, nearest first.

    Attributes:
        hits: one for each pin.
        watermark: partition -> last applied offset that they reflect.
        partial: why there may be more that would have fitted; None when there are not, or enough were found.
        exhausted: there is nothing else that fits.
    """

    hits: Sequence[Hit]
    watermark: Mapping[int, int]
    partial: Partial | None = None
    exhausted: bool = False


def nearest_pins(
    index: Index, subject: Subject, code: bytes, *, wanted: int, scope: Scope, filters: Filters, limit_s: float
) -> Candidates:
    """The nearest pins that pass, `wanted` of them where there are so many.

    Raises:
        SearchTimeout: `limit_s` passed before anything was found. Retryable: the index is away.
    """
    deadline = time.monotonic() + limit_s
    fetch = min(FETCH_LIMIT, wanted + wanted // 2 + 8)
    found: Candidates | None = None
    while True:
        try:
            answered = index.search(
                code,
                fetch,
                scope=scope,
                exclude_pins=subject.exclude_pins,
                exclude_sha256=subject.exclude_sha256,
                label=filters.label,
                category=filters.category,
                buyable=filters.buyable,
                limit_s=max(0.001, deadline - time.monotonic()),
            )
        except SearchTimeout:
            if found is None:
                raise
            return Candidates(found.hits, found.watermark, "time-limit")
        passing = [hit for hit in answered.hits if filters.passes(hit)] if filters.looks_at_records else answered.hits
        best = by_pin(passing)
        exhausted = len(answered.hits) < fetch
        if len(best) >= wanted or exhausted:
            return Candidates(best[:wanted], answered.watermark, None, exhausted and len(best) <= wanted)
        if fetch >= FETCH_LIMIT:
            return Candidates(best, answered.watermark, "candidate-limit")
        found = Candidates(best, answered.watermark)
        fetch = min(FETCH_LIMIT, fetch * 4)
