"""GET /pins/{pin_id}/related: Related Pins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from discovery.problems import documented
from discovery.related.answers import Related, RelatedAnswer
from discovery.related.model import Variant
from discovery.related.schemas import RelatedJson, RelatedPinJson
from discovery.routes.context import Context, Here
from discovery.routes.pins import IndexedUpTo, PinId

router = APIRouter(tags=["pins"])


@router.get(
    "/pins/{pin_id:part}/related",
    response_model_exclude_none=True,
    responses=documented(
        "bad-request", "unknown-pin", "deleted-pin", "bad-watermark", "not-yet-indexed", "unavailable"
    ),
)
async def related(
    here: Here,
    pin_id: PinId,
    *,
    k: Annotated[int, Query(ge=1, le=100, description="at most so many")] = 25,
    variant: Annotated[Variant, Query(description="what a dominant object of the query changes")] = Variant.C,
    explain: Annotated[bool, Query(description="with the features of each result")] = False,
    indexed_up_to: IndexedUpTo = None,
) -> RelatedJson:
    """Pins that people keep together with this one, re-ranked; visual neighbours where there are none."""
    await here.reach(indexed_up_to)
    return await here.read(lambda: _related(here, pin_id, k, variant, explain=explain))


def _related(here: Context, pin_id: str, k: int, variant: Variant, *, explain: bool) -> RelatedJson:
    offsets = here.services.index.refresh()
    answer = here.related.related(here.live(pin_id).record, k, variant)
    return RelatedJson(
        pin_id=pin_id,
        source=answer.source,
        variant=answer.variant.value,
        dominant_object=None if answer.dominant is None else answer.dominant.index,
        synthetic_model=bool(here.related.model.trained.get("synthetic", False)),
        degraded=answer.degraded or None,
        partial=answer.partial,
        results=[_result(one, answer, explain=explain) for one in answer.results],
        indexed_up_to=here.word(offsets),
    )


def _result(one: Related, answer: RelatedAnswer, *, explain: bool) -> RelatedPinJson:
    record, together = one.record, one.together
    return RelatedPinJson(
        pin_id=record.pin_id,
        source=answer.source,
        score=one.score,
        similarity=None if one.features["visual_missing"] else one.features["visual"],
        co_occurrence=None if together is None else together.weight,
        shared_boards=None if together is None else together.shared,
        features=dict(one.features) if explain else None,
        duplicates=list(one.duplicates),
        title=record.title,
        annotations=list(record.annotations),
        buyable=record.buyable,
        link=record.link,
        image_width=record.image_width,
        image_height=record.image_height,
    )
