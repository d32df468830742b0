"""What a batch changes, worked out before any of it is written: new codes, deaths, catalogue keys and counts.

Step 0 of the commit protocol in indexer/shard.py. Nothing here touches a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from indexer.arbitration import Outcome, Winner
from indexer.catalogue import Catalogue
from indexer.columns import Columns, Numbers, runs_of
from indexer.commit_page import State
from indexer.database import I64, U32, U64, Batch
from indexer.entries import Row, cut
from indexer.names import BOARD, CATEGORY, LABEL, Names
from indexer.records import top_category
from indexer.records_pb2 import ObjectRecord
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
    ) -> None:
        self._pending = pending
        self._catalogue = catalogue
        self._spec = spec
        self._names = names
        self._damaged = damaged
        self._segment, self._length = state.head_segment, state.head_length
        self._counts: Counter[str] = Counter()
        self._frequencies: Counter[str] = Counter()
        self._columns = Columns()
        self._staged = Staged(state, catalogue.batch())
        self._words = WordStager(catalogue, self._staged.catalogue)

    def stage(self, outcomes: Iterable[Outcome], applied: int) -> Staged:
        """The batch's changes; `applied` is its last offset."""
        for outcome in outcomes:
            self._stage(outcome)
        self._stage_frequencies()
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

    def _stage(self, outcome: Outcome) -> None:
        key = outcome.pin_id.encode()
        batch = self._staged.catalogue
        if outcome.pending is not None:
            batch.put("pending", key, I64.pack(outcome.pending))
        elif outcome.pin_id in self._pending:
            batch.delete("pending", key)
        if outcome.winner is not None:
            if outcome.before is not None:
                self._take_out(key, outcome.before, outcome.winner.offset)
            self._put_in(key, outcome.winner)
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
        record = ObjectRecord.FromString(row.join([bytes(self._spec.code_bytes)] * len(row.slots)))
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
        self._count(record, -1, len(row.slots))

    def _put_in(self, key: bytes, winner: Winner) -> None:
        batch, record, codes = self._staged.catalogue, winner.record, winner.codes
        runs = self._take_runs(len(codes))
        slots = tuple(slot for first, n in runs for slot in range(first, first + n))
        cuts, body = cut(winner.canonical, codes)
        row = Row(winner.order, winner.offset, winner.logged_at, record.recorded_at, slots, cuts, body)
        batch.put("pins", key, row.pack())
        if record.deleted:
            batch.put("deletes", I64.pack(winner.logged_at) + key, b"")
            self._counts["deleted_pins"] += 1
            return
        for first, n in runs:
            batch.put("slots", U64.pack(first), U32.pack(n) + key)
        self._columns.add(record, codes, winner.offset, runs, self._numbers(record))
        batch.put("sha256", record.image_sha256 + key, b"")
        batch.put("newest", I64.pack(record.recorded_at) + key, b"")
        self._words.put_in(key, record)
        self._count(record, 1, len(codes))

    def _count(self, record: ObjectRecord, sign: int, codes: int) -> None:
        self._counts["live_pins"] += sign
        self._counts["codes"] += sign * codes
        self._counts["objects"] += sign * (codes - 1)
        annotations = set(record.annotations)
        self._counts["documents"] += sign * bool(annotations)
        for annotation in annotations:
            self._frequencies[annotation] += sign

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

    def _numbers(self, record: ObjectRecord) -> Numbers:
        """The numbers of a live record's names."""
        batch, number = self._staged.catalogue, self._names.number
        labels = [0]
        labels += [number(LABEL, item.label, batch) for item in record.objects]
        return Numbers(labels, number(CATEGORY, top_category(record), batch), number(BOARD, record.board_id, batch))

    def _write_again(self, row: Row, again: Winner) -> None:
        if self._damaged.isdisjoint(row.slots):
            return
        columns = Columns()
        columns.add(again.record, again.codes, row.offset, runs_of(row.slots), self._numbers(again.record))
        codes, slots = columns.arrays(self._spec.code_bytes)
        for at, slot in enumerate(row.slots):
            if slot in self._damaged:
                self._staged.catalogue.delete("damaged", U64.pack(slot))
                self._staged.rewrites.append((slot, codes[at : at + 1], slots[at : at + 1].copy()))

    def _stage_frequencies(self) -> None:
        changed = [(annotation.encode(), n) for annotation, n in self._frequencies.items() if n]
        standing = self._catalogue.numbers("df", [key for key, _ in changed])
        for (key, n), before in zip(changed, standing, strict=True):
            if before + n > 0:
                self._staged.catalogue.put("df", key, U64.pack(before + n))
            else:
                self._staged.catalogue.delete("df", key)

    def _stage_chunks(self) -> None:
        if not len(self._columns):
            return
        codes, slots = self._columns.arrays(self._spec.code_bytes)
        segments = (slots["slot"] >> np.uint64(32)).astype(np.int64)
        breaks = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), len(slots)]
        for start, stop in pairwise(breaks):
            segment, index = place_of(int(slots["slot"][start]))
            self._staged.chunks.append(Chunk(segment, index, codes[start:stop], slots[start:stop]))
