"""The JSON of Related Pins."""

from __future__ import annotations

from pydantic import Field

from discovery.schemas import Model


class RelatedPinJson(Model):
    """One related pin."""

    pin_id: str
    source: str = Field(description="co_occurrence | visual: how it was found")
    score: float = Field(description="of the linear model; what results are ordered by")
    similarity: float | None = Field(None, description="1 - distance / bits; absent without codes to compare")
    co_occurrence: float | None = Field(None, description="decayed number of boards that hold both pins")
    shared_boards: int | None = Field(None, description="boards that hold both pins")
    features: dict[str, float] | None = Field(None, description="with explain: what the model was given")
    duplicates: list[str] = Field(description="pins with nearly the same picture, left out for this visual neighbour")
    title: str
    annotations: list[str]
    buyable: bool = False
    link: str = ""
    image_width: int
    image_height: int


class RelatedJson(Model):
    """Related Pins of one pin, best first."""

    pin_id: str
    source: str = Field(description="co_occurrence | visual: where the candidates come from")
    variant: str = Field(description="plain | A | B | C: what a dominant object changes")
    dominant_object: int | None = Field(None, description="index of the query's dominant object")
    synthetic_model: bool = Field(description="whether the model was trained on a made-up log")
    degraded: str | None = Field(None, description="why co-occurrence could not be asked")
    partial: str | None = Field(
        None, description="time-limit | candidate-limit: why a visual neighbour that fits may be missing"
    )
    results: list[RelatedPinJson]
    indexed_up_to: str
