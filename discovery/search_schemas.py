"""From answers to the JSON of a search, for Flashlight, object search and Lens."""

from __future__ import annotations

from discovery.boxes import of_message
from discovery.rerank import Ranked
from discovery.schemas import AnnotationJson, AnswerJson, QueryJson, QueryObjectJson, ResultJson
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


def of_query(query: Query) -> QueryJson:
    """What was searched."""
    seen = query.objects
    return QueryJson(
        pin_id=query.pin_id,
        object_index=query.object_index,
        box=query.box,
        label=query.label,
        objects=None
        if seen is None
        else [QueryObjectJson(box=one.box, label=one.label, score=one.score) for one in seen],
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
