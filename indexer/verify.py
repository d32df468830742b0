"""Holding a shard against itself: the digest of its logical content, and the check of every file of it.

The digest is the oracle of crash and rebuild tests: it depends on the log's content only, not on batches, slots,
segments, restarts or when things were applied.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from dotstream.errors import DotstreamError
from indexer import entries, words
from indexer.catalogue import Catalogue
from indexer.columns import runs_of
from indexer.commit_page import State
from indexer.database import I64, U32, U64
from indexer.entries import Row
from indexer.errors import Closed, Damaged
from indexer.records import order_of, searched_codes
from indexer.records_pb2 import ObjectRecord
from indexer.segments import Segment
from indexer.view import View, read_codes, read_record

_FRAME = struct.Struct(">II")
_CHECK_ROWS = 8192
_MOST_NAMED = 10
_INDEXES = {"sha256": "pins by picture", "newest": "pins by time", "deletes": "deletes by time"}


def digest(catalogue: Catalogue, view: View) -> str:
    """sha256 as hex over every pin, ascending by pin_id bytes: lengths, pin_id, the record's canonical bytes.

    Deletes count. The order of a record follows from its bytes, so that it needs no place of its own.

    Raises:
        Damaged: a stored record does not have the order under which it is stored.
    """
    total = sha256()
    with catalogue.scan("pins") as rows:
        for key, value in rows:
            row = entries.unpack(value)
            canonical = row.join(read_codes(row, view))
            if sha256(canonical).digest() != row.order.digest:
                raise Damaged(f"the record of pin {key.decode(errors='replace')} is not the one that was stored")
            total.update(_FRAME.pack(len(key), len(canonical)))
            total.update(key)
            total.update(canonical)
    return total.hexdigest()


def verify(catalogue: Catalogue, view: View, state: State, damaged: frozenset[int]) -> list[str]:
    """What does not hold, in words; empty when all is well.

    Args:
        catalogue: at the version of `state`, the writer's or a follower's.
        view: that version's segments. Its writer may be a few commits ahead in the columns.
        state: the version.
        damaged: slots that wait for a replay.

    Raises:
        Closed: the shard was closed.

    Counts annotations and pins in memory: 100 bytes or so for each.
    """
    problems = [f"{len(damaged)} codes wait for a replay"] if damaged else []
    try:
        problems += verify_segments(view, state)
        problems += _verify_catalogue(catalogue, view, state, damaged)
    except Closed:
        raise
    except DotstreamError as error:
        problems.append(str(error))
    return problems


def waiting(catalogue: Catalogue) -> frozenset[int]:
    """The slots that wait for a replay."""
    with catalogue.scan("damaged") as found:
        return frozenset(U64.unpack(key)[0] for key, _ in found)


def _living(segment: Segment, length: int, state: State) -> npt.NDArray[np.int64]:
    """Indices of the slots that live at the version, by their columns."""
    return np.flatnonzero((segment.born[:length] <= state.reached) & (segment.died[:length] > state.reached))


def verify_segments(view: View, state: State) -> list[str]:
    """What of the segments does not hold, in words: seals, codes by their checksums, the order of slots."""
    problems: list[str] = []
    for segment, length in view.segments:
        if segment.number != state.head_segment:
            try:
                segment.check_seal()
            except Damaged as error:
                problems.append(str(error))
        for start in range(0, length, _CHECK_ROWS):
            stop = min(start + _CHECK_ROWS, length)
            wrong = np.intersect1d(segment.damaged(start, stop), _living(segment, length, state))
            problems += [f"slot {index} of segment {segment.number} fails its checksum" for index in wrong.tolist()]
        slots = segment.slots_at(np.arange(length, dtype=np.int64))
        if not (np.diff(slots) > 0).all():
            problems.append(f"the slot numbers of segment {segment.number} do not ascend")
    return problems


@dataclass
class _Seen:
    """What the rows say that the other families must hold."""

    counts: Counter[str] = field(default_factory=Counter)
    frequencies: Counter[bytes] = field(default_factory=Counter)
    owned: dict[int, bytes] = field(default_factory=dict)
    runs: dict[bytes, bytes] = field(default_factory=dict)
    postings: set[bytes] = field(default_factory=set)
    words: Counter[bytes] = field(default_factory=Counter)
    keys: dict[str, set[bytes]] = field(default_factory=lambda: {"sha256": set(), "newest": set(), "deletes": set()})

    def add(self, key: bytes, row: Row, record: ObjectRecord) -> None:
        """Takes a row in."""
        self.counts["deleted_pins" if row.order.deleted else "live_pins"] += 1
        if row.order.deleted:
            self.keys["deletes"].add(I64.pack(row.logged_at) + key)
            return
        self.owned.update((slot, key) for slot in row.slots)
        self.runs.update((U64.pack(first), U32.pack(n) + key) for first, n in runs_of(row.slots))
        self.keys["newest"].add(I64.pack(row.recorded_at) + key)
        self.keys["sha256"].add(record.image_sha256 + key)
        self.counts.update(codes=len(row.slots), objects=len(row.slots) - 1)
        self.frequencies.update(annotation.encode() for annotation in set(record.annotations))
        self.counts["documents"] += bool(record.annotations)
        found = words.impacts(record)
        self.postings.update(words.posting_keys(found, key))
        self.words.update(word.encode() for word in found)


def _verify_catalogue(catalogue: Catalogue, view: View, state: State, damaged: frozenset[int]) -> list[str]:
    problems: list[str] = []
    seen = _Seen()
    with catalogue.scan("pins") as rows:
        for key, value in rows:
            row = entries.unpack(value)
            try:
                record = read_record(row, view)
            except DecodeError:  # of an earlier version, see `indexer.entries.without_codes`
                problems.append(f"the record of pin {key.decode(errors='replace')} is not the one that was stored")
                continue
            if damaged.isdisjoint(row.slots):
                problems += _verify_pin(key, row, record)
            seen.add(key, row, record)
    problems += [
        f"{name} is counted as {getattr(state, name)}; there are {seen.counts[name]}"
        for name in ("live_pins", "deleted_pins", "objects", "codes", "documents")
        if getattr(state, name) != seen.counts[name]
    ]
    with catalogue.scan("df") as found:
        if {key: U64.unpack(value)[0] for key, value in found} != dict(seen.frequencies):
            problems.append("the annotation frequencies are not those of the records")
    with catalogue.scan(words.FAMILY) as found:
        expected = {word: U64.pack(n) for word, n in seen.words.items()} | dict.fromkeys(seen.postings, b"")
        if dict(found) != expected:
            problems.append("the words in the catalogue are not those of the records")
    with catalogue.scan("slots") as found:
        if dict(found) != seen.runs:
            problems.append("the slots in the catalogue are not those of its rows")
    for family, about in _INDEXES.items():
        with catalogue.scan(family) as found:
            if {key for key, _ in found} != seen.keys[family]:
                problems.append(f"the list of {about} is not that of the records")
    with catalogue.scan("deaths") as found:  # a writer that died may not have stored these in the columns yet
        recorded = {U64.unpack(key)[0] for key, _ in found}
    return problems + _verify_slots(view, state, seen.owned, damaged | (recorded - seen.owned.keys()))


def _verify_pin(key: bytes, row: Row, record: ObjectRecord) -> list[str]:
    name = key.decode(errors="replace")
    problems: list[str] = []
    if record.pin_id.encode() != key or order_of(record) != row.order:
        problems.append(f"the record of pin {name} is not the one that was stored")
    if len(searched_codes(record)) != len(row.slots):
        problems.append(f"pin {name} has {len(row.slots)} slots for {len(searched_codes(record))} codes")
    return problems


def _verify_slots(view: View, state: State, owned: dict[int, bytes], unsettled: frozenset[int]) -> list[str]:
    living: set[int] = set()
    for segment, length in view.segments:
        living.update(segment.slots_at(_living(segment, length, state)).tolist())
    return [
        f"slot {slot} {'lives without a pin' if slot in living else 'is dead in its column'}"
        for slot in sorted((living ^ owned.keys()) - unsettled)[:_MOST_NAMED]
    ]
