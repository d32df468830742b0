"""The dots worker over real shards and a real reader: which dots are shown, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from consumers.dot_decider import DotDecider, DotSettings
from consumers.dots import DotsProcessor, NotActive, NotYetApplied, Standing
from consumers.metrics import WorkerMetrics
from consumers.ports import Message
from dotstream.clock import SystemClock
from indexer.arbitration import Logged
from indexer.dot_rule import DotRule
from indexer.reader import IndexReader
from indexer.records import delete_record, encode
from indexer.records_pb2 import Box, Code, DetectedObject, Dot, DotRecord, ObjectRecord
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
    """One partition with its shard, a reader of it, and processors over them."""

    def __init__(self, folder: Path) -> None:
        self.clock = SystemClock()
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
        processor = DotsProcessor(
            reader=self.reader,
            decider=DotDecider(self.reader, settings, generation="g1", clock=self.clock, metrics=metrics),
            standing=lambda: Standing(active, epoch=3),
            generation="g1",
            bits=BITS,
            topic="dots",
            source="test",
            clock=self.clock,
            metrics=metrics,
            apply_limit_s=0.2,
        )
        outcomes = processor.process(messages)
        return [DotRecord.FromString(output.value or b"") for o in outcomes for output in o.outputs]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "g1")
    yield made
    made.reader.close()
    made.shard.close()


def crowd(place: Place) -> None:
    """Pins that look like nothing else and have other annotations, so that an annotation can say something."""
    for number in range(10):
        place.log(record_of(f"far-{number}", seed=50 + number, annotations=[f"tree-{number}"]))


def test_a_dot_is_shown_when_every_signal_passes(place: Place) -> None:
    crowd(place)
    for number in range(3):
        place.log(record_of(f"near-{number}", flipped=number + 1))
    (decided,) = place.decide(place.log(record_of("pin")))
    (dot,) = decided.dots
    assert dot.shown
    assert list(dot.reasons) == [Dot.REASON_SIGNALS]
    assert dot.similarity == pytest.approx(1 - 1 / BITS)
    assert [dot.x, dot.y] == pytest.approx([0.4, 0.6])
    assert dot.category_conformity == 1.0
    assert (decided.epoch, decided.version, dict(decided.watermark)) == (3, 1, {0: 13})
    assert set(decided.witnesses) == {f"near-{n}" for n in range(3)}


@pytest.mark.parametrize(
    ("neighbours", "pin", "reason"),
    [
        ([{"flipped": 60 + n} for n in range(3)], {}, Dot.REASON_LOW_SIMILARITY),
        ([{"flipped": n, "annotations": ()} for n in range(3)], {}, Dot.REASON_LOW_ANNOTATION),
        ([{"flipped": 1, "category": c} for c in ("a", "b", "c")], {}, Dot.REASON_LOW_CONFORMITY),
        ([{"flipped": n} for n in range(3)], {"score": 0.5}, Dot.REASON_LOW_SCORE),
    ],
)
def test_a_suppressed_dot_names_the_signal_that_failed(
    place: Place, neighbours: list[dict[str, object]], pin: dict[str, object], reason: Dot.Reason
) -> None:
    crowd(place)
    for number, settings in enumerate(neighbours):
        place.log(record_of(f"near-{number}", **settings))  # type: ignore[arg-type]
    (decided,) = place.decide(place.log(record_of("pin", **pin)))  # type: ignore[arg-type]
    assert not decided.dots[0].shown
    assert list(decided.dots[0].reasons) == [reason]


def test_the_pin_itself_and_identical_pictures_are_no_witnesses(place: Place) -> None:
    place.log(record_of("copy", picture="same"))
    place.log(record_of("other", flipped=3))
    (decided,) = place.decide(place.log(record_of("pin", picture="same")))
    assert list(decided.witnesses) == ["other"]


def test_in_cold_start_the_score_alone_decides(place: Place) -> None:
    cold = DotSettings(rule=RULE, cold_start_objects=100)
    sure, unsure = place.log(record_of("sure")), place.log(record_of("unsure", seed=2, score=0.4))
    shown, hidden = place.decide(sure, unsure, settings=cold)
    assert (shown.dots[0].shown, list(shown.dots[0].reasons)) == (True, [Dot.REASON_COLD_START])
    assert (hidden.dots[0].shown, list(hidden.dots[0].reasons)) == (False, [Dot.REASON_LOW_SCORE])


def test_a_delete_takes_the_dots_away_and_a_stale_record_decides_nothing(place: Place) -> None:
    stale = place.log(record_of("pin"))
    gone = place.log(delete_record("pin", 2, "g1", 1))
    decided = place.decide(stale, gone)
    assert [(record.version, record.deleted) for record in decided] == [(2, True)]


def test_it_waits_for_the_index_and_then_tries_again_later(place: Place) -> None:
    ahead = place.log(record_of("pin"), apply=False)
    with pytest.raises(NotYetApplied):
        place.decide(ahead)


def test_garbage_is_left_to_the_index_worker(place: Place) -> None:
    good = place.log(record_of("pin"))
    bad = Message("objects.g1", 0, 0, 1, b"x", b"not a record")
    null = Message("objects.g1", 0, 0, 1, b"x", None)
    assert [record.pin_id for record in place.decide(bad, null, good)] == ["pin"]


def test_only_the_active_generation_decides(place: Place) -> None:
    with pytest.raises(NotActive):
        place.decide(place.log(record_of("pin")), active=False)


def test_a_record_with_objects_from_crops_is_decided_above_the_one_before_it(place: Place) -> None:
    first = record_of("pin")
    again = record_of("pin")
    again.revision = 1
    (before,), (after,) = place.decide(place.log(first)), place.decide(place.log(again))
    assert (before.decision, after.decision) == (1, 65_537)
    assert (before.index_objects, after.index_objects) == (1, 1)
