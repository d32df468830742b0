"""The search kernels: exact nearest codes by Hamming distance over mapped segments, at one committed version.

Writer and followers search by the same code. A `View` is a version of one partition: its segments, how much of the
head is committed, and the watermark W. A slot belongs to it when born <= W < died. faiss scans the mapped codes
without a copy; it gets a selector only for segments that have dead slots or for filters, and where few slots pass,
their codes are gathered and counted by numpy instead.

faiss is imported at the first search and set to one thread in every thread that searches: its own threads meet at a
spinning barrier per block, which costs milliseconds where cores are shared.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from indexer.segments import BUYABLE, LIVE, Codes, Segment, place_of

Scope = Literal["all", "objects", "images"]
Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
_SCAN_BYTES = 1 << 20
_GATHER_SHARE = 16
_SLACK = 16
_CHUNK_ROWS = 16384
_THREAD = threading.local()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which slots may be found; label and category by their numbers in the shard.

    `unknown` means that the shard has never seen the wanted label or category: nothing in it passes.
    """

    scope: Scope = "all"
    label: int | None = None
    category: int | None = None
    buyable: bool | None = None
    unknown: bool = False

    @property
    def everything(self) -> bool:
        """Whether every live slot passes."""
        return self == Wanted()


@dataclass(frozen=True, slots=True)
class View:
    """One committed version of one partition.

    Attributes:
        partition: of objects.<generation>.
        watermark: the last applied offset, inclusive.
        segments: (segment, committed slots in it), oldest first.
    """

    partition: int
    watermark: int
    segments: tuple[tuple[Segment, int], ...]

    def find(self, slot: int) -> tuple[Segment, int] | None:
        """(segment, index) of a slot by its number, committed or not; None when the view does not have it."""
        number, _ = place_of(slot)
        at = bisect_right(self.segments, number, key=_number) - 1
        if at < 0:
            return None
        segment = self.segments[at][0]
        index = segment.index_of(slot) if number <= segment.name.last else -1
        return (segment, index) if 0 <= index < segment.spec.capacity else None

    def runs_of(self, slots: Sequence[int]) -> list[int]:
        """For each slot the first one of its run, by which the catalogue knows its pin."""
        return [slot if (found := self.find(slot)) is None else slot - int(found[0].nth[found[1]]) for slot in slots]


def _number(part: tuple[Segment, int]) -> int:
    return part[0].number


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a scan found, ascending by (distance, slot), ties at the last distance complete.

    Attributes:
        slots: int64 [m].
        distances: int64 [m], bits that differ.
    """

    slots: Ints
    distances: Ints


@dataclass(slots=True)
class _Known:
    """A segment's live slots as worked out before, kept while its edit count stands."""

    edits: int
    length: int
    watermark: int
    mask: Mask | None


def live_mask(segment: Segment, length: int, watermark: int) -> Mask | None:
    """Which of the first `length` slots belong to the version at `watermark`; None when all of them do.

    The edit count is read before the deaths and rises behind them, so that a mask that saw no death above its
    watermark holds for every later watermark while the count stands.
    """
    edits = segment.edits
    if edits == 0:
        return None
    known = segment.known
    if isinstance(known, _Known) and known.edits == edits and known.length == length and known.watermark <= watermark:
        return known.mask
    born, died = segment.born[:length], segment.died[:length]
    mask = (born <= watermark) & (died > watermark)
    settled = bool(np.array_equal(mask, died == LIVE))
    result = None if mask.all() else mask
    if settled:
        segment.known = _Known(edits, length, watermark, result)
    return result


def wanted_mask(segment: Segment, length: int, wanted: Wanted) -> Mask | None:
    """Which of the first `length` slots pass the filter, dead or not; None when all do."""
    if wanted.everything:
        return None
    mask = np.full(length, not wanted.unknown)
    if wanted.scope != "all":
        mask &= (segment.object_index[:length] >= 0) == (wanted.scope == "objects")
    if wanted.label is not None:
        mask &= segment.label[:length] == wanted.label
    if wanted.category is not None:
        mask &= segment.category[:length] == wanted.category
    if wanted.buyable is not None:
        mask &= (segment.flags[:length] & BUYABLE != 0) == wanted.buyable
    return mask


def nearest(
    view: View,
    query: Codes,
    k: int,
    *,
    wanted: Wanted,
    excluded: Mapping[int, Sequence[int]],
    checkpoint: Callable[[], None],
) -> Candidates:
    """The k nearest slots that pass, and every further slot at the k-th distance.

    Args:
        view: the version to search.
        query: uint8 [bits / 8].
        k: at least 1.
        wanted: the filter.
        excluded: slots left out, as number of the segment that holds them -> indices in it.
        checkpoint: called before each segment; raises when the time is up.

    Returns:
        At least min(k, slots that pass) candidates.
    """
    parts: list[tuple[_Part, Ints, Ints]] = []
    for segment, length in view.segments:
        checkpoint()
        part = _part(segment, length, view.watermark, wanted, excluded.get(segment.number, ()))
        if part is not None:
            parts.append((part, *part.nearest(query, k)))
    if not parts:
        return Candidates(np.empty(0, np.int64), np.empty(0, np.int64))
    every = np.concatenate([distances for _, _, distances in parts])
    bound = int(np.partition(every, k - 1)[k - 1]) if len(every) > k else None
    found: list[tuple[Ints, Ints]] = []
    for part, indices, distances in parts:
        if bound is not None and part.hides_ties(distances, bound):
            checkpoint()
            indices, distances = part.within(query, bound)  # noqa: PLW2901
        keep = slice(None) if bound is None else distances <= bound
        found.append((part.segment.slots_at(indices[keep]), distances[keep]))
    slots = np.concatenate([indices for indices, _ in found])
    distances = np.concatenate([distances for _, distances in found])
    ranked = np.lexsort((slots, distances))
    return Candidates(slots[ranked], distances[ranked])


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment's share of a search: its codes, and which of them pass (None: all)."""

    segment: Segment
    length: int
    mask: Mask | None
    passing: int

    def nearest(self, query: Codes, k: int) -> tuple[Ints, Ints]:
        """(indices, distances) of about k nearest, ascending by distance."""
        if self.mask is not None and self.passing * _GATHER_SHARE < self.length:
            return self.within(query, None)
        return _knn(self.segment.codes[: self.length], query, min(self.passing, k + _SLACK), self.mask)

    def hides_ties(self, distances: Ints, bound: int) -> bool:
        """Whether slots at distance `bound` may be missing among those found."""
        return len(distances) < self.passing and int(distances[-1]) <= bound

    def within(self, query: Codes, bound: int | None) -> tuple[Ints, Ints]:
        """(indices, distances) of all that pass, or of those within `bound`, ascending by distance."""
        rows = None if self.mask is None else np.flatnonzero(self.mask).astype(np.int64)
        found: list[tuple[Ints, Ints]] = []
        for at in range(0, self.passing, _CHUNK_ROWS):
            if rows is None:
                indices = np.arange(at, min(at + _CHUNK_ROWS, self.length), dtype=np.int64)
                codes = self.segment.codes[at : at + len(indices)]
            else:
                indices = rows[at : at + _CHUNK_ROWS]
                codes = self.segment.codes[indices]
            distances = hamming(codes, query)
            keep = slice(None) if bound is None else distances <= bound
            found.append((indices[keep], distances[keep]))
        indices = np.concatenate([one for one, _ in found])
        distances = np.concatenate([one for _, one in found])
        ranked = np.argsort(distances, kind="stable")
        return indices[ranked], distances[ranked]


def _part(segment: Segment, length: int, watermark: int, wanted: Wanted, excluded: Sequence[int]) -> _Part | None:
    mask = live_mask(segment, length, watermark)
    passes = wanted_mask(segment, length, wanted)
    if passes is not None:
        mask = passes if mask is None else mask & passes
    if len(excluded):
        mask = np.ones(length, np.bool_) if mask is None else mask.copy()
        mask[[index for index in excluded if index < length]] = False
    passing = length if mask is None else int(np.count_nonzero(mask))
    return _Part(segment, length, None if passing == length else mask, passing) if passing else None


def hamming(codes: Codes, query: Codes) -> Ints:
    """Distances of codes, uint8 [n, bytes], from a query, uint8 [bytes]: int64 [n]."""
    if codes.shape[1] % 8 == 0 and codes.flags.c_contiguous:
        wide: Any = np.bitwise_count(codes.view("<u8") ^ query.view("<u8"))
    else:
        wide = np.bitwise_count(codes ^ query)
    distances: Ints = wide.sum(axis=1, dtype=np.int64)
    return distances


def _knn(codes: Codes, query: Codes, k: int, mask: Mask | None) -> tuple[Ints, Ints]:
    faiss = _faiss()
    if not getattr(_THREAD, "is_single", False):
        faiss.omp_set_num_threads(1)  # holds for the calling thread only
        _THREAD.is_single = True
    n, width = codes.shape
    distances = np.empty(k, np.int32)
    indices = np.empty(k, np.int64)
    heap = faiss.int_maxheap_array_t()
    heap.nh, heap.k = 1, k
    heap.val, heap.ids = faiss.swig_ptr(distances), faiss.swig_ptr(indices)
    selector = None
    if mask is not None:
        packed = np.packbits(mask, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(packed), faiss.swig_ptr(packed))
    faiss.cvar.hamming_batch_size = max(256, _SCAN_BYTES // width)
    faiss.hammings_knn_hc(heap, faiss.swig_ptr(query), faiss.swig_ptr(codes), n, width, 1, 0, selector)
    return indices, distances.astype(np.int64)


def warm() -> None:
    """Imports faiss now instead of at the first query."""
    _faiss()


@cache
def _faiss() -> Any:
    import faiss  # noqa: PLC0415 - half a second and 60 MB that a writer without queries does not need

    return faiss
