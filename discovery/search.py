"""Flashlight and object search: from a question (pin and object or box, or a picture) to similar things in other pins.

Flashlight (section 7 of the paper) answers with what looks alike, whole pictures and objects together; object search
(section 8) answers with the scenes that hold a similar object, and only when the query holds one. A known object is
searched by its stored code without inference; a box is cut from the stored picture and embedded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

from discovery import boxes
from discovery.errors import Problem, deleted_pin, unknown_pin
from discovery.ports import Box, Eyes, Hit, Hits, Index, Pictures, SeenObject
from indexer.records_pb2 import DetectedObject, ObjectRecord
from indexer.search import Scope
from indexer.signals import by_pin, related_annotations

Kind = Literal["flashlight", "objects"]
SCOPES: Mapping[Kind, Scope] = {"flashlight": "all", "objects": "objects"}
MAX_K = 100
MAX_ANNOTATIONS = 12
_FETCH_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class Query:
    """What was searched.

    Attributes:
        pin_id: of the pin that the query lies on; None for an uploaded picture.
        object_index: of a known object.
        box: of the object or the drawn box; None for the whole picture.
        label: of the object.
        objects: found in an uploaded picture, most certain first.
        inference: whether Triton was asked.
    """

    pin_id: str | None
    object_index: int | None
    box: Box | None
    label: str | None
    objects: Sequence[SeenObject] | None
    inference: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """Results, nearest first and one for each pin; annotations with tf-idf scores; and what it all reflects."""

    query: Query
    results: Sequence[Hit]
    annotations: Sequence[tuple[str, float]]
    generation: str
    watermark: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class _Code:
    """A query that has become a code; None: there is nothing to search."""

    query: Query
    code: bytes | None
    exclude_pins: frozenset[str] = frozenset()
    exclude_sha256: frozenset[bytes] = frozenset()


def _untimed(stage: str) -> AbstractContextManager[object]:
    _ = stage
    return nullcontext()


class Search:
    """Answers questions over index, picture store and models. Thread-safe when they are.

    Args:
        limit_s: of one scan of the index.
        timed: a context manager for a stage's time: look, scan, annotate.
    """

    def __init__(
        self,
        index: Index,
        pictures: Pictures,
        eyes: Eyes,
        *,
        limit_s: float = 2.0,
        timed: Callable[[str], AbstractContextManager[object]] = _untimed,
    ) -> None:
        self._index = index
        self._pictures = pictures
        self._eyes = eyes
        self._limit_s = limit_s
        self._timed = timed

    def by_pin(self, kind: Kind, pin_id: str, object_index: int | None, box: Box | None, k: int) -> Answer:
        """Searches from a pin: a known object, a drawn box, or (neither) its dominant object or whole picture.

        The pin itself and identical pictures are left out.

        Raises:
            Problem: unknown-pin, deleted-pin, unknown-object, bad-field.
            Poison: the stored picture cannot be decoded. Retryable: index, store or Triton are away.
        """
        self._index.refresh()
        record = self._live(pin_id)
        if object_index is not None and box is not None:
            raise Problem("bad-field", "give object_index or box, not both")
        if box is not None:
            query = self._drawn(record, box)
        elif object_index is not None:
            query = _known(record, _object(record, object_index))
        else:
            query = _whole_or_dominant(kind, record)
        return self._answer(kind, query, k)

    def by_picture(self, kind: Kind, picture: bytes, box: Box | None, k: int) -> Answer:
        """Searches by an uploaded picture: the drawn box, else its dominant object, else as `kind` has it.

        Without a dominant object Flashlight takes the whole picture, object search the most certain object.

        Raises:
            Poison: `picture_*`. Retryable: index or Triton are away.
        """
        self._index.refresh()
        with self._timed("look"):
            if box is not None:
                code, query = self._eyes.look(picture, box), Query(None, None, box, None, None, True)
                return self._answer(kind, _Code(query, code), k)
            sight = self._eyes.see(picture)
        at = boxes.dominant([(seen.box, seen.score) for seen in sight.objects])
        if at is None and kind == "objects" and sight.objects:
            at = 0
        if at is not None:
            seen = sight.objects[at]
            found = _Code(Query(None, None, seen.box, seen.label, sight.objects, True), seen.code)
        else:
            whole = Query(None, None, None, None, sight.objects, True)
            found = _Code(whole, sight.code if kind == "flashlight" else None)
        return self._answer(kind, found, k)

    def _live(self, pin_id: str) -> ObjectRecord:
        found = self._index.pin(pin_id)
        if found is None:
            raise unknown_pin(pin_id)
        if found.record.deleted:
            raise deleted_pin(pin_id)
        return found.record

    def _drawn(self, record: ObjectRecord, box: Box) -> _Code:
        with self._timed("look"):
            code = self._eyes.look(self._pictures.get(record.image_ref), box)
        return _of_pin(record, Query(record.pin_id, None, box, None, None, True), code)

    def _answer(self, kind: Kind, asked: _Code, k: int) -> Answer:
        if asked.code is None:
            return Answer(asked.query, (), (), self._index.generation, self._index.refresh())
        with self._timed("scan"):
            found, results = self._nearest_pins(kind, asked, asked.code, k)
        with self._timed("annotate"):
            annotations = related_annotations(results, self._index.document_frequency, MAX_ANNOTATIONS)
        return Answer(asked.query, results, annotations, self._index.generation, found.watermark)

    def _nearest_pins(self, kind: Kind, asked: _Code, code: bytes, k: int) -> tuple[Hits, list[Hit]]:
        """The best code of each of the k nearest pins: fetches more codes until that many pins are among them."""
        fetch = min(_FETCH_LIMIT, 3 * k + 8)
        while True:
            found = self._index.search(
                code,
                fetch,
                scope=SCOPES[kind],
                exclude_pins=asked.exclude_pins,
                exclude_sha256=asked.exclude_sha256,
                limit_s=self._limit_s,
            )
            best = by_pin(found.hits)
            if len(best) >= k or len(found.hits) < fetch or fetch >= _FETCH_LIMIT:
                return found, best[:k]
            fetch = min(_FETCH_LIMIT, fetch * 4)


def _whole_or_dominant(kind: Kind, record: ObjectRecord) -> _Code:
    if kind == "flashlight":
        return _of_pin(record, Query(record.pin_id, None, None, None, None, False), record.codes[0].bits)
    at = boxes.dominant([(boxes.of_message(item.box), item.score) for item in record.objects])
    if at is None and record.objects:
        at = max(range(len(record.objects)), key=lambda i: record.objects[i].score)
    if at is None:
        return _of_pin(record, Query(record.pin_id, None, None, None, None, False), None)
    return _known(record, record.objects[at])


def _known(record: ObjectRecord, item: DetectedObject) -> _Code:
    query = Query(record.pin_id, item.index, boxes.of_message(item.box), item.label, None, False)
    return _of_pin(record, query, item.codes[0].bits)


def _of_pin(record: ObjectRecord, query: Query, code: bytes | None) -> _Code:
    return _Code(query, code, frozenset((record.pin_id,)), frozenset((record.image_sha256,)))


def _object(record: ObjectRecord, index: int) -> DetectedObject:
    for item in record.objects:
        if item.index == index:
            return item
    known = ", ".join(str(item.index) for item in record.objects) or "none"
    raise Problem("unknown-object", f"the pin has no object {index}; it has {known}", {"pin_id": record.pin_id})
