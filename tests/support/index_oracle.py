"""A plain model of the index, to hold the real one against: dictionaries, whole sorts, no files.

Also makes the records and logs that index tests use. Codes are short, so that ties are common.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from dotstream.clock import Clock, ManualClock
from indexer.arbitration import Logged
from indexer.records_pb2 import Box, Code, DetectedObject, ObjectRecord
from indexer.shard import Shard

GENERATION = "g1"
FEATURE = "test@1/codes"
BITS = 64
TOPIC = "topic-1"


def code(random: Random, bits: int = BITS) -> bytes:
    return random.randbytes(bits // 8)


def live(
    pin_id: str, version: int = 1, *, seed: int = 0, objects: int = 1, bits: int = BITS, **more: Any
) -> ObjectRecord:
    """A live record whose content follows from the arguments."""
    random = Random(f"{pin_id}/{version}/{seed}")
    record = ObjectRecord(
        pin_id=pin_id,
        version=version,
        generation=GENERATION,
        detector="ssd@1",
        embedder="test@1",
        image_ref=f"pictures/{pin_id}",
        image_sha256=random.randbytes(32),
        image_width=640,
        image_height=480,
        codes=[Code(feature=FEATURE, bits=code(random, bits)), Code(feature="other", bits=random.randbytes(4))],
        objects=[
            DetectedObject(
                index=index,
                box=Box(x0=0.1, y0=0.2, x1=0.6, y1=0.7),
                label=random.choice(("Chair", "Lamp", "Table")),
                score=0.5,
                source=DetectedObject.SOURCE_DETECTOR,
                codes=[Code(feature=FEATURE, bits=code(random, bits))],
            )
            for index in range(objects)
        ],
        annotations=random.sample(["red", "green", "blue", "oak", "steel"], random.randint(0, 3)),
        category_weights={random.choice(("home", "garden", "kitchen")): 0.75},
        buyable=random.random() < 0.5,
        title=f"Title of {pin_id}",
        event_time=1_700_000_000_000 + version,
        recorded_at=1_700_000_000_000 + random.randrange(1_000),
        board_id=random.choice(("", "board-1", "board-2")),
    )
    for name, value in more.items():
        setattr(record, name, value)
    return record


def dead(pin_id: str, version: int = 1) -> ObjectRecord:
    return ObjectRecord(pin_id=pin_id, version=version, deleted=True, generation=GENERATION, recorded_at=version)


def log_of(records: Iterable[tuple[str, ObjectRecord | None]], start: int = 0) -> list[Logged]:
    """Logs (pin_id, record or null) at consecutive offsets, a second apart."""
    return [
        Logged(offset, pin_id.encode(), record, offset * 1_000)
        for offset, (pin_id, record) in enumerate(records, start)
    ]


def random_log(random: Random, length: int, pins: int = 6) -> list[Logged]:
    """Creates, updates, deletes, nulls, repeats and stale records of a few pins, in any order."""
    records: list[tuple[str, ObjectRecord | None]] = []
    for _ in range(length):
        pin_id = f"pin-{random.randrange(pins)}"
        version = random.randint(1, 4)
        kind = random.random()
        if kind < 0.08:
            records.append((pin_id, None))
        elif kind < 0.25:
            records.append((pin_id, dead(pin_id, version)))
        else:
            seed, objects = random.randrange(2), random.randrange(3)
            records.append((pin_id, live(pin_id, version, seed=seed, objects=objects)))
    return log_of(records)


Key = tuple[int, bool, int, bytes]


def order_key(record: ObjectRecord) -> Key:
    canonical = record.SerializeToString(deterministic=True)
    return record.version, record.deleted, record.revision, hashlib.sha256(canonical).digest()


@dataclass
class Oracle:
    """The index as the log makes it."""

    winners: dict[str, tuple[Key, ObjectRecord, int]] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    null_retention_ms: int = 0

    def apply(self, log: Sequence[Logged]) -> Oracle:
        for logged in log:
            self._apply(logged)
        return self

    def _apply(self, logged: Logged) -> None:
        pin_id = logged.key.decode()
        standing = self.winners.get(pin_id)
        self.pending.discard(pin_id)
        if logged.record is None:
            if standing is None:
                return
            if standing[1].deleted and logged.timestamp_ms >= standing[2] + self.null_retention_ms:
                del self.winners[pin_id]
            else:
                self.pending.add(pin_id)
            return
        key = order_key(logged.record)
        if standing is None or key > standing[0]:
            self.winners[pin_id] = (key, logged.record, logged.timestamp_ms)
        elif key < standing[0]:
            self.pending.add(pin_id)

    def live(self) -> dict[str, ObjectRecord]:
        return {pin_id: record for pin_id, (_, record, _) in self.winners.items() if not record.deleted}

    def digest(self) -> str:
        total = hashlib.sha256()
        for pin_id in sorted(self.winners, key=str.encode):
            canonical = self.winners[pin_id][1].SerializeToString(deterministic=True)
            total.update(struct.pack(">II", len(pin_id.encode()), len(canonical)) + pin_id.encode() + canonical)
        return total.hexdigest()

    def counts(self) -> dict[str, int]:
        live_ones = self.live().values()
        objects = sum(len(record.objects) for record in live_ones)
        return {
            "live_pins": len(live_ones),
            "deleted_pins": len(self.winners) - len(live_ones),
            "objects": objects,
            "codes": objects + len(live_ones),
            "documents": sum(bool(record.annotations) for record in live_ones),
        }

    def frequencies(self) -> Counter[str]:
        return Counter(annotation for record in self.live().values() for annotation in set(record.annotations))

    def nearest(self, query: bytes, k: int, scope: str = "all", **filters: Any) -> list[tuple[int, str, int | None]]:
        """(distance, pin_id, object index) of the k nearest by brute force over Python ints."""
        found: list[tuple[int, str, int]] = []
        for pin_id, record in self.live().items():
            if not passes(record, **filters):
                continue
            codes = [(-1, record.codes[0].bits, "")]
            codes += [(item.index, item.codes[0].bits, item.label) for item in record.objects]
            for index, bits, label in codes:
                if (scope, index >= 0) in {("objects", False), ("images", True)}:
                    continue
                if filters.get("label") not in {None, label}:
                    continue
                distance = (int.from_bytes(bits) ^ int.from_bytes(query)).bit_count()
                if distance <= filters.get("within", distance):
                    found.append((distance, pin_id, index))
        found.sort()
        return [(distance, pin_id, None if index < 0 else index) for distance, pin_id, index in found[:k]]


def passes(
    record: ObjectRecord,
    *,
    exclude_pins: frozenset[str] = frozenset(),
    exclude_sha256: frozenset[bytes] = frozenset(),
    category: str | None = None,
    buyable: bool | None = None,
    only_pins: frozenset[str] | None = None,
    board: str | None = None,
    label: str | None = None,
    within: int | None = None,
) -> bool:
    """Whether a pin passes the filters that look at pins; `label` and `within` look at codes."""
    _ = label, within
    if only_pins is not None and record.pin_id not in only_pins:
        return False
    if record.pin_id in exclude_pins or record.image_sha256 in exclude_sha256:
        return False
    weights = record.category_weights
    top = min(weights, key=lambda name: (-weights[name], name)) if weights else None
    return category in {None, top} and buyable in {None, record.buyable} and board in {None, record.board_id}


def open_shard(home: Path, *, clock: Clock | None = None, partition: int = 0, **more: Any) -> Shard:
    """A shard with small segments, so that tests cross their ends."""
    arguments: dict[str, Any] = {
        "generation": GENERATION,
        "topic_id": TOPIC,
        "feature": FEATURE,
        "bits": BITS,
        "segment_slots": 16,
        "lock_limit_s": 0.0,
    }
    return Shard.open(home, partition=partition, clock=clock or ManualClock(), **(arguments | more))


def hold_against(shard: Shard, oracle: Oracle) -> None:
    """Asserts that a shard holds what the oracle holds, in every way in which it can be asked."""
    assert shard.digest() == oracle.digest()
    problems = shard.verify()
    assert problems == []
    counts = shard.counts()
    assert {name: counts[name] for name in oracle.counts()} == oracle.counts()
    documents, frequencies = shard.document_frequency(["red", "green", "blue", "oak", "steel", "absent"])
    assert documents == oracle.counts()["documents"]
    assert {name: n for name, n in frequencies.items() if n} == dict(oracle.frequencies())
    assert {pin_id for pin_id, _ in shard.pending()} == oracle.pending & set(oracle.winners)
    for pin_id, (key, record, _) in oracle.winners.items():
        entry = shard.pin(pin_id)
        assert entry is not None
        assert (entry.record, (entry.order.version, entry.order.deleted)) == (record, key[:2])
        if not record.deleted:
            assert pin_id in shard.pins_with(record.image_sha256)
