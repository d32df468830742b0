"""Candidate generation (section 7 of the paper): the nearest codes by Hamming distance that pass the filters, by pin.

The index answers codes; a pin may be found by several of its codes, and filters that it does not know may refuse many.
So more codes are fetched until enough pins are among them, up to `FETCH_LIMIT` codes or the time limit. Where too many
of those pins are near-copies of each other, `in_rounds` goes on behind them. What ended the search early is said in the
answer.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

from discovery.filters import Filters
from discovery.ports import Hit, Index
from discovery.subjects import Subject
from indexer.errors import SearchTimeout
from indexer.search import Scope
from indexer.signals import by_pin

FETCH_LIMIT = 2_000
PICTURES_MAX = 1_000
"""Different pictures that are looked through at most where near-copies leave fewer results than are wanted."""
ROUNDS = 12
"""Searches that this takes at most; each leaves out what those before it found."""
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


def untimed(stage: str) -> AbstractContextManager[object]:
    """Measures nothing."""
    _ = stage
    return nullcontext()


def in_rounds(
    index: Index,
    subject: Subject,
    code: bytes,
    *,
    wanted: int,
    scope: Scope,
    filters: Filters,
    limit_s: float,
    timed: Callable[[str], AbstractContextManager[object]] = untimed,
) -> Iterator[Candidates]:
    """The nearest pins that pass: `wanted` of them, then more for as long as the caller asks for more.

    Each item holds all pins found so far. A round leaves out the pins of those before it, and pictures that several of
    them show under whatever other pin; it takes four times as many pins as the last one found pictures, as near-copies
    differ in their bytes. The last item says with `partial` what ended the search, unless nothing else fits.

    `limit_s` is for all rounds together; `timed` measures each as stage scan.

    Raises:
        SearchTimeout: `limit_s` passed before anything was found. Retryable: the index is away.
    """
    deadline = time.monotonic() + limit_s
    found = Candidates((), {})
    pictures: set[bytes] = set()
    size = wanted
    for _ in range(ROUNDS):
        try:
            with timed("scan"):
                more = nearest_pins(
                    index,
                    subject,
                    code,
                    wanted=size,
                    scope=scope,
                    filters=filters,
                    limit_s=max(0.001, deadline - time.monotonic()),
                    besides=found.hits,
                )
        except SearchTimeout:
            if not found.watermark:
                raise
            yield replace(found, partial="time-limit")
            return
        hits = by_pin([*found.hits, *more.hits])
        found = Candidates(hits, found.watermark or more.watermark, more.partial, more.exhausted)
        yield found
        if more.exhausted or more.partial:
            return
        fresh = {hit.record.image_sha256 for hit in more.hits}
        pictures |= fresh
        if len(pictures) >= PICTURES_MAX:
            break
        size = min(PICTURES_MAX - len(pictures), max(wanted, 4 * len(fresh)))
    yield replace(found, partial="candidate-limit")


def nearest_pins(
    index: Index,
    subject: Subject,
    code: bytes,
    *,
    wanted: int,
    scope: Scope,
    filters: Filters,
    limit_s: float,
    besides: Sequence[Hit] = (),
) -> Candidates:
    """The nearest pins that pass, `wanted` of them where there are so many.

    `besides`: pins that are left out beside the subject's own, and with them all pins of a picture that several show.

    Raises:
        SearchTimeout: `limit_s` passed before anything was found. Retryable: the index is away.
    """
    deadline = time.monotonic() + limit_s
    shown = Counter(hit.record.image_sha256 for hit in besides)
    exclude_pins = subject.exclude_pins.union(hit.pin_id for hit in besides)
    exclude_sha256 = subject.exclude_sha256.union(sha256 for sha256, pins in shown.items() if pins > 1)
    fetch = min(FETCH_LIMIT, wanted + wanted // 2 + 8)
    found: Candidates | None = None
    while True:
        try:
            answered = index.search(
                code,
                fetch,
                scope=scope,
                exclude_pins=exclude_pins,
                exclude_sha256=exclude_sha256,
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
