"""What the API is measured on: an index of 100,000 objects, with photographs among them, fed while it is asked.

The filler is synthetic: seeded codes around random centres, so that everything has neighbours, with annotations and
categories that follow the centres. Photographs go the real way (ops/private_index.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from indexer.records_pb2 import Box, Code, DetectedObject, Dot, DotRecord, ObjectRecord
from ops.private_index import GENERATION

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
