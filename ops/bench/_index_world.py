"""Records for `dotstream bench index`: pins with a whole picture and three objects, as the vision worker logs them."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dotstream.clock import Clock, SystemClock
from indexer.answers import Query
from indexer.arbitration import Logged
from indexer.crew import ALONE, Crew
from indexer.records_pb2 import Box, Code, DetectedObject, ObjectRecord
from indexer.shard import DEFAULT_SEGMENT_SLOTS, Shard

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
        image_sha256=sha256(codes[0]).digest(),
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


def open_shard(
    generation: Path, partition: int = 0, segment_slots: int = DEFAULT_SEGMENT_SLOTS, clock: Clock | None = None
) -> Shard:
    """The shard of the benchmark in a generation's folder."""
    return Shard.open(
        generation / str(partition),
        generation=GENERATION,
        partition=partition,
        topic_id="bench",
        feature=FEATURE,
        bits=BITS,
        clock=clock or SystemClock(),
        segment_slots=segment_slots,
    )


class Ours:
    """A shard as a store of codes, to stand beside the peers of `ops.bench._index_peers`.

    Args:
        folder: empty.
        width: bytes of a code.
        codes_a_pin: up to `CODES`, the whole picture's first.
        threads: that share one search.
    """

    def __init__(self, folder: Path, width: int, codes_a_pin: int = 1, threads: int = 1) -> None:
        assert width * 8 == BITS  # noqa: S101  the shard's width is the benchmark's
        self._shard = open_shard(folder / GENERATION)
        self._crew = Crew(threads)
        self._codes_a_pin = codes_a_pin
        self._first = [0]

    def rows(self, codes: Codes) -> list[Logged]:
        """Decoded records with these codes, uint8 [n, bytes]."""
        rows = []
        for at in range(0, len(codes), self._codes_a_pin):
            some = codes[at : at + self._codes_a_pin]
            pin = len(self._first) - 1
            rows.append(_logged(pin, pin, 1, some))
            self._first.append(self._first[-1] + len(some))
        return rows

    def add(self, rows: list[Logged], *, durable: bool = True) -> None:
        """Applies records; without waiting for the disk they are durable with the next group sync."""
        self._shard.apply(rows)
        if durable:
            self._shard.sync()

    def nearest(self, code: Codes, k: int) -> list[int]:
        """Numbers of the k nearest to uint8 [bytes]."""
        return self._nearest(code, k, self._crew)

    def nearest_alone(self, code: Codes, k: int) -> list[int]:
        """The same on one thread."""
        return self._nearest(code, k, ALONE)

    def close(self) -> None:
        """Closes the shard."""
        self._crew.close()
        self._shard.close()

    def _nearest(self, code: Codes, k: int, crew: Crew) -> list[int]:
        hits = self._shard.search_many([Query(code.tobytes(), k)], crew)[0].hits
        return [self._first[int(hit.pin_id.removeprefix("pin-"))] + _nth(hit.object_index) for hit in hits]


def _nth(object_index: int | None) -> int:
    return 0 if object_index is None else object_index + 1
