"""From a question to its subject: the code that is searched and what is known of the thing it belongs to.

A known object is searched by its stored code without inference; a box is cut from the picture and embedded. A drawn
box that lies on a known object keeps its own code, but what people did with that object, and the products that experts
attached to it, count for it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from discovery import boxes
from discovery.crops import Crops
from discovery.errors import Problem, deleted_pin, unknown_pin
from discovery.ports import Box, Index, Pictures, SeenObject, Sight
from indexer.records_pb2 import DetectedObject, ObjectRecord

Kind = Literal["flashlight", "objects"]
SAME_OBJECT_IOU = 0.7
"""A drawn box that overlaps a known object so much is taken to mean that object."""


@dataclass(frozen=True, slots=True)
class Query:
    """What was searched.

    Attributes:
        pin_id: of the pin that the query lies on; None for an uploaded picture.
        object_index: of a known object.
        box: of the object or the drawn box; None for the whole picture.
        label: of the object.
        objects: found in an uploaded picture, most certain first.
        inference: whether the code had to be computed, now or a moment ago.
        on_object: index of the known object that a drawn box means.
    """

    pin_id: str | None
    object_index: int | None
    box: Box | None
    label: str | None
    objects: Sequence[SeenObject] | None
    inference: bool
    on_object: int | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """A query that has become a code.

    Attributes:
        query: what is answered about it.
        code: what is searched; None when there is nothing to search.
        record: of the query's pin; None for an uploaded picture.
        known_object: index of the pin's object that the query is, or that its box lies on.
    """

    query: Query
    code: bytes | None
    record: ObjectRecord | None = None
    known_object: int | None = None

    @property
    def exclude_pins(self) -> frozenset[str]:
        """The pin itself."""
        return frozenset() if self.record is None else frozenset((self.record.pin_id,))

    @property
    def exclude_sha256(self) -> frozenset[bytes]:
        """The pin's picture, under whatever pin."""
        return frozenset() if self.record is None else frozenset((self.record.image_sha256,))


class Subjects:
    """Finds subjects in index, picture store and query pictures. Thread-safe when they are.

    Args:
        timed: a context manager for a stage's time.
    """

    def __init__(
        self,
        index: Index,
        pictures: Pictures,
        crops: Crops,
        timed: Callable[[str], AbstractContextManager[object]],
    ) -> None:
        self._index = index
        self._pictures = pictures
        self._crops = crops
        self._timed = timed

    def live(self, pin_id: str) -> ObjectRecord:
        """The pin's record.

        Raises:
            Problem: unknown-pin, deleted-pin.
        """
        found = self._index.pin(pin_id)
        if found is None:
            raise unknown_pin(pin_id)
        if found.record.deleted:
            raise deleted_pin(pin_id)
        return found.record

    def of_pin(self, kind: Kind, pin_id: str, object_index: int | None, box: Box | None) -> Subject:
        """A pin's known object, a drawn box, or (neither) as `kind` has it.

        Raises:
            Problem: unknown-pin, deleted-pin, unknown-object, bad-field.
            Poison: the stored picture cannot be decoded. Retryable: index, store or Triton are away.
        """
        record = self.live(pin_id)
        if object_index is not None and box is not None:
            raise Problem("bad-field", "give object_index or box, not both")
        if box is not None:
            return self._drawn(record, box)
        if object_index is not None:
            return _known(record, _object(record, object_index))
        return _whole_or_dominant(kind, record)

    def of_picture(self, kind: Kind, picture: bytes, box: Box | None) -> Subject:
        """A box of an uploaded picture, else its dominant object, else as `kind` has it.

        Raises:
            Poison: `picture_*`. Retryable: Triton is away.
        """
        with self._timed("look"):
            if box is not None:
                return Subject(Query(None, None, box, None, None, True), self._crops.of_upload(picture, box))
            sight = self._crops.sight(picture)
        return seen_subject(kind, sight)

    def _drawn(self, record: ObjectRecord, box: Box) -> Subject:
        with self._timed("look"):
            code = self._crops.of_pin(record.image_sha256, lambda: self._pictures.get(record.image_ref), box)
        under = object_under(record, box)
        return Subject(Query(record.pin_id, None, box, None, None, True, under), code, record, under)


def seen_subject(kind: Kind, sight: Sight) -> Subject:
    """What of a picture that was looked at is searched: its dominant object; without one Flashlight takes the whole
    picture, object search the most certain object.
    """
    at = boxes.dominant([(seen.box, seen.score) for seen in sight.objects])
    if at is None and kind == "objects" and sight.objects:
        at = 0
    if at is not None:
        seen = sight.objects[at]
        return Subject(Query(None, None, seen.box, seen.label, sight.objects, True), seen.code)
    whole = Query(None, None, None, None, sight.objects, True)
    return Subject(whole, sight.code if kind == "flashlight" else None)


def object_under(record: ObjectRecord, box: Box) -> int | None:
    """The known object that a drawn box means, if any."""
    overlaps = [(boxes.overlap(boxes.of_message(item.box), box), item.index) for item in record.objects]
    best = max(overlaps, default=(0.0, -1))
    return best[1] if best[0] >= SAME_OBJECT_IOU else None


def _whole_or_dominant(kind: Kind, record: ObjectRecord) -> Subject:
    whole = Query(record.pin_id, None, None, None, None, False)
    if kind == "flashlight":
        return Subject(whole, record.codes[0].bits, record)
    at = boxes.dominant([(boxes.of_message(item.box), item.score) for item in record.objects])
    if at is None and record.objects:
        at = max(range(len(record.objects)), key=lambda i: record.objects[i].score)
    return Subject(whole, None, record) if at is None else _known(record, record.objects[at])


def _known(record: ObjectRecord, item: DetectedObject) -> Subject:
    query = Query(record.pin_id, item.index, boxes.of_message(item.box), item.label, None, False)
    return Subject(query, item.codes[0].bits, record, item.index)


def _object(record: ObjectRecord, index: int) -> DetectedObject:
    for item in record.objects:
        if item.index == index:
            return item
    known = ", ".join(str(item.index) for item in record.objects) or "none"
    raise Problem("unknown-object", f"the pin has no object {index}; it has {known}", {"pin_id": record.pin_id})
