"""What the API is measured on: an index of 100,000 objects, with photographs among them, fed while it is asked.

The filler is synthetic: seeded codes around random centres, so that everything has neighbours, with annotations and
categories that follow the centres. Photographs go the real way: decoder, Triton's models, picture store, shard. One
process holds the shards and ingests; the API reads the same folders from another.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dotstream.clock import SystemClock
from indexer.arbitration import Logged
from indexer.partition import partition_of
from indexer.pictures import PictureStore
from indexer.reader import IndexReader
from indexer.records_pb2 import Box, Code, Colour, DetectedObject, Dot, DotRecord, ObjectRecord
from indexer.shard import Shard
from triton_models.pictures import Picture, decode
from triton_models.pipeline import Vision
from triton_models.seen import Seen

GENERATION = "bench"
PARTITIONS = 2
OBJECTS = 3
CENTRES = 400
WORDS = 300
CATEGORIES = 32
NOISE = 0.12
"""Share of a centre's bits that differ in each of its codes."""
LABELS = ("Chair", "Table", "Lamp", "Footwear", "Bottle", "Car")
BATCH = 500


def filler(number: int, bits: int, feature: str, seed: int = 0) -> Iterator[ObjectRecord]:
    """`number` synthetic pins with `OBJECTS` objects each."""
    random = np.random.default_rng(seed)
    centres = random.integers(0, 2, (CENTRES, bits), np.uint8)
    for start in range(0, number, BATCH):
        count = min(BATCH, number - start)
        owners = random.integers(0, CENTRES, (count, 1 + OBJECTS))
        noise = random.random((count, 1 + OBJECTS, bits)) < NOISE
        codes = np.packbits(centres[owners] ^ noise, axis=2)
        for at in range(count):
            yield _filled(start + at, owners[at].tolist(), codes[at], feature)


def _filled(number: int, owners: Sequence[int], codes: npt.NDArray[np.uint8], feature: str) -> ObjectRecord:
    return ObjectRecord(
        pin_id=f"filler-{number}",
        version=1,
        generation=GENERATION,
        image_ref=f"none/{number}",
        image_sha256=number.to_bytes(32, "big"),
        image_width=640,
        image_height=480,
        codes=[Code(feature=feature, bits=codes[0].tobytes())],
        objects=[
            DetectedObject(
                index=at,
                box=Box(x0=0.1 * at, y0=0.1, x1=0.1 * at + 0.5, y1=0.8),
                label=LABELS[owner % len(LABELS)],
                score=0.8,
                source=DetectedObject.SOURCE_DETECTOR,
                codes=[Code(feature=feature, bits=code.tobytes())],
            )
            for at, (owner, code) in enumerate(zip(owners[1:], codes[1:], strict=True))
        ],
        annotations=sorted({f"word{owner % WORDS}" for owner in owners} | {"filler"}),
        category_weights={f"category{owners[0] % CATEGORIES}": 1.0},
        title=f"Filler {number} of word{owners[1] % WORDS}",
        buyable=number % 5 == 0,
        recorded_at=number + 1,
    )


class Writer:
    """Holds the shards and the picture store, and applies what it is given."""

    def __init__(self, data: Path, bits: int, feature: str) -> None:
        self.feature = feature
        self.home = data / "index" / GENERATION
        self.pictures = PictureStore((data / "pictures").as_uri())
        self._offsets = dict.fromkeys(range(PARTITIONS), -1)
        self._shards = {
            number: Shard.open(
                self.home / str(number),
                generation=GENERATION,
                partition=number,
                topic_id="bench",
                feature=feature,
                bits=bits,
                clock=SystemClock(),
            )
            for number in range(PARTITIONS)
        }

    def apply(self, records: Sequence[ObjectRecord]) -> None:
        """Commits records as the index worker does."""
        batches: dict[int, list[Logged]] = {}
        for record in records:
            key = record.pin_id.encode()
            number = partition_of(key, PARTITIONS)
            self._offsets[number] += 1
            batches.setdefault(number, []).append(Logged(self._offsets[number], key, record, record.recorded_at))
        for number, batch in batches.items():
            self._shards[number].apply(batch)
            self._shards[number].maybe_sync()

    def photograph(self, pin_id: str, data: bytes, vision: Vision) -> ObjectRecord:
        """A picture on the real way: decoded, seen by Triton's models, stored, indexed."""
        picture = decode(data)
        record = self._record(pin_id, picture, vision.see([picture])[0], self.pictures.put(picture.sha256, data))
        self.apply([record])
        return record

    def _record(self, pin_id: str, picture: Picture, seen: Seen, ref: str) -> ObjectRecord:
        return ObjectRecord(
            pin_id=pin_id,
            version=1,
            generation=GENERATION,
            image_ref=ref,
            image_sha256=picture.sha256,
            image_width=picture.width,
            image_height=picture.height,
            codes=[Code(feature=self.feature, bits=seen.code)],
            colours=[Colour(rgb=rgb, share=share) for rgb, share in seen.colours],
            objects=[
                DetectedObject(
                    index=at,
                    box=Box(x0=one.box[0], y0=one.box[1], x1=one.box[2], y1=one.box[3]),
                    label=one.label,
                    score=one.score,
                    source=DetectedObject.SOURCE_DETECTOR,
                    codes=[Code(feature=self.feature, bits=one.code)],
                )
                for at, one in enumerate(seen.objects)
            ],
            annotations=["photograph", pin_id.split("-", maxsplit=1)[0]],
            category_weights={"category1": 1.0},
            title=f"Photograph {pin_id}",
            recorded_at=time.time_ns() // 1_000_000,
        )

    def reader(self, name: str) -> IndexReader:
        """A reader of the same index."""
        return IndexReader(self.home, PARTITIONS, clock=SystemClock(), lease_s=5.0, name=name)

    def close(self) -> None:
        """Syncs and closes the shards."""
        for shard in self._shards.values():
            shard.close()


def dots_of(record: ObjectRecord, watermark: Mapping[int, int]) -> DotRecord:
    """Shown dots for each object, so that there is something to answer."""
    dots = [
        Dot(
            object_index=item.index,
            x=(item.box.x0 + item.box.x1) / 2,
            y=(item.box.y0 + item.box.y1) / 2,
            label=item.label,
            shown=True,
            similarity=0.8,
            annotation_score=1.0,
            category_conformity=0.8,
            reasons=[Dot.REASON_SIGNALS],
        )
        for item in record.objects
    ]
    return DotRecord(
        pin_id=record.pin_id, version=1, generation=GENERATION, epoch=1, decision=1, dots=dots, watermark=watermark
    )
