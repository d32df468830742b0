"""Where is a pin: event, record, searchable, dots, each with its time, or where and why it stopped.

Everything is read from what the stages themselves have written (index, dots, dead letters), so that the answer is
true after any crash. Times are Unix milliseconds; a stage's clock may be another machine's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from discovery.ports import DeadLetter, DeadLetters, Dots, Found, Index
from dotstream.errors import Retryable
from indexer.records_pb2 import Dot, DotRecord

DONE, WAITING, DEAD, DELETED, UNSEEN = "done", "waiting", "dead", "deleted", "unseen"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the way. `state` is one of the words above."""

    name: str
    state: str
    at: int | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """A pin's way. `state` is "dots" when the way was walked to its end, else where it stands."""

    pin_id: str
    state: str
    summary: str
    stages: Sequence[Stage]
    event_time: int | None
    dots: DotRecord | None
    dead_letters: Sequence[DeadLetter]
    dead_letters_checked: bool
    watermark: Mapping[int, int]


def trace(pin_id: str, *, index: Index, dots: Dots, dead: DeadLetters) -> Lineage:
    """Looks the pin up in every stage.

    Raises:
        Retryable: the index cannot be read at present.
    """
    watermark = index.refresh()
    found = index.pin(pin_id)
    decided = dots.get(pin_id)
    try:
        letters, checked = dead.find(pin_id), True
    except Retryable:
        letters, checked = (), False
    if found is None:
        stages = _before_the_record(letters, checked)
    elif found.record.deleted:
        stages = _deleted(found)
    else:
        stages = [*_recorded(found, watermark), _dots_stage(found, decided)]
    if found is not None and (newer := _newer(letters, found)) is not None:
        stages = [*stages, newer]
    state, summary = _summary(pin_id, stages, decided)
    live = decided if decided is not None and not decided.deleted else None
    return Lineage(
        pin_id=pin_id,
        state=state,
        summary=summary,
        stages=stages,
        event_time=found.record.event_time if found is not None else None,
        dots=live if state != DELETED else None,
        dead_letters=letters,
        dead_letters_checked=checked,
        watermark=watermark,
    )


def _before_the_record(letters: Sequence[DeadLetter], checked: bool) -> list[Stage]:
    if letters:
        last = letters[0]
        return [
            Stage("event", DONE, last.event_timestamp, f"{last.topic} partition {last.partition} offset {last.offset}"),
            Stage("record", DEAD, last.dead_at, f"{last.reason}: {last.detail}"),
        ]
    looked = "nor in the dead letters" if checked else "and the dead letters cannot be read at present"
    return [
        Stage("event", UNSEEN, None, f"not in the index {looked}: it was not published, or no worker has come to it")
    ]


def _deleted(found: Found) -> list[Stage]:
    record = found.record
    where = f"version {record.version}, partition {found.partition} offset {found.offset}"
    return [
        Stage("event", DELETED, record.event_time, f"deleted as of version {record.version}"),
        Stage("record", DELETED, record.recorded_at, where),
    ]


def _recorded(found: Found, watermark: Mapping[int, int]) -> list[Stage]:
    record = found.record
    models = f"{record.detector} and {record.embedder}"
    record_detail = f"{len(record.objects)} objects by {models}, generation {record.generation}"
    where = f"partition {found.partition} offset {found.offset}, index at {watermark.get(found.partition, -1)}"
    return [
        Stage("event", DONE, record.event_time, f"version {record.version}"),
        Stage("record", DONE, record.recorded_at, record_detail),
        Stage("searchable", DONE, None, where),
    ]


def _dots_stage(found: Found, decided: DotRecord | None) -> Stage:
    record = found.record
    if decided is None:
        return Stage("dots", WAITING, None, "the dots worker has not decided yet")
    if decided.deleted or decided.version < record.version:
        what = "were taken out" if decided.deleted else "are decided"
        return Stage("dots", WAITING, None, f"dots {what} for version {decided.version}, not yet for {record.version}")
    shown = sum(dot.shown for dot in decided.dots)
    why = "; ".join(f"{dot.label} {dot.object_index}: {explain(dot)}" for dot in decided.dots)
    detail = f"{shown} of {len(decided.dots)} shown" + (f" ({why})" if why else ", as nothing was detected")
    return Stage("dots", DONE, decided.decided_at, detail)


def _newer(letters: Sequence[DeadLetter], found: Found) -> Stage | None:
    """The dead letter of an event after the one that the index holds."""
    if not letters or letters[0].event_timestamp <= found.record.recorded_at:
        return None
    last = letters[0]
    where = f"{last.topic} partition {last.partition} offset {last.offset}"
    return Stage("later event", DEAD, last.dead_at, f"{where}: {last.reason}: {last.detail}")


def _summary(pin_id: str, stages: Sequence[Stage], decided: DotRecord | None) -> tuple[str, str]:
    last = next((stage for stage in reversed(stages) if stage.name != "later event"), stages[-1])
    dead_later = ", but a later event is in the dead letters" if stages[-1].name == "later event" else ""
    match last.state:
        case "done" if decided is not None:
            shown = sum(dot.shown for dot in decided.dots)
            return "dots", f"{pin_id} shows {shown} of {len(decided.dots)} dots{dead_later}"
        case "dead":
            return DEAD, f"{pin_id} stopped before its record: {last.detail}"
        case "deleted":
            return DELETED, f"{pin_id} was deleted{dead_later}"
        case "waiting":
            return WAITING, f"{pin_id} is searchable and waits for its dots: {last.detail}{dead_later}"
        case _:
            return UNSEEN, f"{pin_id} has not been seen: {last.detail}"


def explain(dot: Dot) -> str:
    """Why a dot is shown or not, with its signals, in one line."""
    reasons = ", ".join(Dot.Reason.Name(reason).removeprefix("REASON_").lower() for reason in dot.reasons)
    return (
        f"{'shown' if dot.shown else 'suppressed'} by {reasons or 'no reason'}, similarity {dot.similarity:.3f}, "
        f"annotation score {dot.annotation_score:.2f}, conformity {dot.category_conformity:.2f}"
    )
