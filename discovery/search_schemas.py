"""From answers to the JSON of a search, for Flashlight, object search and Lens."""

from __future__ import annotations

from discovery.boxes import of_message
from discovery.lens import LensAnswer
from discovery.ports import SeenObject
from discovery.rerank import Ranked
from discovery.schemas import (
    AnnotationJson,
    AnswerJson,
    GuessJson,
    LensJson,
    LensResultJson,
    QueryJson,
    QueryObjectJson,
    ResultJson,
    SourceJson,
    UnderstandingJson,
    of_colour,
)
from discovery.search import Answer
from discovery.subjects import Query

WHOLE = (0.0, 0.0, 1.0, 1.0)


def of_answer(answer: Answer, indexed_up_to: str) -> AnswerJson:
    """The answer to a search."""
    return AnswerJson(
        results=[of_ranked(one) for one in answer.results],
        annotations=[AnnotationJson(annotation=name, score=score) for name, score in answer.annotations],
        indexed_up_to=indexed_up_to,
        query=of_query(answer.query),
        partial=answer.partial,
    )


def of_lens(answer: LensAnswer, indexed_up_to: str) -> LensJson:
    """The answer of Lens."""
    known = answer.known
    return LensJson(
        results=[LensResultJson(source=one.source, **of_ranked(one.ranked).model_dump()) for one in answer.results],
        understanding=UnderstandingJson(
            annotations=[
                GuessJson(annotation=one.annotation, confidence=one.confidence, score=one.score)
                for one in known.annotations
            ],
            objects=[_seen(one) for one in known.sight.objects],
            dominant_object=known.dominant,
            colours=[of_colour(rgb, share) for rgb, share in known.sight.colours],
            categories=dict(known.categories),
        ),
        sources=[
            SourceJson(source=one.source, state=one.state, ratio=one.ratio, reason=one.reason) for one in answer.sources
        ],
        indexed_up_to=indexed_up_to,
        partial=answer.partial,
    )


def _seen(one: SeenObject) -> QueryObjectJson:
    return QueryObjectJson(box=one.box, label=one.label, score=one.score)


def of_query(query: Query) -> QueryJson:
    """What was searched."""
    seen = query.objects
    return QueryJson(
        pin_id=query.pin_id,
        object_index=query.object_index,
        box=query.box,
        on_object=query.on_object,
        label=query.label,
        objects=None if seen is None else [_seen(one) for one in seen],
        inference=query.inference,
    )


def of_ranked(one: Ranked) -> ResultJson:
    """One result."""
    hit, record = one.hit, one.hit.record
    item = next((item for item in record.objects if item.index == hit.object_index), None)
    return ResultJson(
        pin_id=hit.pin_id,
        object_index=None if item is None else item.index,
        box=WHOLE if item is None else of_message(item.box),
        label=None if item is None else item.label,
        distance=hit.distance,
        similarity=hit.similarity,
        score=one.score,
        engagement=one.engagement,
        curated=one.curated,
        duplicates=list(one.duplicates),
        title=record.title,
        annotations=list(record.annotations),
        buyable=record.buyable,
        link=record.link,
        image_width=record.image_width,
        image_height=record.image_height,
    )
