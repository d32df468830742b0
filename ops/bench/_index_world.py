"""Records for `dotstream bench index`: pins with a whole picture and three objects, as the vision worker logs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dotstream.clock import SystemClock
from indexer.answers import Query
from indexer.arbitration import Logged
from indexer.records_pb2 import Box, Code, DetectedObject, ObjectRecord
from indexer.shard import Shard

Codes = npt.NDArray[np.uint8]

BITS = 4096
OBJECTS = 3
CODES = OBJECTS + 1
FEATURE = "bench@1/codes"
GENERATION = "g1"
_LABELS = ("Chair", "Lamp", "Table", "Footwear", "Bottle", "Person", "Cat", "Car")
_WORDS = ("oak", "linen", "vintage", "garden", "blue", "kitchen", "summer", "marble", "loft", "wool")


def records(pins: int, *, start: int = 0, first: int = 0, every: int = 1, version: int = 1) -> Iterator[Logged]:
    """Logged records of pins `first`, `first + every`, ..., at offsets from `start` on."""
    rng = np.random.default_rng([start, version])
    for at in range(0, pins, 1000):
        n = min(1000, pins - at)
        codes = rng.integers(0, 256, (n, CODES, BITS // 8), np.uint8)
        for row in range(n):
            yield _logged(start + at + row, first + (at + row) * every, version, codes[row])


def _logged(offset: int, pin: int, version: int, codes: Codes) -> Logged:
    record = ObjectRecord(
        pin_id=f"pin-{pin:012d}",
        version=version,
        generation=GENERATION,
        detector="ssd-mobilenet@1",
        embedder="bench@1",
        image_ref=f"pictures/{pin:064x}",
        image_sha256=codes[0, :32].tobytes(),
        image_width=640,
        image_height=480,
        codes=[Code(feature=FEATURE, bits=codes[0].tobytes())],
        objects=[
            DetectedObject(
                index=n,
                box=Box(x0=0.1, y0=0.2, x1=0.6, y1=0.7),
                label=_LABELS[(pin + n) % len(_LABELS)],
                score=0.5,
                source=DetectedObject.SOURCE_DETECTOR,
                codes=[Code(feature=FEATURE, bits=code.tobytes())],
            )
            for n, code in enumerate(codes[1:])
        ],
        board_id=f"board-{pin % 5000}",
        title=f"{_WORDS[pin % 10]} {_WORDS[pin // 10 % 10]}",
        annotations=[_WORDS[(pin + n) % 10] for n in range(3)],
        category_weights={"home_decor": 0.75},
        buyable=pin % 4 == 0,
        event_time=1_700_000_000_000 + offset,
        recorded_at=1_700_000_000_000 + offset,
    )
    return Logged(offset, record.pin_id.encode(), record, 1_700_000_000_000 + offset)


def open_shard(generation: Path, partition: int = 0) -> Shard:
    """The shard of the benchmark in a generation's folder."""
    return Shard.open(
        generation / str(partition),
        generation=GENERATION,
        partition=partition,
        topic_id="bench",
        feature=FEATURE,
        bits=BITS,
        clock=SystemClock(),
    )


class Ours:
    """A shard as a store of codes, to stand beside the peers of `ops.bench._index_peers`: a pin for each code."""

    def __init__(self, folder: Path, width: int) -> None:
        assert width * 8 == BITS  # noqa: S101  the shard's width is the benchmark's
        self._shard = open_shard(folder / GENERATION)
        self._count = 0

    def add(self, codes: Codes) -> None:
        """Appends uint8 [n, bytes]; durable when it returns."""
        numbers = range(self._count, self._count + len(codes))
        self._shard.apply([_logged(n, n, 1, code[None]) for n, code in zip(numbers, codes, strict=True)])
        self._shard.sync()
        self._count += len(codes)

    def nearest(self, code: Codes, k: int) -> list[int]:
        """Numbers of the k nearest to uint8 [bytes]."""
        return [int(hit.pin_id.removeprefix("pin-")) for hit in self._shard.search(Query(code.tobytes(), k)).hits]
