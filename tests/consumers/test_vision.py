"""The vision worker over a real Triton server: one checked record for each event, each picture computed once."""

from __future__ import annotations

import gc
import io
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from prometheus_client import CollectorRegistry

from consumers.addresses import FetchPolicy
from consumers.fetch import Fetcher
from consumers.metrics import WorkerMetrics
from consumers.ports import Message, Outcome
from consumers.records import RecordWriter
from consumers.vision import VisionProcessor
from dotstream.clock import SystemClock
from dotstream.errors import Retryable
from indexer.pictures import PictureStore, ResultCache
from indexer.records import decode as decode_record
from indexer.records_pb2 import ObjectRecord
from ops.local.triton import TritonProcess
from producers.events_pb2 import PinEvent
from tests.support.photographs import photographs
from triton_models.client import TritonClient
from triton_models.pictures import Picture, decode
from triton_models.pipeline import Vision, VisionSettings
from triton_models.seen import Seen

FEATURE = "efficientnet_lite0@1/codes"
BITS = 1280


class Counting:
    """The real pipeline, with a count of the pictures that it looked at and a number of times to fail first."""

    def __init__(self, vision: Vision) -> None:
        self.vision = vision
        self.seen: list[bytes] = []
        self.away = 0
        self._lock = threading.Lock()

    def see(self, pictures: Sequence[Picture]) -> Sequence[Seen]:
        with self._lock:
            if self.away:
                self.away -= 1
                raise Retryable("Triton is away")
            self.seen += [picture.sha256 for picture in pictures]
        return self.vision.see(pictures)


@dataclass
class Place:
    processor: VisionProcessor
    counting: Counting
    pictures: PictureStore
    cache: ResultCache

    def process(self, *events: PinEvent) -> Sequence[Outcome]:
        return self.processor.process([message(event, number) for number, event in enumerate(events)])


def message(event: PinEvent, offset: int = 0) -> Message:
    return Message("pins", 0, offset, 1, event.pin_id.encode(), event.SerializeToString())


def event(pin_id: str, data: bytes, version: int = 1) -> PinEvent:
    return PinEvent(
        pin_id=pin_id,
        kind=PinEvent.KIND_CREATED,
        version=version,
        image=PinEvent.Image(inline=data),
        board_id="kitchen",
        annotations=["cat", "sofa"],
        category_weights={"animals": 0.9},
        event_time=1_700_000_000_000,
    )


def jpeg(path: Path, side: int = 480) -> bytes:
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((side, side))
        out = io.BytesIO()
        small.save(out, "JPEG", quality=90)
        return out.getvalue()


def record_of(outcome: Outcome) -> ObjectRecord:
    (output,) = outcome.outputs
    assert output.topic == "objects.g1"
    assert output.value is not None
    return decode_record(output.key, output.value, generation="g1", bits=BITS, feature=FEATURE)


@pytest.fixture
def place(triton_server: TritonProcess, exported_repository: Path, tmp_path: Path) -> Iterator[Place]:
    client = TritonClient(triton_server.address, labels=exported_repository / "ssd_mobilenet_v2" / "labels.txt")
    counting = Counting(Vision(client, VisionSettings()))
    pictures = PictureStore((tmp_path / "pictures").as_uri())
    cache = ResultCache((tmp_path / "results").as_uri())
    clock = SystemClock()
    with ThreadPoolExecutor(4) as pool, Fetcher(FetchPolicy(), clock=clock) as fetcher:
        processor = VisionProcessor(
            fetcher=fetcher,
            decode=decode,
            vision=counting,
            pictures=pictures,
            cache=cache,
            fingerprint=b"f" * 32,
            bits=BITS,
            records=RecordWriter(
                topic="objects.g1",
                generation="g1",
                detector="ssd_mobilenet_v2@1",
                embedder="efficientnet_lite0@1",
                features=[FEATURE],
                source="test",
                clock=clock,
            ),
            prepare=pool,
            clock=clock,
            metrics=WorkerMetrics("vision", CollectorRegistry()),
        )
        yield Place(processor, counting, pictures, cache)
    client.close()


def test_a_photograph_becomes_a_record_with_its_objects(place: Place) -> None:
    cat = next(path for path in photographs() if path.stem == "chelsea")
    data = jpeg(cat)
    record = record_of(place.process(event("p1", data))[0])
    assert "Cat" in [found.label for found in record.objects]
    assert (record.board_id, list(record.annotations)) == ("kitchen", ["cat", "sofa"])
    assert record.category_weights["animals"] == pytest.approx(0.9)
    assert (record.image_width, record.image_height) == (451, 300)
    assert record.colours
    assert place.pictures.get(record.image_ref) == data


def test_the_same_picture_is_computed_once(place: Place) -> None:
    data = jpeg(photographs()[0])
    first = place.process(event("p1", data), event("p2", data))
    again = place.process(event("p3", data))
    assert len(place.counting.seen) == 1
    codes = {record_of(outcome).codes[0].bits for outcome in (*first, *again)}
    assert len(codes) == 1


def test_batches_side_by_side_share_one_look(place: Place) -> None:
    data = [jpeg(path, 200) for path in photographs()[:4]]
    with ThreadPoolExecutor(4) as pool:
        batches = [[event(f"{n}-{m}", data[(n + m) % 4]) for m in range(4)] for n in range(4)]
        done = list(pool.map(lambda batch: place.process(*batch), batches))
    assert len(place.counting.seen) == 4
    assert all(record_of(outcome).codes for outcomes in done for outcome in outcomes)


def test_poison_leaves_its_batch_alone(place: Place) -> None:
    good = jpeg(photographs()[0])
    outcomes = place.process(event("p1", good), event("p2", b"<html>"), event("p3", b""), event("p4", good[:500]))
    assert record_of(outcomes[0]).pin_id == "p1"
    reasons = [outcome.poison.reason if outcome.poison else None for outcome in outcomes]
    assert reasons == [None, "picture_format", "missing_image", "picture_truncated"]


def test_poison_keeps_nothing_alive(place: Place) -> None:
    """A cycle through its traceback would hold the failed pictures until the garbage collector comes by."""
    cut = jpeg(photographs()[0])[:500]
    gc.collect()
    gc.disable()
    try:
        outcomes = place.process(event("p1", cut), event("p2", cut), event("p3", b"<html>"))
        poisons = [outcome.poison for outcome in outcomes if outcome.poison is not None]
        assert [poison.reason for poison in poisons] == ["picture_truncated", "picture_truncated", "picture_format"]
        assert not any(poison.__traceback__ or poison.__cause__ or poison.__context__ for poison in poisons)
        left = [weakref.ref(poison) for poison in poisons]
        del outcomes, poisons
        assert [poison for poison in left if poison() is not None] == []
    finally:
        gc.enable()


def test_a_delete_becomes_a_delete_record(place: Place) -> None:
    gone = PinEvent(pin_id="p1", kind=PinEvent.KIND_DELETED, version=7)
    record = record_of(place.process(gone)[0])
    assert record.deleted
    assert record.version == 7


def test_a_result_that_cannot_be_kept_stops_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise Retryable("no space left")

    monkeypatch.setattr(place.cache, "put", full)
    data = jpeg(photographs()[0], 200)
    for pin_id in ("p1", "p2"):
        assert record_of(place.process(event(pin_id, data))[0]).pin_id == pin_id


def test_a_record_too_large_for_its_topic_is_poison(place: Place) -> None:
    large = event("p1", jpeg(photographs()[0], 200))
    large.annotations.extend("\N{GRINNING FACE}" * 256 for _ in range(500))
    large.category_weights.update({"x" * 20_000 + str(n): 1.0 for n in range(30)})
    (outcome,) = place.process(large)
    assert outcome.poison is not None
    assert outcome.poison.reason == "record_too_large"


def test_models_away_leave_nothing_behind(place: Place) -> None:
    data = jpeg(photographs()[1])
    place.counting.away = 1
    with pytest.raises(Retryable):
        place.process(event("p1", data))
    assert record_of(place.process(event("p1", data))[0]).pin_id == "p1"
