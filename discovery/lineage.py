"""Where is a pin: event, record, logged, searchable, dots, each with its time, or where and why it stopped.

Everything is read from what the stages themselves have written (index, dots, dead letters), so that the answer is
true after any crash. Times are Unix milliseconds; a stage's clock may be another machine's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from discovery.ports import DeadLetter, DeadLetters, Dots, Found, Index, Letters
from dotstream.errors import Retryable
from indexer.records_pb2 import Dot, DotRecord, ObjectRecord

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
    """A pin's way. `state` is "dots" when the way was walked to its end, else where it stands.

    Attributes:
        scores: the detector's, by object index, for `dots`.
        witnesses: pins that `dots` rest on and that are live in the index now.
        dead_letters_limit: how many of a partition's newest dead letters were looked at; None for all of them.
    """

    pin_id: str
    state: str
    summary: str
    stages: Sequence[Stage]
    event_time: int | None
    dots: DotRecord | None
    scores: Mapping[int, float]
    witnesses: Sequence[str]
    dead_letters: Sequence[DeadLetter]
    dead_letters_checked: bool
    dead_letters_limit: int | None
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
        letters, checked = Letters(), False
    if found is None:
        stages = _before_the_record(letters, checked)
    elif found.record.deleted:
        stages = _deleted(found)
    else:
        stages = [*_recorded(found, watermark), _dots_stage(found, decided, dots.only)]
    if found is not None and (newer := _newer(letters.found, found.record)) is not None:
        stages = [*stages, newer]
    state, summary = _summary(pin_id, stages, decided)
    live = decided if decided is not None and not decided.deleted and state != DELETED else None
    return Lineage(
        pin_id=pin_id,
        state=state,
        summary=summary,
        stages=stages,
        event_time=found.record.event_time if found is not None else None,
        dots=live,
        scores=scores_of(found.record, live) if found is not None and live is not None else {},
        witnesses=_live(index, live.witnesses) if live is not None else (),
        dead_letters=letters.found,
        dead_letters_checked=checked,
        dead_letters_limit=letters.newest_only,
        watermark=watermark,
    )


def scores_of(record: ObjectRecord, decided: DotRecord) -> dict[int, float]:
    """The detector's scores by object index; {} for dots of another version, whose indices mean other objects."""
    return {item.index: item.score for item in record.objects} if record.version == decided.version else {}


def _live(index: Index, pins: Sequence[str]) -> list[str]:
    """Those of the pins that are in the index now: a deleted pin may be in no answer."""
    found = ((pin_id, index.pin(pin_id)) for pin_id in pins)
    return [pin_id for pin_id, entry in found if entry is not None and not entry.record.deleted]


def _before_the_record(letters: Letters, checked: bool) -> list[Stage]:
    if letters.found:
        last = letters.found[0]
        return [
            Stage("event", DONE, last.event_timestamp, f"{last.topic} partition {last.partition} offset {last.offset}"),
            Stage("record", DEAD, last.dead_at, f"{last.reason}: {last.detail}"),
        ]
    looked = "nor in the dead letters"
    if not checked:
        looked = "and the dead letters cannot be read at present"
    elif letters.newest_only is not None:
        looked = f"nor in the newest {letters.newest_only} dead letters of each partition, the only ones looked at"
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
    where = f"partition {found.partition} offset {found.offset}"
    reached = f"index at offset {watermark.get(found.partition, -1)}; the time of taking it in is not kept"
    return [
        Stage("event", DONE, record.event_time, f"version {record.version}"),
        Stage("record", DONE, record.recorded_at, record_detail),
        Stage("logged", DONE, found.logged_at or None, where),
        Stage("searchable", DONE, None, reached),
    ]


def undecided_beside(generation: str) -> str:
    """Why an API that searches a generation beside the active one has no dots of a pin."""
    return f"dots are decided by the active generation, and this API searches {generation}"


def _dots_stage(found: Found, decided: DotRecord | None, only: str | None) -> Stage:
    record = found.record
    if decided is None and only is not None:
        return Stage("dots", WAITING, None, undecided_beside(only))
    if decided is None:
        return Stage("dots", WAITING, None, "the dots worker has not decided yet")
    if decided.deleted or decided.version < record.version:
        what = "were taken out" if decided.deleted else "are decided"
        return Stage("dots", WAITING, None, f"dots {what} for version {decided.version}, not yet for {record.version}")
    shown = sum(dot.shown for dot in decided.dots)
    scores = scores_of(record, decided)
    why = "; ".join(
        f"{dot.label} {dot.object_index}: {explain(dot, scores.get(dot.object_index))}" for dot in decided.dots
    )
    detail = f"{shown} of {len(decided.dots)} shown" + (f" ({why})" if why else ", as nothing was detected")
    return Stage("dots", DONE, decided.decided_at, detail)


def _newer(letters: Sequence[DeadLetter], record: ObjectRecord) -> Stage | None:
    """The latest dead letter of an event after the one that the index holds."""
    last = next((letter for letter in letters if _is_later(letter, record)), None)
    if last is None:
        return None
    where = f"{last.topic} partition {last.partition} offset {last.offset}"
    return Stage("later event", DEAD, last.dead_at, f"{where}: {last.reason}: {last.detail}")


def _is_later(letter: DeadLetter, record: ObjectRecord) -> bool:
    """By the event's own time: an event that was replayed with success has its record's time, and its letter stays.

    What lies in the dead letters of the object records is no event; it is held against the record's own time.
    """
    of_record = letter.topic.endswith(f"objects.{record.generation}")
    own = letter.event_timestamp if letter.event_time is None else letter.event_time
    return own > (record.recorded_at if of_record else record.event_time)


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


def explain(dot: Dot, score: float | None = None) -> str:
    """Why a dot is shown or not, with its signals and the detector's score where it is known, in one line."""
    reasons = ", ".join(Dot.Reason.Name(reason).removeprefix("REASON_").lower() for reason in dot.reasons)
    of_detector = "" if score is None else f"score {score:.2f}, "
    return (
        f"{'shown' if dot.shown else 'suppressed'} by {reasons or 'no reason'}, {of_detector}"
        f"similarity {dot.similarity:.3f}, annotation score {dot.annotation_score:.2f}, "
        f"conformity {dot.category_conformity:.2f}"
    )
