"""How queries are swept for: which go together, which rows are read, and in what pieces threads share them.

Filters become masks, worked out once for all queries that have the same. Where only a small share of the codes passes,
and for allow lists, the passing rows are listed and nothing else is read. All other queries go over the codes together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from indexer.asks import Ask, Terms, Wanted
from indexer.crew import ALONE, Crew
from indexer.kernel import SHIFT
from indexer.scan import ALL, Ints, Mask, Nearest, Stored, Sweep, merged, table_of
from indexer.segments import Segment
from indexer.view import View

_PICKED_SHARE = 0.4
_MASKED_AT_ONCE = 16
_UNIT_BYTES = 32 << 20
_ALONE_BYTES = 2 << 20
_FEWEST_ROWS = 1024
_WHOLE_GROUPS = 64


@dataclass(frozen=True, slots=True)
class Part:
    """A segment of one of the views that are searched.

    Attributes:
        number: among all parts; it stands above `SHIFT` in the slots that a sweep finds, the row below.
        view: number of the view.
        segment: the segment.
        length: committed slots in it, at least 1.
        stored: its codes as a sweep reads them.
    """

    number: int
    view: int
    segment: Segment
    length: int
    stored: Stored

    @property
    def base(self) -> int:
        """Row 0 as a sweep finds it."""
        return self.number << SHIFT


class Parts(list[Part]):
    """The parts of some views, `Part.number` in order."""

    @cached_property
    def table(self) -> Ints:
        """As the kernel looks them up, see `indexer.scan.table_of`."""
        return table_of([part.stored for part in self])

    @cached_property
    def views(self) -> Ints:
        """int64 [parts], the view of each."""
        return np.array([part.view for part in self], np.int64)

    @cached_property
    def slots(self) -> Ints:
        """int64 [parts], the number of each one's first slot; -1 where the others do not follow it."""
        return np.array([part.segment.first_slot for part in self], np.int64)


def parts_of(views: Sequence[View]) -> Parts:
    """The segments of views, numbered."""
    parts = Parts()
    for at, view in enumerate(views):
        for segment, length in view.segments:
            if length:
                base = len(parts) << SHIFT
                stored = Stored(segment.codes, base, segment.born, segment.died, view.watermark, segment.addresses)
                parts.append(Part(len(parts), at, segment, length, stored))
    return parts


@dataclass(slots=True)
class Job:
    """Queries that are swept together.

    Attributes:
        asks: their numbers.
        masks: for each of them which rows of each part pass; not where rows are listed.
        rows: the rows to look at for all of these queries, in any number of arrays, as `Part.base` and the row in it;
            None: all rows.
    """

    asks: list[int] = field(default_factory=list)
    masks: list[list[Mask | None]] = field(default_factory=list)
    rows: list[Ints] | None = None


def jobs(parts: Sequence[Part], asks: Sequence[Ask]) -> Iterator[Job]:
    """Every query, in one of the jobs."""
    same: defaultdict[tuple[Wanted, ...], list[int]] = defaultdict(list)
    for number, ask in enumerate(asks):
        if any(terms.only is not None for terms in ask.terms):
            yield Job([number], rows=[_only(part, ask.terms[part.view]) for part in parts])
        else:
            same[tuple(terms.wanted for terms in ask.terms)].append(number)
    together, masked = Job(), 0
    for wanted, numbers in same.items():
        if all(one.everything for one in wanted):
            together.asks += numbers
            together.masks += [[None] * len(parts)] * len(numbers)
            continue
        masks = [wanted[part.view].mask(part.segment, part.length) for part in parts]
        if _passing(parts, masks) < _PICKED_SHARE * sum(part.length for part in parts):
            yield Job(numbers, rows=[_listed(part, mask) for part, mask in zip(parts, masks, strict=True)])
            continue
        together.asks += numbers
        together.masks += [masks] * len(numbers)
        masked += any(mask is not None for mask in masks)
        if masked == _MASKED_AT_ONCE:  # the masks of a large index take memory
            yield together
            together, masked = Job(), 0
    if together.asks:
        yield together


def _passing(parts: Sequence[Part], masks: Sequence[Mask | None]) -> int:
    pairs = zip(parts, masks, strict=True)
    return sum(part.length if mask is None else int(np.count_nonzero(mask)) for part, mask in pairs)


def _listed(part: Part, mask: Mask | None) -> Ints:
    rows = np.arange(part.length) if mask is None else np.flatnonzero(mask)
    rows += part.base
    return rows


def _only(part: Part, terms: Terms) -> Ints:
    """The rows of an allow list that pass the filter; all rows that pass where the view has no list."""
    mask = terms.wanted.mask(part.segment, part.length)
    if terms.only is None:
        return _listed(part, mask)
    rows = np.array(sorted(terms.only.get(part.segment.number, ())), np.int64)
    rows = rows[rows < part.length]
    return part.base + (rows if mask is None else rows[mask[rows]])


@dataclass(frozen=True, slots=True)
class _Unit:
    """A piece of a job that one thread does: a stretch of a part's rows, or of those that are listed (no part)."""

    part: Part | None
    start: int
    stop: int


def sweep(
    parts: Parts,
    asks: Sequence[Ask],
    job: Job,
    crew: Crew,
    checkpoint: Callable[[], None],
) -> list[Nearest]:
    """What each of a job's queries finds. As many more as it leaves out are found, so that k are left over.

    Args:
        parts: all of them.
        asks: all queries.
        job: which of them, and where.
        crew: threads to use.
        checkpoint: called before each piece.
    """
    chosen = [asks[number] for number in job.asks]
    codes = np.stack([ask.code for ask in chosen])
    k = np.array([ask.k + ask.left_out for ask in chosen], np.int64)
    bounds = np.array([ask.within for ask in chosen], np.int64)
    rows = None if job.rows is None else np.concatenate([np.empty(0, np.int64), *job.rows])
    units = _units(parts, job, rows, crew.threads, codes.shape[1])
    size = sum(unit.stop - unit.start for unit in units) * codes.size
    free = crew if size > _ALONE_BYTES else ALONE

    def gather(which: slice, k: Ints, bounds: Ints, room: int | None) -> list[Nearest]:
        sweeps: list[Sweep] = []

        def join() -> Callable[[_Unit], None]:
            mine = Sweep(codes[which], k, bounds, room)
            sweeps.append(mine)

            def do(unit: _Unit) -> None:
                checkpoint()
                if rows is not None:
                    mine.pick_of(parts.table, rows[unit.start : unit.stop])
                elif unit.part is not None:
                    masks = [mask[unit.part.number] for mask in job.masks[which]]
                    mine.scan(unit.part.stored, unit.start, unit.stop, masks)

            return do

        free.run(units, join)
        return [merged(sweeps, n, int(k[n]), int(bounds[n])) for n in range(len(k))]

    found = gather(slice(None), k, bounds, None)
    for n, one in enumerate(found):
        if one.total > len(one.slots):  # very many lie at the k-th distance: now it and their number are known
            found[n] = gather(slice(n, n + 1), np.array([ALL]), np.array([one.bound]), one.total)[0]
    return found


def _units(parts: Parts, job: Job, rows: Ints | None, threads: int, code_bytes: int) -> list[_Unit]:
    """Pieces that take some milliseconds at most, and are enough for every thread."""
    pieces = [(part, part.length) for part in parts] if rows is None else [(None, len(rows))]
    share = -(-sum(length for _, length in pieces) // (4 * threads))
    limit = _UNIT_BYTES // code_bytes // max(1, len(job.asks) // 8)
    step = max(_FEWEST_ROWS, min(share if threads > 1 else limit, limit))
    step = -(-step // _WHOLE_GROUPS) * _WHOLE_GROUPS
    return [
        _Unit(part, start, min(start + step, length)) for part, length in pieces for start in range(0, length, step)
    ]
