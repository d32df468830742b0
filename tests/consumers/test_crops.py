"""The crops worker over a log in memory, real states and a real index: what many crop becomes an object, once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from consumers import crops
from consumers.crop_rows import Box
from consumers.crops import CropSettings, CropsJob, crop_store
from consumers.metrics import WorkerMetrics
from consumers.ports import LogBroken, Output, Partition
from consumers.records import RecordWriter
from consumers.state_worker import StateWorker, StateWorkerSettings
from consumers.window import Backoff
from dotstream.clock import ManualClock
from dotstream.errors import Poison, Retryable
from indexer.keyed_state import KeyedState
from indexer.records import delete_record
from indexer.records_pb2 import DetectedObject, ObjectRecord
from producers.events import TAKEDOWN_VERSION
from producers.events_pb2 import EngagementEvent, EventBox
from tests.consumers.dots_place import BITS, FEATURE, Place, record_of
from tests.support.memory_log import MemoryCluster, MemoryLog

DAY_MS = 86_400_000
EVENTS, OBJECTS = "engagements", "objects.g1"
NOW = 1_700_000_000_000  # of the log, of the worker's clock, and the event_time of record_of
EXTRA = "classes@1/codes"
LAMP: Box = (0.625, 0.125, 0.875, 0.5)
DETECTED: Box = (0.2, 0.2, 0.6, 1.0)  # of record_of
LIMITS = CropSettings(people_min=3, objects_max=2, backoff=Backoff(0.1, 0.1))


class Stage:
    """The worker on a cluster, an index that applies what it publishes, and an embedder that may fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.place = Place(folder / "g1", self.clock)
        self.cluster = MemoryCluster()
        self.states: list[KeyedState] = []
        self.applied = 0
        self.embedded: list[tuple[str, Box]] = []
        self.failure: Exception | None = None
        self.registry = CollectorRegistry()
        self.worker = self.start()

    def start(self) -> StateWorker[KeyedState]:
        """A worker of this slot, as after a crash."""
        for state in self.states:
            state.abandon()
        metrics = WorkerMetrics("crops", self.registry)
        writer = RecordWriter(
            topic=OBJECTS,
            generation="g1",
            detector="d@1",
            embedder="e@1",
            features=[FEATURE, EXTRA],
            source="t",
            clock=self.clock,
        )
        job = CropsJob(
            self.open_state,
            reader=self.place.reader,
            embed=self.embed,
            records=writer,
            clock=self.clock,
            metrics=metrics,
            settings=LIMITS,
        )
        limits = StateWorkerSettings(batch_max=4, backoff=Backoff(0.1, 0.1), upkeep_every_s=0.1)
        log = MemoryLog(self.cluster, [EVENTS], "crops")
        self.worker = StateWorker(log, job, self.clock, metrics, settings=limits)
        self.registry = CollectorRegistry()
        return self.worker

    def open_state(self, source: Partition, end: int) -> KeyedState:
        state = KeyedState.open(
            self.folder / "states" / str(source[1]),
            crop_store("g1"),
            partition=source[1],
            topic_id="t",
            clock=self.clock,
            lock_limit_s=0,
        )
        self.states.append(state)
        return state

    def embed(self, image_ref: str, boxes: Sequence[Box]) -> Sequence[Sequence[bytes]]:
        if self.failure is not None:
            raise self.failure
        self.embedded += [(image_ref, box) for box in boxes]
        return [(np.random.default_rng([int(c * 1e4) for c in box]).bytes(BITS // 8), b"class") for box in boxes]

    def index(self, record: ObjectRecord) -> None:
        record.image_width, record.image_height = 640, 480
        record.image_ref = f"ref of {record.image_sha256.decode()}"
        self.place.log(record)

    def crop(self, *people: str, box: Box = LAMP, time: int = NOW - 60_000, pin_id: str = "pin") -> None:
        x0, y0, x1, y1 = box
        for person in people:
            event = EngagementEvent(
                pin_id=pin_id,
                kind=EngagementEvent.KIND_CROP,
                user_id=person,
                box=EventBox(x0=x0, y0=y0, x1=x1, y1=y1),
                event_time=time,
            )
            self.cluster.append(Output(EVENTS, pin_id.encode(), event.SerializeToString()))

    def run(self, seconds: float = 3.0, *, apply: bool = True) -> None:
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            self.worker.step()
            self.clock.sleep(0.05)
            if apply:
                self.apply()

    def apply(self) -> None:
        """The index takes in what was published since."""
        for record in self.published()[self.applied :]:
            self.place.log(record)
            self.applied += 1

    def published(self) -> list[ObjectRecord]:
        return [ObjectRecord.FromString(message.value or b"") for message in self.cluster.all(OBJECTS)]

    def from_crops(self, pin_id: str = "pin") -> list[DetectedObject]:
        self.place.reader.refresh()
        entry = self.place.reader.pin(pin_id)
        assert entry is not None
        return [item for item in entry.record.objects if item.source == DetectedObject.SOURCE_CROPS]

    def kept(self) -> set[bytes]:
        """The pins of which the state says anything."""
        found: set[bytes] = set()
        for family in crop_store("g1").families:
            with self.states[-1].database.scan(family) as rows:
                found |= {key for key, _ in rows}
        return found

    def close(self) -> None:
        for state in self.states:
            state.abandon()
        self.place.reader.close()
        self.place.shard.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


def test_a_box_that_enough_people_crop_becomes_an_object_of_the_pin(stage: Stage) -> None:
    stage.index(record_of("pin"))
    stage.crop("ann", "bob")
    stage.run()
    assert stage.published() == []
    stage.crop("bob", "cyd")
    stage.run()
    (record,) = stage.published()
    assert (record.version, record.revision, [item.index for item in record.objects]) == (1, 1, [0, 1])
    (item,) = stage.from_crops()
    assert (item.box.x0, item.box.y0, item.box.x1, item.box.y1) == LAMP
    assert item.score == pytest.approx(3 / 4)
    assert [code.feature for code in item.codes] == [FEATURE, EXTRA]
    assert item.codes[1].bits == b"class"
    assert stage.embedded == [(record.image_ref, LAMP)]


def test_what_the_detector_found_is_not_found_again_and_small_boxes_are_left(stage: Stage) -> None:
    stage.index(record_of("pin"))
    stage.crop("ann", "bob", "cyd", box=DETECTED)
    stage.crop("ann", "bob", "cyd", box=(0.9, 0.9, 0.92, 0.95))
    stage.run()
    assert stage.published() == []


def test_a_pin_has_only_so_many_objects_from_crops(stage: Stage) -> None:
    stage.index(record_of("pin"))
    for number in range(3):
        stage.crop("ann", "bob", "cyd", box=(0.7, 0.3 * number, 0.9, 0.3 * number + 0.2))
        stage.run()
    assert len(stage.from_crops()) == 2
    assert [record.revision for record in stage.published()] == [1, 2]


def test_crops_of_a_pin_that_the_index_has_not_seen_wait_for_it(stage: Stage) -> None:
    stage.crop("ann", "bob", "cyd")
    stage.run()
    assert stage.published() == []
    stage.index(record_of("pin"))
    stage.run()
    assert len(stage.from_crops()) == 1


def test_a_new_version_with_the_same_picture_gets_its_objects_again_with_another_picture_not(stage: Stage) -> None:
    stage.index(record_of("pin", picture="same"))
    stage.crop("ann", "bob", "cyd")
    stage.run()
    stage.index(record_of("pin", picture="same", version=2, annotations=["more"]))
    stage.run()
    assert len(stage.from_crops()) == 1
    stage.index(record_of("pin", picture="other", version=3))
    stage.run()
    assert stage.from_crops() == []


def test_crops_made_on_the_new_picture_count(stage: Stage) -> None:
    stage.index(record_of("pin", picture="one"))
    stage.crop("ann", "bob", "cyd")
    stage.run()
    other = record_of("pin", picture="two", version=2)
    stage.index(other)
    stage.run()
    stage.cluster.now_ms = other.event_time + 10_000
    stage.crop("ann", "bob", "cyd", time=other.event_time + 5_000)
    stage.run()
    assert len(stage.from_crops()) == 1


def test_a_deleted_pin_gets_nothing(stage: Stage) -> None:
    stage.index(record_of("pin"))
    stage.place.log(delete_record("pin", 2, "g1", 1))
    stage.crop("ann", "bob", "cyd")
    stage.run()
    assert stage.published() == []


def test_nothing_is_kept_of_a_pin_that_was_taken_down(stage: Stage) -> None:
    stage.index(record_of("pin"))
    stage.crop("ann", "bob", "cyd")
    stage.run()
    assert stage.kept() == {b"pin"}
    stage.place.log(delete_record("pin", TAKEDOWN_VERSION, "g1", 1))
    stage.run()
    assert stage.kept() == set()


def test_crops_that_were_old_when_they_were_logged_make_no_object(stage: Stage) -> None:
    """Whatever their age among each other."""
    stage.index(record_of("pin"))
    for days, person in zip((100, 99, 98, 97, 96), ("ann", "bob", "cyd", "dan", "eve"), strict=True):
        stage.crop(person, time=NOW - days * DAY_MS)
    stage.run()
    assert stage.published() == []
    assert stage.kept() == set()


def test_crops_end_with_the_window(stage: Stage) -> None:
    """They count no more for the next version, though nobody cropped the pin since; what is known of it goes."""
    stage.index(record_of("pin", picture="same"))
    stage.crop("ann", "bob", "cyd")
    stage.run()
    assert len(stage.from_crops()) == 1
    stage.clock.sleep(29 * DAY_MS / 1000)
    stage.run()
    assert stage.kept() == {b"pin"}
    stage.clock.sleep(DAY_MS / 1000)
    stage.index(record_of("pin", picture="same", version=2))
    stage.run()
    assert stage.from_crops() == []
    assert stage.kept() == set()


def test_crops_of_unknown_and_deleted_pins_end_too(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "SWEPT_MAX", 2)
    stage.index(record_of("gone"))
    stage.place.log(delete_record("gone", 2, "g1", 1))
    unknown = [f"unknown-{n}" for n in range(5)]
    for pin_id in ("gone", *unknown):
        stage.crop("ann", "bob", "cyd", pin_id=pin_id)
    stage.run()
    assert stage.kept() == {b"gone", *(pin_id.encode() for pin_id in unknown)}
    stage.clock.sleep(31 * DAY_MS / 1000)
    stage.cluster.now_ms += 31 * DAY_MS
    stage.crop("ann", pin_id="unknown-2", time=stage.cluster.now_ms)
    stage.run()
    assert stage.kept() == {b"unknown-2"}


def test_while_the_index_has_not_applied_a_record_no_other_is_published(stage: Stage) -> None:
    stage.index(record_of("pin"))
    stage.crop("ann", "bob", "cyd")
    stage.run(10, apply=False)
    assert len(stage.published()) == 1
    stage.run(40, apply=False)
    assert len(stage.published()) == 2, "it was lost, for all that is known"


def test_with_triton_away_events_are_applied_and_objects_come_later(stage: Stage) -> None:
    stage.index(record_of("pin"))
    stage.failure = Retryable("Triton is away")
    stage.crop("ann", "bob", "cyd")
    stage.run()
    assert stage.states[-1].applied_offset == 2
    assert stage.published() == []
    stage.failure = None
    stage.run()
    assert len(stage.from_crops()) == 1


def test_with_triton_away_in_mid_turn_what_is_ready_is_published(stage: Stage) -> None:
    for number in range(3):
        stage.index(record_of(f"pin-{number}"))
        stage.crop("ann", "bob", "cyd", pin_id=f"pin-{number}")

    def embed(image_ref: str, boxes: Sequence[Box]) -> Sequence[Sequence[bytes]]:
        if stage.embedded:
            raise Retryable("Triton is away")
        return Stage.embed(stage, image_ref, boxes)

    stage.embed = embed  # type: ignore[method-assign]
    stage.start()
    stage.run()
    assert len(stage.published()) == len(stage.embedded) == 1


def test_a_turn_may_take_longer_than_the_readers_lease(stage: Stage) -> None:
    for number in range(3):
        stage.index(record_of(f"pin-{number}"))
        stage.crop("ann", "bob", "cyd", pin_id=f"pin-{number}")

    def embed(image_ref: str, boxes: Sequence[Box]) -> Sequence[Sequence[bytes]]:
        stage.clock.sleep(6.0)  # of a lease of 10
        return Stage.embed(stage, image_ref, boxes)

    stage.embed = embed  # type: ignore[method-assign]
    stage.start()
    stage.run()
    assert sorted(record.pin_id for record in stage.published()) == ["pin-0", "pin-1", "pin-2"]


def test_what_a_broken_transaction_took_back_is_sent_again_at_once(stage: Stage) -> None:
    broken: list[str] = []

    def fault(step: str) -> None:
        if step == "before commit" and not broken and stage.embedded:
            broken.append(step)
            raise LogBroken("the transaction was aborted")

    stage.cluster.fault = fault
    stage.index(record_of("pin"))
    stage.crop("ann", "bob", "cyd")
    stage.run(5)
    assert broken
    assert len(stage.from_crops()) == 1


def test_a_picture_that_cannot_be_had_stops_nothing(stage: Stage) -> None:
    stage.index(record_of("pin"))
    stage.failure = Poison("picture_missing", "it was erased")
    stage.crop("ann", "bob", "cyd")
    stage.run()
    assert stage.worker.ready
    assert stage.published() == []


def test_what_is_no_engagement_is_left_to_the_engagements_worker(stage: Stage) -> None:
    stage.index(record_of("pin"))
    stage.cluster.append(Output(EVENTS, b"pin", b"\xff"))
    stage.crop("ann", "bob", "cyd")
    stage.run()
    assert stage.cluster.all("engagements.dead") == []
    assert len(stage.from_crops()) == 1


@settings(max_examples=12, deadline=None)
@given(
    faults=st.dictionaries(
        st.integers(3, 60), st.sampled_from(["open", "poll", "before commit", "after commit"]), max_size=5
    ),
    crashes=st.sets(st.integers(1, 25), max_size=3),
    late=st.booleans(),
)
def test_whatever_breaks_each_object_comes_once(faults: dict[int, str], crashes: set[int], late: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        calls = 0

        def fault(step: str) -> None:
            nonlocal calls
            calls += 1
            if faults.get(calls) == step:
                raise LogBroken(f"{step} broke")

        stage.cluster.fault = fault
        stage.index(record_of("pin"))
        stage.crop("ann", "bob", "cyd", "ann")
        for number in range(25):
            if number in crashes:
                stage.start()
            if number == 10:
                stage.crop("ann", "bob", "cyd", box=(0.7, 0.6, 0.9, 0.9))
            stage.run(0.2, apply=not late or number % 6 == 0)
        stage.cluster.fault = lambda step: None
        stage.run(40)
        boxes = sorted((item.index, round(item.box.x0, 3)) for item in stage.from_crops())
        assert boxes == [(1, 0.625), (2, 0.7)]
        quiet = len(stage.published())
        stage.run(3)
        assert len(stage.published()) == quiet
        stage.close()
