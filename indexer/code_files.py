"""The segments of a shard as its writer holds them: append, seal, kill, put back, sync. Steps 1, 3 and part of 5."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from indexer.answers import by_segment
from indexer.commit_page import State
from indexer.search import View, place_of, slot_of
from indexer.segments import Segment, SegmentSpec
from indexer.staging import Staged
from indexer.steps import Steps


class CodeFiles:
    """The mapped segments 0 to the head.

    Args:
        folder: where they lie.
        spec: what they have in common.
        state: names the head.

    Raises:
        ForeignFormat, Damaged: a header does not hold.
    """

    def __init__(self, folder: Path, spec: SegmentSpec, state: State) -> None:
        self.spec = spec
        self._folder = folder
        self._segments: dict[int, Segment] = {}
        self._dirty: set[int] = set()
        try:
            for number in range(state.head_segment + 1):
                head = number == state.head_segment
                self._segments[number] = Segment(folder, spec, number, "head" if head else "sealed")
        except BaseException:
            self.close()
            raise

    def __getitem__(self, number: int) -> Segment:
        """A segment by its number."""
        return self._segments[number]

    def length(self, number: int, state: State) -> int:
        """The committed slots of a segment."""
        return state.head_length if number == state.head_segment else self.spec.capacity

    def view(self, state: State) -> View:
        """The codes of a state."""
        numbers = range(state.head_segment + 1)
        mapped = tuple((self._segments[number], self.length(number, state)) for number in numbers)
        return View(self.spec.partition, state.applied, mapped)

    def write(self, staged: Staged, before: State, at: Steps) -> None:
        """Step 1: puts new codes behind the committed length, sealing full segments, and damaged ones in place."""
        for chunk in staged.chunks:
            if chunk.segment not in self._segments:
                at("sealing")
                self._segments[chunk.segment - 1].seal()
                at("sealed")
                self._segments[chunk.segment] = Segment.create(self._folder, self.spec, chunk.segment)
                at("segment made")
            self._segments[chunk.segment].write(chunk.start, chunk.codes, chunk.slots)
            self._dirty.add(chunk.segment)
        for slot, code, columns in staged.rewrites:
            number, index = place_of(slot)
            if number != before.head_segment:
                self._reopen(number, "head")
            self._segments[number].rewrite(index, code, columns)
            self._dirty.add(number)

    def kill(self, deaths: dict[int, int]) -> None:
        """Step 3: stores deaths, slot -> offset, in the columns."""
        for number, indices in by_segment(deaths).items():
            offsets = [deaths[slot_of(number, index)] for index in indices]
            self._segments[number].kill(np.array(indices, np.int64), np.array(offsets, np.int64))
            self._dirty.add(number)

    def settle(self, before: State, now: State) -> None:
        """Once a commit names a new head: the segments behind it are mapped read-only."""
        for number in range(before.head_segment, now.head_segment):
            self._reopen(number, "sealed")

    def sync(self) -> None:
        """Step 5: waits until everything written so far is on the disk."""
        for number in sorted(self._dirty):
            self._segments[number].sync()
        self._dirty.clear()

    def sync_all(self) -> None:
        """The same for every segment, whatever is known of them."""
        self._dirty = set(self._segments)
        self.sync()

    def close(self) -> None:
        """Closes descriptors."""
        for segment in self._segments.values():
            segment.close()

    def _reopen(self, number: int, mode: Literal["head", "sealed"]) -> None:
        self._segments[number].close()
        self._segments[number] = Segment(self._folder, self.spec, number, mode)
