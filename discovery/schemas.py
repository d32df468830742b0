"""The JSON of the API: the messages' field names, int64 as strings, sha256 in hex, boxes as four numbers.

`of_*` turn protobuf records into these models; FastAPI writes OpenAPI from them. Members without a value are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from discovery import boxes
from discovery.lineage import scores_of
from discovery.ports import Box
from indexer.records_pb2 import DetectedObject, Dot, DotRecord, ObjectRecord

Int64 = Annotated[str, Field(pattern=r"^-?\d{1,19}$", description="int64 as decimal text", examples=["1700000000000"])]
Share = Annotated[float, Field(ge=0, le=1)]
BoxJson = Annotated[Box, Field(description="x0, y0, x1, y1 in 0..1 of the upright picture, origin at top left")]


class Model(BaseModel):
    """A JSON object of an answer."""

    model_config = ConfigDict(frozen=True)


class ObjectJson(Model):
    """A detected object of a pin."""

    index: int
    box: BoxJson
    label: str
    score: float
    source: str = Field(description="detector | crops")


class ColourJson(Model):
    """A salient colour."""

    rgb: str = Field(description="#rrggbb")
    share: Share


class PinJson(Model):
    """A pin as its newest object record tells it, without codes. Times are Unix milliseconds."""

    pin_id: str
    version: Int64
    revision: int
    generation: str
    detector: str
    embedder: str
    image_ref: str
    image_sha256: str
    image_width: int
    image_height: int
    objects: list[ObjectJson]
    colours: list[ColourJson]
    board_id: str
    title: str
    annotations: list[str]
    category_weights: dict[str, float]
    buyable: bool
    link: str
    event_time: Int64
    recorded_at: Int64


class DotJson(Model):
    """A dot: the centre of an object's box, and whether and why it is shown."""

    object_index: int
    x: float
    y: float
    label: str
    shown: bool
    score: float | None = Field(None, description="the detector's, of the object")
    similarity: float = Field(description="1 - distance / bits of the most similar object")
    annotation_score: float = Field(description="the top tf-idf score among the results' annotations")
    category_conformity: float = Field(description="largest share of one category among the results")
    reasons: list[str] = Field(
        description="signals | cold_start when shown, else low_score, low_similarity, low_annotation, low_conformity"
    )


class DotsJson(Model):
    """The dots of a pin, as they were last decided.

    Other pins that the decision rests on are left out: one of them may have been deleted since.
    """

    pin_id: str
    version: Int64
    generation: str
    epoch: Int64
    decision: int
    dots: list[DotJson]
    watermark: dict[str, Int64]
    decided_at: Int64


class CardJson(Model):
    """A pin with its dots, once it has some."""

    pin: PinJson
    dots: DotsJson | None = None


class PageJson(Model):
    """Pins, newest first. `next` is the `before` of the page behind this one."""

    pins: list[CardJson]
    next: str | None = None
    indexed_up_to: str


class ResultJson(Model):
    """One result: the pin, and what in it is like the query. Without object_index it is the whole picture."""

    pin_id: str
    object_index: int | None = None
    box: BoxJson
    label: str | None = None
    distance: int = Field(description="Hamming distance, bits")
    similarity: Share = Field(description="1 - distance / bits")
    score: float = Field(description="what results are ordered by: similarity and the parts that re-ranking adds")
    engagement: Share = Field(0.0, description="of this result for this query object, saturated")
    curated: bool = Field(False, description="an expert attached it to the query")
    duplicates: list[str] = Field(default=[], description="pins with nearly the same picture, best first")
    title: str
    annotations: list[str]
    buyable: bool = False
    link: str = ""
    image_width: int
    image_height: int


class AnnotationJson(Model):
    """A keyword of the results, with its tf-idf score."""

    annotation: str
    score: float


class QueryObjectJson(Model):
    """An object that was found in an uploaded picture."""

    box: BoxJson
    label: str
    score: float


class QueryJson(Model):
    """What was searched: an object, a box, or the whole picture (neither box nor object_index)."""

    pin_id: str | None = None
    object_index: int | None = None
    box: BoxJson | None = None
    on_object: int | None = Field(None, description="the known object that a drawn box means, if any")
    label: str | None = None
    objects: list[QueryObjectJson] | None = Field(None, description="found in an uploaded picture, most certain first")
    inference: bool = Field(description="whether Triton was asked; false for a known object")


class AnswerJson(Model):
    """The answer to a search."""

    results: list[ResultJson]
    annotations: list[AnnotationJson] = Field(
        description="of the results, tf-idf weighted; given back they narrow down"
    )
    indexed_up_to: str
    query: QueryJson
    partial: str | None = Field(
        None, description="time-limit | candidate-limit: why something that fits may be missing"
    )


class GuessJson(Model):
    """An annotation that a picture probably deserves, by its visual neighbours."""

    annotation: str
    confidence: Share
    score: float = Field(description="confidence * idf")


class UnderstandingJson(Model):
    """What Lens understood of a picture."""

    annotations: list[GuessJson]
    objects: list[QueryObjectJson] = Field(description="most certain first")
    dominant_object: int | None = Field(None, description="place of the dominant object among the objects")
    colours: list[ColourJson] = Field(description="salient ones, largest share first")
    categories: dict[str, Share] = Field(description="category vector by the visual neighbours, greatest first")


class SourceJson(Model):
    """What became of a source of results."""

    source: str = Field(description="visual | semantic | scenes")
    state: str = Field(description="used | skipped | empty | late | failed")
    ratio: Share = Field(description="its share of the results, as planned")
    reason: str


class LensResultJson(ResultJson):
    """One result of Lens, and the source that it came from."""

    source: str = Field(description="visual | semantic | scenes")


class LensJson(Model):
    """The answer of Lens."""

    results: list[LensResultJson]
    understanding: UnderstandingJson
    sources: list[SourceJson]
    indexed_up_to: str
    partial: str | None = Field(
        None, description="source-missing | time-limit | candidate-limit: why something that fits may be missing"
    )


class StageJson(Model):
    """One stage of a pin's way, and when it was reached where that is known."""

    stage: str = Field(description="event | record | logged | searchable | dots | later event")
    state: str = Field(description="done | waiting | dead | deleted | unseen")
    at: Int64 | None = Field(None, description="Unix milliseconds")
    after_ms: Int64 | None = Field(None, description="since event_time")
    detail: str | None = None


class DeadLetterJson(Model):
    """Why an event of the pin could not pass."""

    topic: str
    partition: int
    offset: Int64
    reason: str
    detail: str
    event_timestamp: Int64
    dead_at: Int64


class LineageJson(Model):
    """Where a pin is: each stage with its time, or where and why it stopped; and why it has these dots."""

    pin_id: str
    state: str = Field(description="the one word for it: dots | waiting | dead | deleted | unseen")
    summary: str
    stages: list[StageJson]
    dots: DotsJson | None = None
    witnesses: list[str] | None = Field(None, description="pins that the dots rest on, of those that are live now")
    dead_letters: list[DeadLetterJson]
    dead_letters_checked: bool
    dead_letters_limit: int | None = Field(
        None, description="only so many of the newest dead letters of a partition were looked at; absent: all of them"
    )
    indexed_up_to: str


class HealthJson(Model):
    """What the process says of itself."""

    status: str
    checks: dict[str, Any]


class ProblemJson(BaseModel):
    """RFC 9457. `type` is documented in docs/api.md; further members belong to the type."""

    model_config = ConfigDict(title="Problem", extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str


def of_object(item: DetectedObject) -> ObjectJson:
    """A detected object."""
    source = DetectedObject.Source.Name(item.source).removeprefix("SOURCE_").lower()
    return ObjectJson(
        index=item.index, box=boxes.of_message(item.box), label=item.label, score=item.score, source=source
    )


def of_colour(rgb: int, share: float) -> ColourJson:
    """A salient colour."""
    return ColourJson(rgb=f"#{rgb:06x}", share=min(1.0, max(0.0, share)))


def of_pin(record: ObjectRecord) -> PinJson:
    """A live pin."""
    return PinJson(
        pin_id=record.pin_id,
        version=str(record.version),
        revision=record.revision,
        generation=record.generation,
        detector=record.detector,
        embedder=record.embedder,
        image_ref=record.image_ref,
        image_sha256=record.image_sha256.hex(),
        image_width=record.image_width,
        image_height=record.image_height,
        objects=[of_object(item) for item in record.objects],
        colours=[of_colour(colour.rgb, colour.share) for colour in record.colours],
        board_id=record.board_id,
        title=record.title,
        annotations=list(record.annotations),
        category_weights=dict(record.category_weights),
        buyable=record.buyable,
        link=record.link,
        event_time=str(record.event_time),
        recorded_at=str(record.recorded_at),
    )


def of_dots(record: DotRecord, scores: Mapping[int, float]) -> DotsJson:
    """The dots of a live pin, with the detector's scores by object index."""
    return DotsJson(
        pin_id=record.pin_id,
        version=str(record.version),
        generation=record.generation,
        epoch=str(record.epoch),
        decision=record.decision,
        dots=[_dot(dot, scores.get(dot.object_index)) for dot in record.dots],
        watermark={str(partition): str(offset) for partition, offset in sorted(record.watermark.items())},
        decided_at=str(record.decided_at),
    )


def of_card(record: ObjectRecord, dots: DotRecord | None) -> CardJson:
    """A live pin with its dots."""
    shown = None if dots is None or dots.deleted else of_dots(dots, scores_of(record, dots))
    return CardJson(pin=of_pin(record), dots=shown)


def _dot(dot: Dot, score: float | None) -> DotJson:
    return DotJson(
        object_index=dot.object_index,
        x=dot.x,
        y=dot.y,
        label=dot.label,
        shown=dot.shown,
        score=score,
        similarity=dot.similarity,
        annotation_score=dot.annotation_score,
        category_conformity=dot.category_conformity,
        reasons=[Dot.Reason.Name(reason).removeprefix("REASON_").lower() for reason in dot.reasons],
    )
