"""From engagement events to examples: which impressions there were, what was done with each, and their features.

An impression is an `EngagementEvent` of kind impression with request_id and query_pin_id, and neither object nor box of
the query: those are a search's. What people did with it are
events of the same request_id and pin_id: closeup, click, long click, save. Events may come twice and in any order. What
was done outside of an answer, or with a pin that no impression tells of, is not attributed.

Features are computed afterwards, from the index as it is and from the saves up to the moment of the impression, so that
a save that followed does not explain itself. A pin that is not live any more gives no example.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from discovery.ports import Found
from discovery.related.dominant import dominant_object
from discovery.related.examples import GRADES, Example
from discovery.related.features import (
    MAX_CATEGORIES,
    THRESHOLD,
    Idf,
    Pair,
    category_vector,
    feature_names,
    feature_rows,
    side_of,
)
from indexer.cooccurrence import Together
from indexer.records_pb2 import ObjectRecord
from producers.events_pb2 import EngagementEvent

OUTCOMES = {
    EngagementEvent.KIND_CLOSEUP: "closeup",
    EngagementEvent.KIND_CLICK: "click",
    EngagementEvent.KIND_LONG_CLICK: "long_click",
    EngagementEvent.KIND_SAVE: "save",
}


class Records(Protocol):
    """The index, as far as it is asked."""

    def refresh(self) -> object: ...

    def pins(self, pin_ids: Sequence[str]) -> Sequence[Found | None]: ...


class Past(Protocol):
    """Co-occurrence as it was at a moment: `indexer.cooccurrence.CoOccurrence` with the saves of the log."""

    def between(self, pin_id: str, others: Sequence[str], until_ms: int) -> Mapping[str, Together]: ...


@dataclass(slots=True)
class Impression:
    """One pin shown in one answer, and what was done with it."""

    request_id: str
    user_id: str
    query_pin_id: str
    pin_id: str
    position: int
    event_time: int
    outcomes: set[str] = field(default_factory=set)


def impressions(events: Iterable[EngagementEvent]) -> dict[str, list[Impression]]:
    """The impressions of Related Pins answers with their outcomes: request_id -> by position."""
    shown: dict[tuple[str, str], Impression] = {}
    done: dict[tuple[str, str], set[str]] = {}
    for event in events:
        key = (event.request_id, event.pin_id)
        if event.kind in OUTCOMES:
            done.setdefault(key, set()).add(OUTCOMES[event.kind])
        elif event.kind == EngagementEvent.KIND_IMPRESSION and _of_related(event):
            query, user, place, time = event.query_pin_id, event.user_id, event.position, event.event_time
            former = shown.setdefault(key, Impression(event.request_id, user, query, event.pin_id, place, time))
            former.event_time = min(former.event_time, event.event_time)
    answers: dict[str, list[Impression]] = {}
    for key, one in shown.items():
        one.outcomes = done.get(key, set())
        answers.setdefault(one.request_id, []).append(one)
    for seen in answers.values():
        seen.sort(key=lambda one: (one.position, one.pin_id))
    return answers


def _of_related(event: EngagementEvent) -> bool:
    """Whether it was shown for a whole pin; a query by an object or a box is a search's."""
    part = event.HasField("query_object_index") or event.HasField("box")
    return bool(event.request_id and event.query_pin_id) and not part


def examples(answers: Mapping[str, Sequence[Impression]], index: Records, past: Past, idf: Idf) -> Iterator[Example]:
    """The examples of answers whose pins are live.

    Args:
        answers: what `impressions` gives.
        index: the pins' records.
        past: co-occurrence.
        idf: of annotations.
    """
    queries = _live(index, {seen[0].query_pin_id for seen in answers.values()})
    categories = common_categories(queries.values())
    for request_id in sorted(answers):
        seen = answers[request_id]
        query = queries.get(seen[0].query_pin_id)
        if query is not None:
            yield from _of_answer(seen, query, _live(index, {one.pin_id for one in seen}), past, idf, categories)


def common_categories(records: Iterable[ObjectRecord]) -> tuple[str, ...]:
    """The categories that most of these pins are of, at most 32, by name."""
    counted = Counter(name for one in records for name in category_vector(one.category_weights, THRESHOLD))
    best = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:MAX_CATEGORIES]
    return tuple(sorted(name for name, _ in best))


def _of_answer(  # noqa: PLR0917  what one answer's examples are made of
    seen: Sequence[Impression],
    query: ObjectRecord,
    records: Mapping[str, ObjectRecord],
    past: Past,
    idf: Idf,
    categories: Sequence[str],
) -> Iterator[Example]:
    shown = [one for one in seen if one.pin_id in records]
    together = past.between(query.pin_id, [one.pin_id for one in shown], min(one.event_time for one in seen))
    pairs = [Pair(side_of(records[one.pin_id]), together.get(one.pin_id)) for one in shown]
    names = feature_names(categories)
    rows = feature_rows(side_of(query), pairs, idf, categories).tolist()
    item = dominant_object(query.objects)
    on_object = None if item is None else feature_rows(side_of(query, item=item), pairs, idf, categories).tolist()
    category = max(sorted(query.category_weights), key=lambda name: query.category_weights[name], default="")
    for n, one in enumerate(shown):
        yield Example(
            request_id=one.request_id,
            user_id=one.user_id,
            query_pin_id=query.pin_id,
            pin_id=one.pin_id,
            position=one.position,
            event_time=one.event_time,
            category=category,
            outcomes=tuple(sorted(one.outcomes, key=lambda name: GRADES[name])),
            features=dict(zip(names, rows[n], strict=True)),
            on_object=None if on_object is None else dict(zip(names, on_object[n], strict=True)),
        )


def _live(index: Records, pin_ids: set[str]) -> dict[str, ObjectRecord]:
    index.refresh()  # keeps the lease, so that no takedown waits for a long evaluation
    entries = index.pins(sorted(pin_ids))
    return {entry.record.pin_id: entry.record for entry in entries if entry is not None and not entry.record.deleted}
