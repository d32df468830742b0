"""A sweep: the nearest of one or many queries, gathered over any number of runs through stored codes.

The numpy side of the kernel (kernel_ir.py): it owns the arrays that a work points to. One thread uses a sweep at a
time; threads that share a search have one each, and `merged` puts together what they found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.kernel import FIELDS, PART, Entry, kernel

Codes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
ALL = 2**62
"""The k of a query that wants everything within its bound."""
_POINTED = FIELDS.index("start")  # so many fields tell where codes are
_PARTS, _PASSES, _ROWS, _START, _STOP, _STRETCHES, _STRETCHED = (
    FIELDS.index(name) for name in ("parts", "passes", "rows", "start", "stop", "stretches", "stretched")
)
_NUMBERS = 5  # of each query: k, bound, within, kept, passes
_ROOM = 512
_CACHE_LINE = 64


@dataclass(frozen=True, slots=True)
class Stored:
    """Codes to run through, and which of them belong to the version.

    Attributes:
        codes: uint8 [rows, code bytes], contiguous.
        base: slot of row 0.
        born, died: int64 [rows or more]; None: every row counts.
        watermark: rows with born <= watermark < died count.
        addresses: of codes, born and died in memory, 0 for none; looked up where they are not given.
    """

    codes: Codes
    base: int = 0
    born: Ints | None = None
    died: Ints | None = None
    watermark: int = 0
    addresses: tuple[int, int, int] | None = None

    @property
    def part(self) -> tuple[int, int, int, int]:
        """As the kernel has it in `parts`."""
        if self.addresses is not None:
            return *self.addresses, self.watermark
        codes, born, died = (0 if array is None else array.ctypes.data for array in (self.codes, self.born, self.died))
        return codes, born, died, self.watermark


@dataclass(frozen=True, slots=True)
class Nearest:
    """What sweeps found for one query.

    Attributes:
        slots: int64 [m], in no order.
        distances: int64 [m].
        bound: the k-th distance, or the bound given where fewer were found.
        total: how many lie within `bound`; more than m when they did not fit and must be swept for again.
    """

    slots: Ints
    distances: Ints
    bound: int
    total: int


class Sweep:
    """What was found for each query so far.

    Args:
        queries: uint8 [nq, code bytes].
        k: int64 [nq]: how many each wants, at least 1, further ones at the last distance included; `ALL`: no limit.
        bounds: int64 [nq]: the largest distance wanted.
        room: how many may lie within the bound of one query; by default enough for any k unless very many tie.
    """

    def __init__(self, queries: Codes, k: Ints, bounds: Ints, room: int | None = None) -> None:
        nq, code_bytes = queries.shape
        compiled = kernel(code_bytes)
        step = 1 if nq == 1 else 2
        padded = -(-nq // step) * step
        self._lanes = compiled.lanes
        self._scan = compiled.scan[step - 1]
        self._pick = compiled.pick[step - 1]
        self._stretches = compiled.stretches[step - 1]
        self.room = _ROOM + 2 * max(_ROOM if one == ALL else one for one in k.tolist()) if room is None else room
        self._held: object = None
        (asked, numbers, self.counts, self.slots, self.distances), addresses = _arrays(
            (padded, code_bytes, "u1"),
            (_NUMBERS, padded, "i8"),
            (padded, code_bytes * 8 + 1, "u4"),
            (padded, self.room, "i8"),
            (padded, self.room, "i4"),
        )
        wanted, self.bounds, self.within, self.kept, self._passes = numbers
        asked[:nq] = queries
        wanted[:nq], wanted[nq:] = k, 1
        self.bounds[:nq], self.bounds[nq:] = bounds, -1  # a query that only pads finds nothing
        at_queries, at_numbers, at_counts, at_slots, at_distances = addresses
        at_k, at_bound, at_within, at_kept, self._passes_address = (
            at_numbers + 8 * padded * n for n in range(_NUMBERS)
        )
        found = at_queries, padded, at_k, at_bound, at_within, at_kept, at_counts, self.room, at_slots, at_distances
        self._work = np.array((0,) * (len(FIELDS) - len(found)) + found, np.int64)
        self._address = self._work.ctypes.data

    def scan(self, stored: Stored, start: int, stop: int, passes: Sequence[Mask | None] = ()) -> None:
        """Runs through rows start..stop.

        Args:
            stored: the codes.
            start: the first row.
            stop: behind the last row.
            passes: per query which rows may be found, bool [rows]; None or nothing: all.
        """
        whole = start + (stop - start) // self._lanes * self._lanes
        if whole > start:
            self._point(stored, None, passes)
            self._run(self._scan, start, whole)
        if whole < stop:
            self.pick(stored, np.arange(whole, stop), passes)

    def stretches(self, stored: Stored, starts: Ints, stops: Ints) -> None:
        """Runs through many stretches of rows. What stands behind them up to the end of a group has to be in memory."""
        ends = np.stack([starts, stops], axis=1)
        self._point(stored, None, ())
        self._work[_STRETCHES], self._work[_STRETCHED] = ends.ctypes.data, len(ends)
        self._stretches(self._address)

    def pick(self, stored: Stored, rows: Ints, passes: Sequence[Mask | None] = ()) -> None:
        """Looks at the listed rows only, int64 [n], ascending for speed."""
        if len(rows):
            self._point(stored, self._listed(rows), passes)
            self._run(self._pick, 0, len(rows))

    def pick_of(self, table: Ints, slots: Ints) -> None:
        """Looks at listed slots of any number of parts, int64 [n], ascending for speed.

        Args:
            table: of the parts, see `table_of`.
            slots: the part's number above `SHIFT`, the row below.
        """
        if len(slots):
            listed = self._listed(slots)
            self._held = (table, listed)
            self._work[:_POINTED] = 0
            self._work[_PARTS], self._work[_ROWS] = table.ctypes.data, listed.ctypes.data
            self._run(self._pick, 0, len(slots))

    def _listed(self, rows: Ints) -> Ints:
        """The rows and what the kernel, which fetches one group ahead, finds behind them."""
        padded = np.empty((-(-len(rows) // self._lanes) + 1) * self._lanes, np.int64)
        padded[: len(rows)] = rows
        padded[len(rows) :] = rows[-1]
        return padded

    def _point(self, stored: Stored, rows: Ints | None, passes: Sequence[Mask | None]) -> None:
        """Lets the work point to these, which have to live until it is run."""
        self._held = (stored, rows, passes)
        some = any(mask is not None for mask in passes)
        if some:
            self._passes[: len(passes)] = _addresses(passes)
        self._work[:_POINTED] = (
            *stored.part,
            self._address,
            self._passes_address if some else 0,
            0 if rows is None else rows.ctypes.data,
            stored.base,
        )

    def _run(self, entry: Entry, start: int, stop: int) -> None:
        self._work[_START], self._work[_STOP] = start, stop
        entry(self._address)


def table_of(parts: Sequence[Stored]) -> Ints:
    """What the kernel knows of parts whose rows are listed, int64 [parts, PART]."""
    return np.array([part.part for part in parts], np.int64).reshape(-1, PART)


def standing(code_bytes: int, table: Ints, slots: Ints, masks: Sequence[Mask | None]) -> Ints:
    """Of listed slots those that belong to the version and pass, in their order, int64 [m].

    Args:
        code_bytes: width of the codes.
        table: of the parts, see `table_of`.
        slots: int64 [n], the part's number above `SHIFT`, the row below; used up.
        masks: which rows of each part pass, bool [rows]; None: all.
    """
    work = np.zeros(len(FIELDS), np.int64)
    passes = np.array(_addresses(masks), np.int64)
    work[_PARTS], work[_PASSES], work[_ROWS] = (array.ctypes.data for array in (table, passes, slots))
    work[_STOP] = len(slots)
    kernel(code_bytes).sift(work.ctypes.data)
    return slots[: int(work[_STOP])]


def merged(sweeps: Sequence[Sweep], query: int, k: int, bound: int) -> Nearest:
    """What sweeps of the same queries over different rows found for one of them.

    Args:
        sweeps: of the threads that took part; none found nothing.
        query: its number.
        k: as it was given to them.
        bound: likewise.
    """
    if not sweeps:
        return Nearest(np.empty(0, np.int64), np.empty(0, np.int64), bound, 0)
    if len(sweeps) == 1:
        last = int(sweeps[0].bounds[query])
        return Nearest(*_near(sweeps[0], query, last), last, int(sweeps[0].within[query]))
    reached = np.cumsum(np.sum([sweep.counts[query] for sweep in sweeps], axis=0, dtype=np.int64))
    last = min(int(np.searchsorted(reached, k)), bound)
    slots, distances = zip(*(_near(sweep, query, last) for sweep in sweeps), strict=True)
    return Nearest(np.concatenate(slots), np.concatenate(distances), last, int(reached[last]) if last >= 0 else 0)


def _near(sweep: Sweep, query: int, last: int) -> tuple[Ints, Ints]:
    """(slots, distances) of what a sweep has kept up to a distance; nothing where it gave up keeping."""
    kept = int(sweep.kept[query])
    kept = 0 if kept > sweep.room else kept
    distances = sweep.distances[query, :kept]
    near = np.flatnonzero(distances <= last)
    return sweep.slots[query, :kept][near], distances[near].astype(np.int64)


def distances_to(codes: Codes, query: Codes) -> Ints:
    """Distances of codes, uint8 [n, code bytes], from a query, uint8 [code bytes]: int64 [n]."""
    n, code_bytes = codes.shape
    sweep = Sweep(query[None], np.array([ALL]), np.array([code_bytes * 8]), room=max(n, 1))
    sweep.scan(Stored(np.ascontiguousarray(codes)), 0, n)
    found = np.empty(n, np.int64)
    found[sweep.slots[0, :n]] = sweep.distances[0, :n]
    return found


def _addresses(masks: Sequence[Mask | None]) -> list[int]:
    return [0 if mask is None else mask.ctypes.data for mask in masks]


def _arrays(*kinds: tuple[int, int, str]) -> tuple[list[npt.NDArray[Any]], list[int]]:
    """Arrays (rows, columns, type) of zeros, each from the start of a cache line, and their addresses. They lie in one
    piece of memory, as looking up an address takes as long as making a small array.
    """
    sizes = [-(-rows * columns * int(kind[1]) // _CACHE_LINE) * _CACHE_LINE for rows, columns, kind in kinds]
    memory = np.zeros(sum(sizes) + _CACHE_LINE, np.uint8)
    first = memory.ctypes.data
    starts = list(accumulate(sizes, initial=-first % _CACHE_LINE))
    arrays = [
        np.ndarray((rows, columns), kind, memory, at) for (rows, columns, kind), at in zip(kinds, starts, strict=False)
    ]
    return arrays, [first + at for at in starts[:-1]]
