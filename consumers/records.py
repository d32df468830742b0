"""From an event and what was seen in its picture to the output that carries its `ObjectRecord`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consumers.ports import Headers, Message, Output
from dotstream.clock import Clock
from dotstream.errors import Poison
from indexer.records import delete_record, encode
from indexer.records_pb2 import Box, Code, Colour, DetectedObject, ObjectRecord
from producers.events_pb2 import PinEvent
from producers.headers import child_traceparent, event_headers, read_traceparent
from triton_models.seen import Seen

MAX_RECORD_BYTES = 960 << 10
"""What a record may have within the topic's 1 MiB, its key and headers left aside."""
RECORD_TYPE = "dotstream.records.v1.ObjectRecord"


@dataclass(frozen=True, slots=True)
class Look:
    """What the vision pipeline made of one picture, with the picture's size in upright pixels."""

    width: int
    height: int
    seen: Seen


class RecordWriter:
    """Builds the records of one generation.

    Args:
        topic: `objects.<generation>`.
        detector, embedder: "name@version" of the served models.
        features: names of the codes: the searched one, as the index knows it, then the extra ones.
    """

    def __init__(
        self,
        *,
        topic: str,
        generation: str,
        detector: str,
        embedder: str,
        features: Sequence[str],
        source: str,
        clock: Clock,
    ) -> None:
        self._topic = topic
        self._generation = generation
        self._detector = detector
        self._embedder = embedder
        self._features = tuple(features)
        self._source = source
        self._clock = clock

    def deleted(self, event: PinEvent, message: Message) -> Output:
        """The delete record of an event of kind deleted: a function of the event, whichever worker writes it."""
        record = delete_record(event.pin_id, event.version, self._generation, event.event_time)
        return self._output(record, message.headers)

    def live(self, event: PinEvent, look: Look, *, ref: str, sha256: bytes, message: Message) -> Output:
        """The record of a live pin, revision 0.

        Raises:
            Poison: record_too_large, its topic would refuse it.
        """
        seen = look.seen
        record = ObjectRecord(
            pin_id=event.pin_id,
            version=event.version,
            generation=self._generation,
            detector=self._detector,
            embedder=self._embedder,
            image_ref=ref,
            image_sha256=sha256,
            image_width=look.width,
            image_height=look.height,
            codes=self.codes((seen.code, *seen.extra)),
            objects=[self._object(number, seen) for number in range(len(seen.objects))],
            colours=[Colour(rgb=rgb, share=share) for rgb, share in seen.colours],
            board_id=event.board_id,
            title=event.title,
            annotations=event.annotations,
            category_weights=dict(event.category_weights),
            buyable=event.buyable,
            link=event.link,
            event_time=event.event_time,
            recorded_at=self._clock.now_ms(),
        )
        return self._output(record, message.headers)

    def codes(self, bits: Sequence[bytes]) -> list[Code]:
        """The codes of one picture or object under their features' names, the searched one first."""
        return [Code(feature=name, bits=code) for name, code in zip(self._features, bits, strict=True)]

    def again(self, record: ObjectRecord) -> Output:
        """A record that takes the place of one with a smaller revision.

        Raises:
            Poison: record_too_large.
        """
        return self._output(record, ())

    def _object(self, number: int, seen: Seen) -> DetectedObject:
        found = seen.objects[number]
        x0, y0, x1, y1 = found.box
        return DetectedObject(
            index=number,
            box=Box(x0=x0, y0=y0, x1=x1, y1=y1),
            label=found.label,
            score=found.score,
            source=DetectedObject.SOURCE_DETECTOR,
            codes=self.codes((found.code, *found.extra)),
        )

    def _output(self, record: ObjectRecord, of_message: Headers) -> Output:
        headers = event_headers(
            kind="deleted" if record.deleted else "updated",
            event_id=f"{record.generation}/{record.pin_id}/{record.version}/{record.revision}",
            source=self._source,
            type=RECORD_TYPE,
            time_ms=record.recorded_at,
            traceparent=child_traceparent(read_traceparent(of_message)),
            subject=record.pin_id,
        )
        value = encode(record)
        if len(value) > MAX_RECORD_BYTES:
            raise Poison("record_too_large", f"the record has {len(value)} bytes, {MAX_RECORD_BYTES} at most")
        return Output(self._topic, record.pin_id.encode(), value, tuple(headers))
