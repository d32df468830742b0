"""Holding a shard against itself: the digest of its logical content, and the check of every file of it.

The digest is the oracle of crash and rebuild tests: it depends on the log's content only, not on batches, slots,
segments, restarts or when things were applied.
"""

from __future__ import annotations

import struct
from collections import Counter
from hashlib import sha256

import numpy as np

from dotstream.errors import DotstreamError
from indexer import entries
from indexer.answers import read_codes
from indexer.catalogue import Catalogue
from indexer.commit_page import State
from indexer.database import U64
from indexer.entries import Row
from indexer.errors import Damaged
from indexer.records import order_of, searched_codes
from indexer.records_pb2 import ObjectRecord
from indexer.search import View, slot_of
from indexer.segments import LIVE

_FRAME = struct.Struct(">II")


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
    """What does not hold, in words. Counts annotations in memory: 100 bytes or so for each distinct one."""
    problems = [f"{len(damaged)} codes wait for a replay"] if damaged else []
    try:
        problems += _verify_segments(view)
        problems += _verify_catalogue(catalogue, view, state, damaged)
    except DotstreamError as error:
        problems.append(str(error))
    return problems


def _verify_segments(view: View) -> list[str]:
    problems: list[str] = []
    for at, (segment, length) in enumerate(view.segments):
        if at < len(view.segments) - 1:
            try:
                segment.check_seal()
            except Damaged as error:
                problems.append(str(error))
        live = np.flatnonzero(segment.died[:length] == LIVE)
        wrong = np.intersect1d(segment.damaged(0, length), live)
        problems += [f"slot {index} of segment {segment.number} fails its checksum" for index in wrong[:10].tolist()]
    return problems


def _verify_catalogue(catalogue: Catalogue, view: View, state: State, damaged: frozenset[int]) -> list[str]:
    problems: list[str] = []
    counted: Counter[str] = Counter()
    frequencies: Counter[bytes] = Counter()
    owned: dict[int, bytes] = {}
    with catalogue.scan("pins") as rows:
        for key, value in rows:
            row = entries.unpack(value)
            record = ObjectRecord.FromString(row.join(read_codes(row, view)))
            problems += _verify_pin(catalogue, key, row, record, damaged)
            owned.update((slot, key) for slot in row.slots)
            counted["deleted_pins" if row.order.deleted else "live_pins"] += 1
            if not row.order.deleted:
                counted.update(codes=len(row.slots), objects=len(row.slots) - 1)
                frequencies.update(annotation.encode() for annotation in set(record.annotations))
                counted["documents"] += bool(record.annotations)
    problems += [
        f"{name} is counted as {getattr(state, name)}; there are {counted[name]}"
        for name in ("live_pins", "deleted_pins", "objects", "codes", "documents")
        if getattr(state, name) != counted[name]
    ]
    with catalogue.scan("df") as found:
        if {key: U64.unpack(value)[0] for key, value in found} != dict(frequencies):
            problems.append("the annotation frequencies are not those of the records")
    return problems + _verify_slots(catalogue, view, owned, damaged)


def _verify_pin(catalogue: Catalogue, key: bytes, row: Row, record: ObjectRecord, damaged: frozenset[int]) -> list[str]:
    name = key.decode(errors="replace")
    if not damaged.isdisjoint(row.slots):
        return []
    problems: list[str] = []
    if record.pin_id.encode() != key or order_of(record) != row.order:
        problems.append(f"the record of pin {name} is not the one that was stored")
    if len(searched_codes(record)) != len(row.slots):
        problems.append(f"pin {name} has {len(row.slots)} slots for {len(searched_codes(record))} codes")
    if not row.order.deleted and catalogue.get("sha256", record.image_sha256 + key) is None:
        problems.append(f"pin {name} is not found by its picture")
    return problems


def _verify_slots(catalogue: Catalogue, view: View, owned: dict[int, bytes], damaged: frozenset[int]) -> list[str]:
    living = {
        slot_of(segment.number, index)
        for segment, length in view.segments
        for index in np.flatnonzero(segment.died[:length] == LIVE).tolist()
    }
    problems = [
        f"slot {slot} {'lives without a pin' if slot in living else 'is dead in its column'}"
        for slot in sorted((living ^ owned.keys()) - damaged)[:10]
    ]
    with catalogue.scan("slots") as found:
        if {U64.unpack(key)[0]: value for key, value in found} != owned:
            problems.append("the slots in the catalogue are not those of its rows")
    return problems
