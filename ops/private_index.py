"""An index of one's own, filled without a broker: for benchmarks and evaluations.

Pictures go the real way: guarded decoder, Triton's models, picture store, shard. One process holds the shards; others
may read the same folders.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dotstream.clock import SystemClock
from indexer.arbitration import Logged
from indexer.partition import partition_of
from indexer.pictures import PictureStore
from indexer.reader import IndexReader
from indexer.records_pb2 import Box, Code, Colour, DetectedObject, ObjectRecord
from indexer.shard import Shard
from ops.commands.options import say, settings_of
from ops.settings import Settings
from triton_models.pictures import Picture, decode
from triton_models.pipeline import Vision
from triton_models.seen import Seen

GENERATION = "private"
PARTITIONS = 2
READY_LIMIT_S = 120.0


def private_settings(data: Path, triton: str = "") -> Settings:
    """The command's settings over such an index; `triton` is an address or empty."""
    return settings_of(data=data, api__port=0, triton__address=triton or None).settings


@contextmanager
def private_triton(data: Path) -> Iterator[str]:
    """The address of a Triton server of one's own with the exported models; it ends with the `with`.

    Raises:
        Unavailable, Misconfigured: it does not start; the message says why.
    """
    from ops.local.triton import ensure_environment, start
    from triton_models.export import export

    settings = private_settings(data)
    export(settings.repository_folder, settings.cache_folder)
    environment = ensure_environment(settings.cache_folder, say)
    triton = start(environment, settings.repository_folder, data / "triton")
    try:
        triton.wait_ready(READY_LIMIT_S)
        yield triton.address
    finally:
        triton.kill()


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

    def photograph(
        self,
        pin_id: str,
        data: bytes,
        vision: Vision,
        *,
        annotations: Sequence[str] = (),
        categories: Mapping[str, float] | None = None,
    ) -> ObjectRecord:
        """A picture on the real way: decoded, seen by Triton's models, stored, indexed."""
        picture = decode(data)
        record = self._record(pin_id, picture, vision.see([picture])[0], self.pictures.put(picture.sha256, data))
        record.annotations.extend(annotations)
        record.category_weights.update(categories or {})
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
            recorded_at=time.time_ns() // 1_000_000,
        )

    def reader(self, name: str, *, lease_s: float = 5.0) -> IndexReader:
        """A reader of the same index."""
        return IndexReader(self.home, PARTITIONS, clock=SystemClock(), lease_s=lease_s, name=name)

    def close(self) -> None:
        """Syncs and closes the shards."""
        for shard in self._shards.values():
            shard.close()
