"""A sweep: the nearest of one or many queries, gathered over any number of runs through stored codes.

The numpy side of the kernel (kernel_ir.py): it owns the arrays that a work points to. One thread uses a sweep at a
time; threads that share a search have one each, and `merged` puts together what they found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.kernel import FIELDS, Entry, kernel

Codes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
ALL = 2**62
"""The k of a query that wants everything within its bound."""
_AT = {name: number for number, name in enumerate(FIELDS)}
_CODES, _BORN, _DIED = (_AT[name] for name in ("codes", "born", "died"))
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
        self.room = _ROOM + 2 * int(np.where(k == ALL, _ROOM, k).max()) if room is None else room
        self._passes = np.zeros(padded, np.int64)
        self._work = np.zeros(len(FIELDS), np.int64)
        self._address = self._work.ctypes.data
        self._held: object = None
        self.within = np.zeros(padded, np.int64)
        self.kept = np.zeros(padded, np.int64)
        self.counts = np.zeros((padded, code_bytes * 8 + 1), np.uint32)
        self.slots = np.empty((padded, self.room), np.int64)
        self.distances = np.empty((padded, self.room), np.int32)
        self._arrays: dict[str, npt.NDArray[Any]] = {
            "queries": _aligned(queries, padded),
            "k": _padded(k, padded, 1),
            "bound": _padded(bounds, padded, -1),  # a query that only pads finds nothing
            "within": self.within,
            "kept": self.kept,
            "counts": self.counts,
            "slots": self.slots,
            "distances": self.distances,
        }
        for name, array in self._arrays.items():
            self._work[_AT[name]] = array.ctypes.data
        self._work[_AT["nq"]] = padded
        self._work[_AT["room"]] = self.room

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

    def stretches(self, stored: Stored, starts: Sequence[int], stops: Sequence[int]) -> None:
        """Runs through stretches of rows, each on to the end of its last group, which has to be there."""
        self._point(stored, None, ())
        for start, stop in zip(starts, stops, strict=True):
            self._run(self._scan, start, start + -(-(stop - start) // self._lanes) * self._lanes)

    def pick(self, stored: Stored, rows: Ints, passes: Sequence[Mask | None] = ()) -> None:
        """Looks at the listed rows only, int64 [n], ascending for speed."""
        if not len(rows):
            return
        padded = (-(-len(rows) // self._lanes) + 1) * self._lanes  # the kernel fetches one group ahead
        self._point(stored, _padded(rows, padded, int(rows[-1])), passes)
        self._run(self._pick, 0, len(rows))

    def _point(self, stored: Stored, rows: Ints | None, passes: Sequence[Mask | None]) -> None:
        """Lets the work point to these; they have to live until `_run` is done."""
        work = self._work
        self._held = (stored, rows, passes)
        arrays = (stored.codes, stored.born, stored.died)
        addresses = stored.addresses or tuple(0 if array is None else array.ctypes.data for array in arrays)
        work[_CODES], work[_BORN], work[_DIED] = addresses
        work[_AT["rows"]] = 0 if rows is None else rows.ctypes.data
        work[_AT["base"]] = stored.base
        work[_AT["watermark"]] = stored.watermark
        work[_AT["passes"]] = 0
        if any(mask is not None for mask in passes):
            for n, mask in enumerate(passes):
                self._passes[n] = 0 if mask is None else mask.ctypes.data
            work[_AT["passes"]] = self._passes.ctypes.data

    def _run(self, entry: Entry, start: int, stop: int) -> None:
        self._work[_AT["start"]], self._work[_AT["stop"]] = start, stop
        entry(self._address)


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
    reached = np.cumsum(np.sum([sweep.counts[query] for sweep in sweeps], axis=0, dtype=np.int64))
    last = min(int(np.searchsorted(reached, k)), bound)
    slots, distances = [], []
    for sweep in sweeps:
        kept = int(sweep.kept[query])
        if kept > sweep.room:
            continue  # given up
        near = sweep.distances[query, :kept] <= last
        slots.append(sweep.slots[query, :kept][near])
        distances.append(sweep.distances[query, :kept][near].astype(np.int64))
    total = int(reached[last]) if last >= 0 else 0
    none = np.empty(0, np.int64)
    return Nearest(np.concatenate([none, *slots]), np.concatenate([none, *distances]), last, total)


def distances_to(codes: Codes, query: Codes) -> Ints:
    """Distances of codes, uint8 [n, code bytes], from a query, uint8 [code bytes]: int64 [n]."""
    n, code_bytes = codes.shape
    sweep = Sweep(query[None], np.array([ALL]), np.array([code_bytes * 8]), room=max(n, 1))
    sweep.scan(Stored(np.ascontiguousarray(codes)), 0, n)
    found = np.empty(n, np.int64)
    found[sweep.slots[0, :n]] = sweep.distances[0, :n]
    return found


def _padded(values: Ints, size: int, fill: int) -> Ints:
    padded = np.full(size, fill, np.int64)
    padded[: len(values)] = values
    return padded


def _aligned(queries: Codes, rows: int) -> Codes:
    """The queries, zeros behind them, from the start of a cache line."""
    size = rows * queries.shape[1]
    raw = np.zeros(size + _CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % _CACHE_LINE
    aligned: Codes = raw[start : start + size].reshape(rows, -1)
    aligned[: len(queries)] = queries
    return aligned
