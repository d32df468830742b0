"""Faster than exact: sketches of the codes are scanned, and only what looks near is read and ranked by its code.

Sketches (sketches.py) are a small part of the codes' size, and a sketch's distance is at most its code's. That gives

- approximate k nearest: a small share of the codes, those with the nearest sketches, is ranked. Versions, deletes and
  filters hold as in an exact search, only a neighbour whose sketch looks far is missed; faster.py measures how many;
- exact range search: a code within distance d has its sketch within d, so that all others need not be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from indexer.asks import Ask
from indexer.crew import Crew
from indexer.scan import Ints, Mask, Nearest
from indexer.search import Candidates, by_view
from indexer.sketches import ENOUGH_ROWS, Sample, rows_of
from indexer.sweeps import Job, Part, jobs, parts_of, sweep
from indexer.view import View

_MOST_TIES = 4
_TRIED, _TRIED_PARTS, _SPARE = 16, 4, 8
"""One in so many sketches, of about so many parts, tells how near the nearest are; so many more than their share are
looked for among them."""
_FEWEST = 100
_WORTH_IT = 8
"""A range search reads all codes when more than one in so many looks near enough."""
_Sweep = Callable[..., list[Nearest]]


class SketchSearch:
    """The searches of one reader by its own sketches.

    Args:
        bits: of a sketch, a multiple of 64.
        share: of the codes that are ranked, those with the nearest sketches; `4 k` and 100 where that is more.
    """

    def __init__(self, bits: int, share: float) -> None:
        if bits <= 0 or bits % 64 or not 0 <= share <= 1:
            raise ValueError(f"sketches of {bits} bits, share {share}: a multiple of 64, and 0 to 1")
        self._bits = bits
        self._share = share
        self._sample: Sample | None = None

    def nearest(
        self, views: Sequence[View], asks: Sequence[Ask], *, crew: Crew, checkpoint: Callable[[], None]
    ) -> list[list[Candidates]]:
        """As `indexer.search.nearest`, approximately."""
        return self._find(views, asks, self._approximately, crew, checkpoint)

    def exactly(
        self, views: Sequence[View], asks: Sequence[Ask], *, crew: Crew, checkpoint: Callable[[], None]
    ) -> list[list[Candidates]]:
        """As `indexer.search.nearest`; queries for small distances read only what sketches do not rule out."""
        return self._find(views, asks, self._by_distance, crew, checkpoint)

    def _find(
        self,
        views: Sequence[View],
        asks: Sequence[Ask],
        narrow: Callable[[Job, Sequence[Ask], Sequence[Part], Sample, _Sweep], Iterator[Job]],
        crew: Crew,
        checkpoint: Callable[[], None],
    ) -> list[list[Candidates]]:
        checkpoint()
        parts = parts_of(views)
        sample = self._sampled(parts)

        def swept(parts: Sequence[Part], asks: Sequence[Ask], job: Job, *, sliced: bool = False) -> list[Nearest]:
            return sweep(parts, asks, job, crew, checkpoint, sliced=sliced)

        found: list[list[Candidates]] = [[]] * len(asks)
        for job in jobs(parts, asks):
            narrowed = [job] if sample is None or job.rows is not None else narrow(job, asks, parts, sample, swept)
            for each in narrowed:
                for number, one in zip(each.asks, swept(parts, asks, each), strict=True):
                    found[number] = by_view(parts, len(views), asks[number], one)
        return found

    def _sampled(self, parts: Sequence[Part]) -> Sample | None:
        """What to sample, chosen anew when the index has grown eightfold; None where sketches would be no shorter."""
        if not parts or parts[0].segment.codes.shape[1] * 8 <= self._bits:
            return None
        sample = self._sample
        if sample is None or sample.rows < min(ENOUGH_ROWS, rows_of(parts) // 8):
            sample = self._sample = Sample(parts, self._bits // 8)
        return sample

    def _approximately(
        self, job: Job, asks: Sequence[Ask], parts: Sequence[Part], sample: Sample, swept: _Sweep
    ) -> Iterator[Job]:
        """Each query on its own, confined to the rows whose sketches are nearest."""
        depth = max(_FEWEST, round(self._share * rows_of(parts)))
        looks = [self._sketched(asks[number], max(depth, 4 * asks[number].k), sample) for number in job.asks]
        slices = [sample.of(part) for part in parts]
        near = _nearest_sketches(slices, looks, job.masks, swept)
        for number, look, masks, one in zip(job.asks, looks, job.masks, near, strict=True):
            rows = _rows(parts, one, _MOST_TIES * look.k)
            if 2 * _living(parts, rows) < look.k <= one.total:  # the dead lie in the way
                of_version = [_of_version(part, sketched) for part, sketched in zip(parts, slices, strict=True)]
                (one,) = swept(of_version, [look], Job([0], [masks]), sliced=True)  # noqa: PLW2901
                rows = _rows(parts, one, _MOST_TIES * look.k)
            yield Job([number], rows=rows)

    def _by_distance(
        self, job: Job, asks: Sequence[Ask], parts: Sequence[Part], sample: Sample, swept: _Sweep
    ) -> Iterator[Job]:
        """Queries for small distances, each confined to the rows whose sketches are within; the others together."""
        few = max(1, rows_of(parts) // _WORTH_IT)
        small = [n for n, number in enumerate(job.asks) if asks[number].within < self._bits // 2]
        rest = sorted(set(range(len(job.asks))) - set(small))
        if small:
            looks = [self._sketched(asks[job.asks[n]], few, sample) for n in small]
            slices = [sample.of(part) for part in parts]
            near = swept(slices, looks, Job(list(range(len(small))), [job.masks[n] for n in small]), sliced=True)
            for n, look, one in zip(small, looks, near, strict=True):
                if one.bound < look.within:
                    rest.append(n)  # too many look near
                else:
                    yield Job([job.asks[n]], rows=_rows(parts, one, None))
        if rest:
            yield Job([job.asks[n] for n in rest], [job.masks[n] for n in rest])

    def _sketched(self, ask: Ask, k: int, sample: Sample) -> Ask:
        """What a query asks of the sketches."""
        return Ask(ask.code[sample.places], k, min(ask.within, self._bits), ask.terms)


def _nearest_sketches(
    slices: Sequence[Part], looks: Sequence[Ask], masks: Sequence[list[Mask | None]], swept: _Sweep
) -> list[Nearest]:
    """The sketches nearest to each query. A part of them tells first how near these will be: most sketches then cost
    nothing, where otherwise several times as many as are wanted would be kept for a while.
    """
    everyone = list(range(len(looks)))
    step = max(1, len(slices) // _TRIED_PARTS)
    few = [Part(one.number, one.view, one.segment, _tried(one, step), one.stored) for one in slices[::step]]
    tried = [replace(look, k=-(-look.k // _TRIED) + _SPARE) for look in looks]
    bounds = [one.bound for one in swept(few, tried, Job(everyone, list(masks)), sliced=True)]
    within = [replace(look, within=bound) for look, bound in zip(looks, bounds, strict=True)]
    near: list[Nearest] = swept(slices, within, Job(everyone, list(masks)), sliced=True)
    for n, (look, one) in enumerate(zip(looks, near, strict=True)):
        if 2 * one.total < look.k and one.bound < look.within:  # that part was no example of the rest
            (near[n],) = swept(slices, [look], Job([0], [masks[n]]), sliced=True)
    return near


def _tried(part: Part, step: int) -> int:
    """How many of the first codes of every so many parts are one in `_TRIED` of all."""
    return min(part.length, -(-part.length * step // _TRIED))


def _of_version(part: Part, sketched: Part) -> Part:
    """The sketches of those codes only that belong to the version."""
    stored = replace(part.stored, codes=sketched.stored.codes)
    return Part(part.number, part.view, part.segment, part.length, stored)


def _living(parts: Sequence[Part], rows: Sequence[Ints]) -> int:
    """How many of the rows have not died at the version, as far as they were of it at all."""
    return sum(
        int(np.count_nonzero(part.segment.died[found] > part.stored.watermark)) if part.segment.edits else len(found)
        for part, found in zip(parts, rows, strict=True)
    )


def _rows(parts: Sequence[Part], near: Nearest, most: int | None) -> list[Ints]:
    """The rows that look near, ascending, by part; the nearest of them where they are very many."""
    slots = near.slots
    if most is not None and len(slots) > most:
        slots = slots[np.argpartition(near.distances, most)[:most]]
    slots = np.sort(slots, kind="stable")  # threads bring pieces that are in order
    starts = np.searchsorted(slots, [part.base for part in parts])
    return [found - part.base for part, found in zip(parts, np.split(slots, starts[1:]), strict=True)]
