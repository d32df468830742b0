"""Compaction: the slots that live in sparse segments move into a new one, beside the writer and not in its way.

A slot keeps its number when its code moves, so that no row of the catalogue changes, and neither does what a query at
any watermark finds: `born`, `died` and checksum go along, slots that were dead already are in no version to come, and
versions taken before keep the segments that they were taken with. The steps, each of which a crash may cut off:

    1  choose neighbouring sealed segments that are sparse, none of them with codes that are not durable or damaged;
       deaths are noted from here on
    2  without the shard's lock: copy what lives into a new file, its numbers in a column, sealed and synced; then store
       what died since in its columns and sync them, again and again until little is left
    3  under the lock: one RocksDB batch with the next layout, its number in the state, and as `deaths` what died in the
       last of these rounds. The commit point
    4  under the lock still: store these deaths in the new columns, put the segment into the view, publish the page
    5  once a sync has made 3 durable and no leased reader answers from an older layout: remove the replaced files.
       Until then deaths are stored in their columns too, for the last look of queries that are in progress

A crash before 3 leaves a file that no layout names, one before 5 files that none names any more; the next opening
removes them. A power loss takes 3 back with all that RocksDB logged behind it, and the old files are there still.
Deaths that 2 saw were logged before 3, so they are durable when it is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dotstream.errors import DotstreamError, Retryable
from indexer.leases import boot_id, read_leases
from indexer.segment_format import LIVE, SegmentName, SegmentSpec
from indexer.segments import Segment, compact

log = logging.getLogger(__name__)

DEAD_SHARE = 0.25
"""A sealed segment is sparse when so many of its slots are dead."""
_SMALL = 4
_MANY = 8

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Compacted:
    """One compaction.

    Attributes:
        segments: how many were replaced.
        slots: in them.
        kept: of these, how many live on in the new one.
        held_s: how long the shard's lock was held for it, at the longest, seconds.
    """

    segments: int
    slots: int
    kept: int
    held_s: float


def choose(segments: Sequence[Segment], spec: SegmentSpec, dead_share: float) -> list[Segment]:
    """Neighbouring segments to be replaced by one; empty when none are worth it.

    The sparsest comes first, with its neighbours as long as they are sparse or small themselves and all together fit
    into one segment. Without a sparse one, many small neighbours are joined.

    Args:
        segments: those that may be replaced, ascending.
        spec: of a segment that is appended to.
        dead_share: from which a segment is sparse.
    """
    living = [segment.living() for segment in segments]
    dead = [1 - n / segment.spec.capacity for n, segment in zip(living, segments, strict=True)]
    small = [n * _SMALL <= spec.capacity for n in living]
    wanted = [share >= dead_share or few for share, few in zip(dead, small, strict=True)]
    if dead and max(dead) >= dead_share:
        at = dead.index(max(dead))
        first, stop = _stretch(at, at + 1, living, wanted, spec.capacity)
        return list(segments[first:stop])
    for at, few in enumerate(small):
        if few:
            first, stop = _stretch(at, at + 1, living, small, spec.capacity)
            if stop - first >= _MANY:
                return list(segments[first:stop])
    return []


def _stretch(first: int, stop: int, living: list[int], wanted: list[bool], most: int) -> tuple[int, int]:
    """Widens first..stop over wanted neighbours while what lives fits."""
    total = sum(living[first:stop])
    while stop < len(living) and wanted[stop] and total + living[stop] <= most:
        total += living[stop]
        stop += 1
    while first > 0 and wanted[first - 1] and total + living[first - 1] <= most:
        first -= 1
        total += living[first]
    return first, stop


@dataclass(slots=True)
class Move:
    """A compaction under way.

    Attributes:
        name: of the new segment.
        parts: (segment, indices in it that lived when the copy was begun).
        made: the new segment; None when nothing lived.
    """

    name: SegmentName
    parts: list[tuple[Segment, Ints]]
    made: Segment | None

    @property
    def slots(self) -> int:
        """Slots of the new segment."""
        return sum(len(indices) for _, indices in self.parts)

    def abandon(self) -> None:
        """Lets go of the new segment; its files are removed by the next opening."""
        if self.made is not None:
            self.made.close()

    def among(self, slots: Ints, offsets: Ints) -> tuple[Ints, Ints, Ints]:
        """Of deaths noted since the compaction was begun, those of slots that were copied alive: (indices in the new
        segment, slots, offsets).
        """
        indices = np.full(len(slots), -1) if self.made is None else self.made.indices_of(slots)
        here = indices >= 0
        return indices[here], slots[here], offsets[here]

    def kill(self, slots: Ints, offsets: Ints) -> None:
        """Stores noted deaths in the columns of the new segment, and syncs them, before anything names it."""
        indices, _, here = self.among(slots, offsets)
        if self.made is not None and len(indices):
            self.made.kill(indices, here)
            self.made.sync()


def copy(folder: Path, spec: SegmentSpec, segments: Sequence[Segment], layout: int) -> Move:
    """Step 2: the new segment, whole and on the disk."""
    name = SegmentName(segments[0].name.number, segments[-1].name.last, layout)
    parts = [(segment, np.flatnonzero(segment.died == LIVE)) for segment in segments]
    living = sum(len(indices) for _, indices in parts)
    return Move(name, parts, compact(folder, spec, name, parts) if living else None)


def oldest_layout(generation: Path, partition: int, incarnation: bytes, now: float) -> int | None:
    """The oldest layout that a leased reader of this machine may answer from; None when there is no such reader.

    Args:
        generation: folder of the generation.
        partition: which shard.
        incarnation: its folder's.
        now: monotonic seconds.
    """
    boot = boot_id()
    layouts = [
        lease.layouts.get(partition, 0)
        for lease in read_leases(generation)
        if lease.boot == boot and now < lease.expires and lease.positions.get(partition, (b"", 0))[0] == incarnation
    ]
    return min(layouts, default=None)


class Compactable(Protocol):
    """A shard."""

    @property
    def closed(self) -> bool: ...

    def compact(self, dead_share: float) -> Compacted | None: ...


class Compactor:
    """The thread that compacts the shards of a process, one after the other.

    Args:
        every_s: pause between rounds, seconds.
        dead_share: from which a segment is sparse.
        observe: told of every compaction.
    """

    def __init__(self, every_s: float, dead_share: float, observe: Callable[[Compacted], None]) -> None:
        self._every_s = every_s
        self._dead_share = dead_share
        self._observe = observe
        self._shards: list[Compactable] = []
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="compaction", daemon=True)

    def watch(self, shard: Compactable) -> None:
        """Compacts this shard from now on, until it is closed."""
        with self._mutex:
            self._shards.append(shard)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, limit_s: float = 5.0) -> None:
        """Ends the thread; a copy that is under way is let go of once the limit has passed."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(limit_s)

    def round(self) -> int:
        """Compacts what is sparse in every shard; returns how many compactions that took."""
        done = 0
        with self._mutex:
            self._shards = [shard for shard in self._shards if not shard.closed]
            shards = list(self._shards)
        for shard in shards:
            while not self._stop.is_set() and (compacted := self._compact(shard)) is not None:
                self._observe(compacted)
                done += 1
        return done

    def _compact(self, shard: Compactable) -> Compacted | None:
        try:
            return shard.compact(self._dead_share)
        except Retryable as error:
            log.info("a shard is not compacted for now: %s", error)
        except DotstreamError as error:
            log.warning("a shard cannot be compacted: %s", error)
        except Exception:
            log.exception("a shard cannot be compacted")  # the others can, and this one perhaps in the next round
        return None

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self.round()
