"""The segments of a shard as its writer holds them: append, seal, kill, put back, sync. Steps 1, 3 and part of 5."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from indexer.commit_page import State
from indexer.layout import Layout
from indexer.segment_format import SegmentName, SegmentSpec, place_of
from indexer.segments import Mode, Segment
from indexer.staging import Staged
from indexer.steps import Steps
from indexer.view import View

Ints = npt.NDArray[np.int64]


class CodeFiles:
    """The mapped segments up to the head, and those that compaction replaced while somebody may still look at them.

    Args:
        folder: where they lie.
        spec: what they have in common.
        layout: which there are.
        state: names the head.

    Attributes:
        layout: which there are now.
        replaced: (layout that replaced it, segment) that readers of other processes may still have in view.

    Raises:
        ForeignFormat, Damaged: a header does not hold.
    """

    def __init__(self, folder: Path, spec: SegmentSpec, layout: Layout, state: State) -> None:
        self.folder = folder
        self.spec = spec
        self.layout = layout
        self.replaced: list[tuple[int, Segment]] = []
        self._fading: WeakSet[Segment] = WeakSet()
        self._segments: list[Segment] = []
        self._numbers: list[int] = []
        self._dirty: set[Segment] = set()
        self._noted: list[tuple[Ints, Ints]] | None = None
        try:
            for name, each in layout.files(spec, state.head_segment):
                head = name.number == state.head_segment
                self._segments.append(Segment(folder, each, name, "head" if head else "sealed"))
        except BaseException:
            self.close()
            raise
        self._number()

    @property
    def segments(self) -> list[Segment]:
        """Those of the layout, ascending; the last is the head."""
        return list(self._segments)

    def __getitem__(self, number: int) -> Segment:
        """The segment that holds the slots of this number's."""
        return self._segments[self._at(number)]

    def _at(self, number: int) -> int:
        return bisect_right(self._numbers, number) - 1

    def _number(self) -> None:
        self._numbers = [segment.number for segment in self._segments]

    def length(self, segment: Segment, state: State) -> int:
        """The committed slots of a segment."""
        return state.head_length if segment.number == state.head_segment else segment.spec.capacity

    def view(self, state: State) -> View:
        """The codes of a state."""
        mapped = tuple((segment, self.length(segment, state)) for segment in self._segments)
        return View(self.spec.partition, state.applied, mapped)

    # -- steps of a commit ---------------------------------------------------------------------------------------

    def write(self, staged: Staged, before: State, at: Steps) -> None:
        """Step 1: puts new codes behind the committed length, sealing full segments, and damaged ones in place."""
        for chunk in staged.chunks:
            if chunk.segment > self._segments[-1].number:
                at("sealing")
                self._segments[-1].seal()
                at("sealed")
                self._segments.append(Segment.create(self.folder, self.spec, chunk.segment))
                self._number()
                at("segment made")
            self._segments[-1].write(chunk.start, chunk.codes, chunk.slots)
            self._dirty.add(self._segments[-1])
        for slot, code, columns in staged.rewrites:
            number, _ = place_of(slot)
            if number < before.head_segment:
                self._reopen(number, "head")
            segment = self[number]
            segment.rewrite(segment.index_of(slot), code, columns)
            self._dirty.add(segment)

    def kill(self, deaths: dict[int, int]) -> None:
        """Step 3: stores deaths, slot -> offset, in the columns; in those of replaced segments too, where queries that
        are in progress take their last look.
        """
        if not deaths:
            return
        slots = np.array(list(deaths), np.int64)
        offsets = np.array(list(deaths.values()), np.int64)
        noted = self._noted  # another thread may end the noting
        if noted is not None:
            noted.append((slots, offsets))
        numbers = slots >> 32
        for number in np.unique(numbers).tolist():
            here = numbers == number
            segment = self[number]
            if self._kill(segment, slots[here], offsets[here]):
                self._dirty.add(segment)
        for segment in (*(segment for _, segment in self.replaced), *self._fading):
            self._kill(segment, slots, offsets)

    def _kill(self, segment: Segment, slots: Ints, offsets: Ints) -> bool:
        indices = segment.indices_of(slots)
        here = indices >= 0
        if here.any():
            segment.kill(indices[here], offsets[here])
        return bool(here.any())

    def settle(self, before: State, now: State) -> None:
        """Once a commit names a new head: the segments behind it are mapped read-only."""
        for number in range(before.head_segment, now.head_segment):
            self._reopen(number, "sealed")

    # -- compaction ----------------------------------------------------------------------------------------------

    def sealed_before(self, number: int) -> list[Segment]:
        """The segments that end before this number, ascending."""
        return [segment for segment in self._segments if segment.name.last < number]

    def note_deaths(self, *, wanted: bool) -> None:
        """From now on deaths are noted for `noted_deaths`, or not any more."""
        self._noted = [] if wanted else None

    def noted_deaths(self) -> tuple[Ints, Ints]:
        """(slots, offsets) of the deaths that were noted since this was last asked. Under the shard's lock."""
        noted, self._noted = self._noted or [], []
        slots, offsets = zip((np.empty(0, np.int64),) * 2, *noted, strict=True)
        return np.concatenate(slots), np.concatenate(offsets)

    def replace(self, layout: Layout, name: SegmentName, made: Segment | None) -> None:
        """Puts a compacted segment, or for None nothing, in the place of those from its number to its last."""
        old = [segment for segment in self._segments if name.number <= segment.number <= name.last]
        first = self._segments.index(old[0])
        self._segments[first : first + len(old)] = [] if made is None else [made]
        self._number()
        self.layout = layout
        self.replaced += [(layout.number, segment) for segment in old]
        if made is not None:
            self._dirty.add(made)

    def let_go(self, layout: int) -> list[Segment]:
        """Forgets the segments that this layout, or one before it, replaced; returns them, for `remove`.

        Queries of this process that look at one of them keep it mapped, and are told of deaths, until they are done.
        """
        gone = [segment for number, segment in self.replaced if number <= layout]
        self.replaced = [each for each in self.replaced if each[0] > layout]
        self._dirty.difference_update(gone)
        self._fading.update(gone)
        return gone

    def remove(self, gone: Sequence[Segment]) -> None:
        """Closes and removes the files of segments that were let go of. Not under the shard's lock: each call of the
        system lets other threads compute first.
        """
        for segment in gone:
            segment.close()
            _unlink(segment.name, self.folder)

    def clear_left_overs(self, state: State) -> None:
        """Removes files that no layout names: of compactions that a crash cut off, or of what they replaced."""
        kept = {name.path(self.folder, ".codes") for name, _ in self.layout.files(self.spec, state.head_segment)}
        for path in self.folder.glob("*.codes"):
            number, _, layout = path.stem.partition("-")
            if path not in kept and (layout or int(number) < state.head_segment):
                _unlink(SegmentName(int(number), int(number), int(layout or 0)), self.folder)

    # -- the disk ------------------------------------------------------------------------------------------------

    def unsynced(self) -> list[int]:
        """Descriptors of their own for all files that were written since they were last asked for, for `sync_files`,
        while writing goes on.
        """
        found = [fd for each in sorted(self._dirty, key=lambda each: each.number) for fd in each.descriptors()]
        self._dirty.clear()
        return found

    def sync_all(self) -> None:
        """Waits until everything written to any segment is on the disk."""
        self._dirty = set(self._segments)
        sync_files(self.unsynced())

    def close(self) -> None:
        """Closes descriptors."""
        for segment in (*self._segments, *(segment for _, segment in self.replaced)):
            segment.close()

    def _reopen(self, number: int, mode: Mode) -> None:
        at = self._at(number)
        old = self._segments[at]
        self._segments[at] = Segment(self.folder, old.spec, old.name, mode)
        if old in self._dirty:
            self._dirty.discard(old)
            self._dirty.add(self._segments[at])
        old.close()


def sync_files(descriptors: Sequence[int]) -> None:
    """Step 5: waits until what was written to these files, through maps too, is on the disk, and closes them."""
    left = list(descriptors)
    try:
        for fd in descriptors:
            os.fdatasync(fd)
            os.close(left.pop(0))
    finally:
        for fd in left:
            os.close(fd)


def _unlink(name: SegmentName, folder: Path) -> None:
    for suffix in (".codes", ".meta"):
        name.path(folder, suffix).unlink(missing_ok=True)
