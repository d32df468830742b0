"""What a batch changes, worked out before any of it is written: new codes, deaths, catalogue keys and counts.

Step 0 of the commit protocol in indexer/shard.py. Nothing here touches a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise, repeat

import numpy as np

from indexer.arbitration import Outcome, Winner
from indexer.catalogue import Catalogue
from indexer.columns import Placed, runs_of
from indexer.commit_page import State
from indexer.database import I64, U32, U64, Batch
from indexer.entries import Row, cut, pack, without_codes
from indexer.names import Names
from indexer.segment_format import Codes, SegmentSpec, Slots, place_of, slot_of
from indexer.words import WordStager


@dataclass(slots=True)
class Chunk:
    """New codes for one segment.

    Attributes:
        segment: its number; one behind the head's means that the head is full.
        start: first slot.
        codes: uint8 [n, bits / 8].
        slots: `SLOT` [n].
    """

    segment: int
    start: int
    codes: Codes
    slots: Slots


@dataclass(slots=True)
class Staged:
    """A batch, ready to be written.

    Attributes:
        chunks: new codes, by segment.
        rewrites: (slot, code [1, bytes], `SLOT` [1]) of damaged slots whose record was read again.
        deaths: slot -> offset.
        catalogue: the atomic batch without the state row.
        state: as it will be.
    """

    state: State
    catalogue: Batch
    chunks: list[Chunk] = field(default_factory=list)
    rewrites: list[tuple[int, Codes, Slots]] = field(default_factory=list)
    deaths: dict[int, int] = field(default_factory=dict)


class Stager:
    """Works one batch out.

    Args:
        catalogue: the catalogue before the batch.
        spec: of the shard's segments.
        state: before the batch.
        names: the shard's numbers for names.
        damaged: slots that wait for their record.
        pending: pins of the batch that carry a pending mark.
        codes_of: reads a row's codes out of the segments.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        spec: SegmentSpec,
        state: State,
        names: Names,
        damaged: frozenset[int],
        pending: frozenset[str],
        codes_of: Callable[[Row], Sequence[bytes]],
    ) -> None:
        self._codes_of = codes_of
        self._pending = pending
        self._catalogue = catalogue
        self._spec = spec
        self._names = names
        self._damaged = damaged
        self._segment, self._length = state.head_segment, state.head_length
        self._counts: Counter[str] = Counter()
        self._annotations_gone: list[str] = []
        self._annotations_come: list[str] = []
        self._placed = Placed()
        self._staged = Staged(state, catalogue.batch())
        self._words = WordStager(catalogue, self._staged.catalogue)
        names.forget()

    def stage(self, outcomes: Iterable[Outcome], applied: int) -> Staged:
        """The batch's changes; `applied` is its last offset."""
        winners: list[tuple[bytes, Winner]] = []
        for outcome in outcomes:
            self._stage(outcome, winners)
        self._put_in(winners)
        self._catalogue.count("df", self._annotations_come, self._annotations_gone, self._staged.catalogue)
        self._words.finish()
        self._stage_chunks()
        state = self._staged.state
        counts = {name: getattr(state, name) + n for name, n in self._counts.items()}
        self._staged.state = replace(
            state,
            **counts,
            applied=applied,
            reached=max(applied, state.reached),
            head_segment=self._segment,
            head_length=self._length,
        )
        return self._staged

    def _stage(self, outcome: Outcome, winners: list[tuple[bytes, Winner]]) -> None:
        """What goes of one pin; what comes is gathered in `winners`, for a batch puts many keys at once."""
        key = outcome.pin_id.encode()
        batch = self._staged.catalogue
        if outcome.pending is not None:
            batch.put("pending", key, I64.pack(outcome.pending))
        elif outcome.pin_id in self._pending:
            batch.delete("pending", key)
        if outcome.winner is not None:
            if outcome.before is not None:
                self._take_out(key, outcome.before, outcome.winner.offset)
            winners.append((key, outcome.winner))
        elif outcome.forgotten and outcome.before is not None:
            self._take_out(key, outcome.before, outcome.before.offset)
            batch.delete("pins", key)
        elif outcome.again is not None and outcome.before is not None and self._damaged:
            self._write_again(outcome.before, outcome.again)

    def _take_out(self, key: bytes, row: Row, offset: int) -> None:
        batch = self._staged.catalogue
        if row.order.deleted:
            batch.delete("deletes", I64.pack(row.logged_at) + key)
            self._counts["deleted_pins"] -= 1
            return
        record = without_codes(row, self._spec.code_bytes, self._codes_of)
        for first, _ in runs_of(row.slots):
            batch.delete("slots", U64.pack(first))
        for slot in row.slots:
            packed = U64.pack(slot)
            batch.put("deaths", packed, I64.pack(offset))
            if slot in self._damaged:
                batch.delete("damaged", packed)
            self._staged.deaths[slot] = offset
        batch.delete("sha256", record.image_sha256 + key)
        batch.delete("newest", I64.pack(row.recorded_at) + key)
        self._words.take_out(key, record)
        annotations = dict.fromkeys(record.annotations)
        self._annotations_gone += annotations
        self._counts["documents"] -= bool(annotations)
        self._counts["live_pins"] -= 1
        self._counts["codes"] -= len(row.slots)
        self._counts["objects"] -= len(row.slots) - 1

    def _put_in(self, winners: Sequence[tuple[bytes, Winner]]) -> None:
        rows: list[bytes] = []
        live: list[tuple[bytes, Winner]] = []
        runs: list[list[tuple[int, int]]] = []
        for key, winner in winners:
            taken = self._take_runs(len(winner.codes))
            rows.append(_row(winner, taken))
            if winner.order.deleted:
                self._staged.catalogue.put("deletes", I64.pack(winner.logged_at) + key, b"")
            else:
                live.append((key, winner))
                runs.append(taken)
        self._staged.catalogue.put_many("pins", [key for key, _ in winners], rows)
        self._counts["deleted_pins"] += len(winners) - len(live)
        if live:
            self._put_in_live(live, runs)

    def _put_in_live(self, live: Sequence[tuple[bytes, Winner]], runs: Sequence[list[tuple[int, int]]]) -> None:
        """The lists and columns of live pins, whose rows are put."""
        batch, placed, come = self._staged.catalogue, self._placed, self._annotations_come
        placed.pins += [winner for _, winner in live]
        placed.born += [winner.offset for _, winner in live]
        placed.runs += chain.from_iterable(runs)
        firsts = [U64.pack(first) for taken in runs for first, _ in taken]
        owners = [U32.pack(n) + key for (key, _), taken in zip(live, runs, strict=True) for _, n in taken]
        batch.put_many("slots", firsts, owners)
        batch.put_many("sha256", [winner.record.image_sha256 + key for key, winner in live], repeat(b""))
        batch.put_many("newest", [I64.pack(winner.record.recorded_at) + key for key, winner in live], repeat(b""))
        documents = 0
        for key, winner in live:
            self._words.put_in(key, winner.record)
            annotations = dict.fromkeys(winner.record.annotations)
            documents += bool(annotations)
            come += annotations
        codes = sum(len(winner.codes) for _, winner in live)
        self._counts.update(live_pins=len(live), codes=codes, objects=codes - len(live), documents=documents)

    def _take_runs(self, n: int) -> list[tuple[int, int]]:
        """The next n slots as (first, how many), over the end of a segment into the next where it is full."""
        if self._length + n <= self._spec.capacity:
            first = slot_of(self._segment, self._length)
            self._length += n
            return [(first, n)] if n else []
        runs: list[tuple[int, int]] = []
        while n:
            if self._length == self._spec.capacity:
                self._segment, self._length = self._segment + 1, 0
            taken = min(n, self._spec.capacity - self._length)
            runs.append((slot_of(self._segment, self._length), taken))
            self._length += taken
            n -= taken
        return runs

    def _write_again(self, row: Row, again: Winner) -> None:
        if self._damaged.isdisjoint(row.slots):
            return
        placed = Placed([again], [row.offset], runs_of(row.slots))
        codes, slots = placed.arrays(self._spec.code_bytes, self._names, self._staged.catalogue)
        for at, slot in enumerate(row.slots):
            if slot in self._damaged:
                self._staged.catalogue.delete("damaged", U64.pack(slot))
                self._staged.rewrites.append((slot, codes[at : at + 1], slots[at : at + 1].copy()))

    def _stage_chunks(self) -> None:
        if not self._placed.pins:
            return
        codes, slots = self._placed.arrays(self._spec.code_bytes, self._names, self._staged.catalogue)
        segments = (slots["slot"] >> np.uint64(32)).astype(np.int64)
        breaks = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), len(slots)]
        for start, stop in pairwise(breaks):
            segment, index = place_of(int(slots["slot"][start]))
            self._staged.chunks.append(Chunk(segment, index, codes[start:stop], slots[start:stop]))


def _row(winner: Winner, runs: Sequence[tuple[int, int]]) -> bytes:
    """The catalogue's row of a winner whose codes go into these runs of slots."""
    slots: Sequence[int] = ()
    for first, n in runs:
        slots = (*slots, *range(first, first + n)) if slots else range(first, first + n)
    cuts, body = cut(winner.record, winner.canonical, winner.codes)
    times = (winner.offset, winner.logged_at, winner.record.recorded_at)
    return pack(winner.order, times, slots, cuts) + body
