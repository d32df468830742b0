"""A small stream's end, for tests of the API: real shards, a real reader, real dots on RocksDB, a real picture store.

Only Triton is replaced, by `ColourModels`, which finds saturated patches and codes colours: unit tests need answers
that a person can predict. Pins are written as the index worker would write them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from prometheus_client import CollectorRegistry

from discovery.dot_store import DotStore
from discovery.dot_view import DotView
from discovery.eyes import TritonEyes
from discovery.ports import DeadLetter
from discovery.ports import Letters as Found
from discovery.rerank import Weights
from discovery.services import Limits, Services
from dotstream.clock import SystemClock
from dotstream.errors import Retryable, Unavailable
from indexer.arbitration import Logged as LoggedRecord
from indexer.cooccurrence import Together
from indexer.partition import partition_of
from indexer.pictures import PictureStore
from indexer.reader import IndexReader
from indexer.records import delete_record
from indexer.records_pb2 import Box, Code, Colour, DetectedObject, Dot, DotRecord, ObjectRecord
from indexer.search import warm
from indexer.shard import Shard
from indexer.tags import Tagged
from producers.events_pb2 import EngagementEvent, SaveEvent
from producers.whole_topic import Extent, Logged
from triton_models.outputs import Detections
from triton_models.pictures import decode
from triton_models.pipeline import Vision, VisionSettings

BITS = 256
FEATURE = "colours@1/cells"
PARTITIONS = 2
NOW = 1_700_000_000_000


class ColourModels:
    """Stands in for Triton in unit tests: one object where a picture is saturated, codes that say which colours."""

    def __init__(self) -> None:
        self.away = False
        self.calls = 0

    def detect(self, images: npt.NDArray[np.uint8]) -> list[Detections]:
        self._call()
        return [self._detect(image) for image in images]

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        self._call()
        side = images.shape[1] // 8
        cells = images.reshape(len(images), 8, side, 8, side, 3).mean(axis=(2, 4))
        bits = np.concatenate([cells > 128, (np.ptp(cells, axis=3) > 90)[..., None]], axis=3)
        return np.packbits(bits.reshape(len(images), -1), axis=1)

    def codes(self, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
        return [self.embed(images)]

    def _call(self) -> None:
        if self.away:
            raise Unavailable("Triton is away")
        self.calls += 1

    def _detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        ys, xs = np.nonzero(np.ptp(image.astype(int), axis=2) > 90)
        if not len(xs):
            return Detections(np.empty((0, 4), np.float32), [], np.empty(0, np.float32))
        corners = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float32)
        box: npt.NDArray[np.float32] = corners / np.float32(len(image))
        return Detections(box, ["Patch"], np.array([0.8], np.float32))


def patch(colour: str, box: Sequence[float] = (0.25, 0.25, 0.75, 0.75), size: tuple[int, int] = (400, 300)) -> bytes:
    """A grey PNG with one patch of colour; "grey" gives one without an object."""
    image = Image.new("RGB", size, (120, 120, 120))
    corners = [corner * side for corner, side in zip(box, (*size, *size), strict=True)]
    if colour != "grey":
        ImageDraw.Draw(image).rectangle(corners, fill=colour)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


class ListLog:
    """Topic `dots` as lists in memory."""

    def __init__(self) -> None:
        self.parts: dict[int, list[tuple[bytes, bytes]]] = {p: [] for p in range(PARTITIONS)}
        self.at: dict[int, int] = {}

    def put(self, record: DotRecord) -> None:
        key = record.pin_id.encode()
        self.parts[partition_of(key, PARTITIONS)].append((key, record.SerializeToString()))

    def open(self) -> Extent:
        return Extent("topic-a", dict.fromkeys(self.parts, 0), {p: len(r) for p, r in self.parts.items()})

    def start(self, positions: Mapping[int, int]) -> None:
        self.at = dict(positions)

    def read(self, limit: int, wait_s: float) -> tuple[Sequence[Logged], Mapping[int, int]]:
        found: list[Logged] = []
        moved: dict[int, int] = {}
        for partition, start in self.at.items():
            for offset, (key, value) in enumerate(self.parts[partition][start:], start):
                found.append(Logged(partition, offset, key, value, 0))
                moved[partition] = offset + 1
        self.at.update(moved)
        if not found:
            SystemClock().sleep(min(wait_s, 0.005))
        return found, moved

    def end(self, partition: int) -> int:
        return len(self.parts[partition])

    def close(self) -> None:
        self.at = {}


class Letters:
    """Dead letters as a list."""

    def __init__(self) -> None:
        self.letters: dict[str, list[DeadLetter]] = {}
        self.away = False
        self.newest_only: int | None = None

    def find(self, pin_id: str) -> Found:
        if self.away:
            raise Retryable("the broker is away")
        return Found(self.letters.get(pin_id, []), self.newest_only)


class TagList:
    """Expert tags as a dictionary."""

    def __init__(self) -> None:
        self.tags: dict[str, list[Tagged]] = {}

    def of(self, pin_id: str) -> Sequence[Tagged]:
        return self.tags.get(pin_id, [])


class EngagementList:
    """Engagement as a dictionary: (query pin, object) -> result pin -> weight."""

    def __init__(self) -> None:
        self.weights: dict[tuple[str, int | None], dict[str, float]] = {}
        self.away = False

    def of(self, pin_id: str, object_index: int | None, results: Sequence[str]) -> Mapping[str, float]:
        if self.away:
            raise Retryable("the engagement store is away")
        return self.weights.get((pin_id, object_index), {})


class TogetherList:
    """Co-occurrence as a dictionary: query pin -> what is kept together with it."""

    def __init__(self) -> None:
        self.of: dict[str, list[Together]] = {}
        self.away = False

    def refresh(self) -> None:
        if self.away:
            raise Retryable("the saves are away")

    def candidates(self, pin_id: str, now_ms: int, limit: int) -> Sequence[Together]:
        return self.of.get(pin_id, [])[:limit]


class ReportList:
    """What people did, as a list instead of a topic."""

    taken = True

    def __init__(self) -> None:
        self.events: list[EngagementEvent | SaveEvent] = []
        self.away = False

    def publish(self, events: Sequence[EngagementEvent | SaveEvent]) -> None:
        if self.away:
            raise Retryable("the broker is away")
        self.events.extend(events)


class Stage:
    """The parts and the means to fill them."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        warm(BITS)  # as `dotstream serve` does: a first search must not pay for compiling within its time limit
        self.models = ColourModels()
        self.settings = VisionSettings()
        self.vision = Vision(self.models, self.settings)
        self.pictures = PictureStore((folder / "pictures").as_uri())
        self.log = ListLog()
        self.letters = Letters()
        self.tags = TagList()
        self.engagement = EngagementList()
        self.together = TogetherList()
        self.reports = ReportList()
        self.registry = CollectorRegistry()
        self.offsets = dict.fromkeys(range(PARTITIONS), -1)
        self.shards = {
            partition: Shard.open(
                folder / "index" / "g1" / str(partition),
                generation="g1",
                partition=partition,
                topic_id="topic-o",
                feature=FEATURE,
                bits=BITS,
                clock=SystemClock(),
                segment_slots=1024,
            )
            for partition in range(PARTITIONS)
        }
        self.reader = IndexReader(folder / "index" / "g1", PARTITIONS, clock=SystemClock(), lease_s=10.0, name="api")
        self.services = Services(
            index=self.reader,
            dots=DotView(DotStore(folder / "dots"), self.log),
            pictures=self.pictures,
            eyes=TritonEyes(self.models, self.settings),
            registry=self.registry,
            boot="boot",
            dead_letters=self.letters,
            tags=self.tags,
            weights=Weights(near_duplicate=0.03),  # these codes say less than an embedder's
            engagement=self.engagement,
            together=self.together,
            reports=self.reports,
            limits=limits or Limits(refresh_s=0.02, requests_per_s=0, indexed_wait_s=0.3),
        )

    def pin(
        self,
        pin_id: str,
        data: bytes,
        *,
        version: int = 1,
        annotations: Sequence[str] = (),
        categories: Mapping[str, float] | None = None,
        buyable: bool = False,
        title: str | None = None,
        link: str = "",
    ) -> ObjectRecord:
        """Looks at a picture, stores it, and indexes the pin."""
        record = self._seen(pin_id, data)
        record.version, record.buyable, record.link = version, buyable, link
        record.title = record.title if title is None else title
        record.annotations.extend(annotations)
        record.category_weights.update(categories or {})
        self.index([record])
        return record

    def pins(self, pin_ids: Sequence[str], data: bytes, annotations: Sequence[str] = ()) -> None:
        """Many pins of one picture, which is looked at once."""
        first = self._seen(pin_ids[0], data)
        first.annotations.extend(annotations)
        records = []
        for n, pin_id in enumerate(pin_ids):
            record = ObjectRecord()
            record.CopyFrom(first)
            record.pin_id, record.title, record.recorded_at = pin_id, f"Title of {pin_id}", first.recorded_at + n
            records.append(record)
        self.index(records)

    def _seen(self, pin_id: str, data: bytes) -> ObjectRecord:
        picture = decode(data)
        seen = self.vision.see([picture])[0]
        return ObjectRecord(
            pin_id=pin_id,
            version=1,
            generation="g1",
            detector="ssd@1",
            embedder="colours@1",
            image_ref=self.pictures.put(picture.sha256, data),
            image_sha256=picture.sha256,
            image_width=picture.width,
            image_height=picture.height,
            codes=[Code(feature=FEATURE, bits=seen.code)],
            colours=[Colour(rgb=rgb, share=share) for rgb, share in seen.colours],
            objects=[
                DetectedObject(
                    index=index,
                    box=Box(x0=one.box[0], y0=one.box[1], x1=one.box[2], y1=one.box[3]),
                    label=one.label,
                    score=one.score,
                    source=DetectedObject.SOURCE_DETECTOR,
                    codes=[Code(feature=FEATURE, bits=one.code)],
                )
                for index, one in enumerate(seen.objects)
            ],
            board_id="board-1",
            title=f"Title of {pin_id}",
            event_time=NOW,
            recorded_at=NOW + sum(self.offsets.values()) + PARTITIONS + 20,
        )

    def delete(self, pin_id: str, version: int = 2) -> None:
        """Takes a pin out, as the takedown worker and the index do."""
        self.index([delete_record(pin_id, version, "g1", NOW)])

    def dots(
        self,
        record: ObjectRecord,
        *,
        shown: bool = True,
        decision: int = 1,
        after_ms: int = 84,
        witnesses: Sequence[str] = (),
    ) -> DotRecord:
        """Decides a dot for each object of a pin, as the dots worker would."""
        reasons = [Dot.REASON_SIGNALS] if shown else [Dot.REASON_LOW_SIMILARITY, Dot.REASON_LOW_CONFORMITY]
        decided = DotRecord(
            pin_id=record.pin_id,
            version=record.version,
            generation="g1",
            epoch=1,
            decision=decision,
            dots=[
                Dot(
                    object_index=item.index,
                    x=(item.box.x0 + item.box.x1) / 2,
                    y=(item.box.y0 + item.box.y1) / 2,
                    label=item.label,
                    shown=shown,
                    similarity=0.91,
                    annotation_score=2.5,
                    category_conformity=0.8,
                    reasons=reasons,
                )
                for item in record.objects
            ],
            witnesses=witnesses,
            watermark=self.offsets,
            decided_at=NOW + after_ms,
        )
        self.log.put(decided)
        return decided

    def close(self) -> None:
        """Closes what the app does not."""
        self.reader.close()
        for shard in self.shards.values():
            shard.close()

    def index(self, records: Sequence[ObjectRecord]) -> None:
        """Indexes records as they are."""
        logged: dict[int, list[LoggedRecord]] = {partition: [] for partition in self.shards}
        for record in records:
            key = record.pin_id.encode()
            partition = partition_of(key, PARTITIONS)
            self.offsets[partition] += 1
            logged[partition].append(LoggedRecord(self.offsets[partition], key, record, record.recorded_at))
        for partition, some in logged.items():
            if some:
                self.shards[partition].apply(some)
                self.shards[partition].sync()
