"""A partition of the index with its shard, a reader of it, and the dots worker's parts over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from consumers.dot_decider import DotDecider, DotSettings
from consumers.dots import Deciding, DotsProcessor, Standing
from consumers.metrics import WorkerMetrics
from consumers.ports import Message
from dotstream.clock import Clock, SystemClock
from indexer.arbitration import Logged
from indexer.dot_rule import DotRule
from indexer.reader import IndexReader
from indexer.records import encode
from indexer.records_pb2 import Box, Code, DetectedObject, DotRecord, ObjectRecord
from indexer.shard import Shard

BITS = 256
FEATURE = "e@1/codes"
RULE = DotRule(score=0.7, similarity=0.8, annotation=0.05, conformity=0.6)
EVERY_SIGNAL = DotSettings(rule=RULE, neighbours=3, cold_start_objects=0)


def code_near(seed: int, flipped: int) -> bytes:
    """The code of `seed` with some bits flipped."""
    bits = np.random.default_rng(seed).integers(0, 2, BITS, np.uint8)
    bits[:flipped] ^= 1
    return np.packbits(bits).tobytes()


def record_of(
    pin_id: str,
    *,
    seed: int = 1,
    flipped: int = 0,
    score: float = 0.9,
    category: str = "home",
    annotations: Sequence[str] = ("chair",),
    picture: str | None = None,
    version: int = 1,
) -> ObjectRecord:
    code = Code(feature=FEATURE, bits=code_near(seed, flipped))
    found = DetectedObject(
        index=0,
        box=Box(x0=0.2, y0=0.2, x1=0.6, y1=1.0),
        label="Chair",
        score=score,
        source=DetectedObject.SOURCE_DETECTOR,
        codes=[code],
    )
    return ObjectRecord(
        pin_id=pin_id,
        version=version,
        generation="g1",
        image_sha256=(picture or pin_id).encode().ljust(32, b"\0"),
        codes=[code],
        objects=[found],
        annotations=annotations,
        category_weights={category: 1.0},
        event_time=1_700_000_000_000,
    )


class Place:
    """See above. `log` gives the shard a record at the next offset."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.shard = Shard.open(
            folder / "0",
            generation="g1",
            partition=0,
            topic_id="t",
            feature=FEATURE,
            bits=BITS,
            clock=self.clock,
            segment_slots=64,
        )
        self.reader = IndexReader(folder, 1, clock=self.clock, lease_s=10, name="dots")
        self.messages: list[Message] = []

    def log(self, record: ObjectRecord, *, apply: bool = True) -> Message:
        offset = len(self.messages)
        key, value = record.pin_id.encode(), encode(record)
        self.messages.append(Message("objects.g1", 0, offset, 1, key, value))
        if apply:
            self.shard.apply([Logged(offset, key, record, 1)])
        return self.messages[-1]

    def decide(self, *messages: Message, settings: DotSettings = EVERY_SIGNAL, active: bool = True) -> list[DotRecord]:
        metrics = WorkerMetrics("dots", CollectorRegistry())
        deciding = Deciding(
            reader=self.reader,
            decider=DotDecider(self.reader, settings, generation="g1", clock=self.clock, metrics=metrics),
            standing=lambda: Standing(active, epoch=3),
            generation="g1",
            topic="dots",
            source="test",
            clock=self.clock,
            metrics=metrics,
        )
        processor = DotsProcessor(deciding, bits=BITS, apply_limit_s=0.2)
        outcomes = processor.process(messages)
        return [DotRecord.FromString(output.value or b"") for o in outcomes for output in o.outputs]
