"""From a query to hits: filters by name, nearest slots of every partition, their pins, and the last look at deletes.

The same for the writer's process (`Shard.search`) and for followers (`IndexReader.search`). Every result belongs to
the committed versions that its watermark names, except that a pin which changed or was deleted since is left out or
searched for again, so that the k nearest that still stand are answered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from indexer.catalogue import Catalogue
from indexer.entries import Entry, Row
from indexer.errors import Damaged, NotInView, SearchTimeout
from indexer.records_pb2 import ObjectRecord
from indexer.search import Candidates, Scope, View, Wanted, nearest
from indexer.segments import LIVE

MAX_K = 10_000


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of the index.

    Attributes:
        code: the query's code, bits / 8 bytes, most significant bit first.
        k: how many are wanted, 1 to `MAX_K`.
        scope: whole pictures (`images`), detected objects (`objects`) or both (`all`).
        exclude_pins: pins left out.
        exclude_sha256: pictures left out, by sha256: the query's own under another pin.
        label: only objects with this label.
        category: only pins whose top category this is.
        buyable: only pins that are, or are not, buyable.
        limit_s: time limit in seconds; None for none.
    """

    code: bytes
    k: int
    scope: Scope = "all"
    exclude_pins: frozenset[str] = frozenset()
    exclude_sha256: frozenset[bytes] = frozenset()
    label: str | None = None
    category: str | None = None
    buyable: bool | None = None
    limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One code that was found.

    Attributes:
        pin_id: the pin.
        object_index: the object on it; None for the whole picture.
        distance: bits that differ from the query.
        bits: width of the codes.
        similarity: 1 - distance / bits.
        record: the pin's winning record, codes included.
    """

    pin_id: str
    object_index: int | None
    distance: int
    bits: int
    similarity: float
    record: ObjectRecord


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits, nearest first, ties by pin_id and object index (the whole picture first).

    Attributes:
        hits: min(k, codes that pass) of them.
        watermark: partition -> last applied offset, inclusive, of the versions that were searched.
    """

    hits: list[Hit]
    watermark: dict[int, int]


class Source(Protocol):
    """One partition as a query sees it."""

    @property
    def view(self) -> View:
        """The version to search."""
        ...

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue at that version or a later one."""
        ...


@dataclass(slots=True)
class _Found:
    """A candidate on its way to a hit."""

    source: Source
    slot: int
    distance: int
    pin_id: str
    object_index: int
    row: Row | None = field(default=None)


class Changed(Exception):
    """Pins among the nearest changed since the version that was searched; a newer version has the answer."""


def answer(
    sources: Sequence[Source], query: Query, bits: int, elapsed: Callable[[], float], *, settle: bool
) -> SearchResult:
    """Searches every source, merges, and looks at deletes once more.

    Args:
        sources: one per partition, at the versions to search.
        query: checked here.
        bits: width of the index's codes.
        elapsed: seconds since the query came in.
        settle: what to do about slots that died since: True searches past them; False leaves it to the caller.

    Raises:
        ValueError: the code's width or k is wrong.
        SearchTimeout: `limit_s` passed.
        Changed: slots died since, and `settle` is False.
    """
    if len(query.code) * 8 != bits:
        raise ValueError(f"the query has {len(query.code) * 8} bits; the index has {bits}")
    if not 1 <= query.k <= MAX_K:
        raise ValueError(f"k is {query.k}; 1 to {MAX_K} are allowed")
    code = np.frombuffer(query.code, np.uint8)

    def checkpoint() -> None:
        if query.limit_s is not None and elapsed() > query.limit_s:
            raise SearchTimeout(f"the search took longer than its limit of {query.limit_s} s")

    asked = [(source, _wanted(source.catalogue, query), _excluded(source, query)) for source in sources]
    while True:
        found: list[_Found] = []
        gone = 0
        nearby = [
            nearest(source.view, code, query.k, wanted=wanted, excluded=excluded, checkpoint=checkpoint)
            for source, wanted, excluded in asked
        ]
        for (source, _, excluded), candidates in zip(asked, _near_enough(nearby, query.k), strict=True):
            resolved, lost = _resolve(source, candidates, query.k)
            found.extend(resolved)
            gone += _leave_out(source.view, excluded, lost)
        found.sort(key=_rank)
        hits = [_hit(one, bits) for one in found[: query.k]] if not gone else []
        for source, _, excluded in asked:
            late = [one.slot for one in found[: query.k] if one.source is source and _died(source.view, one.slot)]
            gone += _leave_out(source.view, excluded, late)
        if not gone:
            return SearchResult(hits, {source.view.partition: source.view.watermark for source in sources})
        if not settle:
            raise Changed


def _near_enough(parts: Sequence[Candidates], k: int) -> list[Candidates]:
    """The candidates that can be among the k nearest of all parts, ties included, so that no others are looked up."""
    distances = np.concatenate([part.distances for part in parts]) if parts else np.empty(0, np.int64)
    if len(distances) <= k:
        return list(parts)
    bound = np.partition(distances, k - 1)[k - 1]
    near = [part.distances <= bound for part in parts]
    return [
        replace(part, slots=part.slots[m], distances=part.distances[m]) for part, m in zip(parts, near, strict=True)
    ]


def _rank(one: _Found) -> tuple[int, str, int]:
    return one.distance, one.pin_id, one.object_index


def _leave_out(view: View, excluded: defaultdict[int, list[int]], slots: Sequence[int]) -> int:
    for number, indices in by_segment(view, slots).items():
        excluded[number] += indices
    return len(slots)


def _died(view: View, slot: int) -> bool:
    found = view.find(slot)
    return found is None or int(found[0].died[found[1]]) != LIVE


def _resolve(source: Source, candidates: Candidates, k: int) -> tuple[list[_Found], list[int]]:
    """(the k first by distance, pin and object, with rows; the slots that the catalogue no longer gives to a pin)."""
    slots = candidates.slots.tolist()
    owners = source.catalogue.owners(source.view.runs_of(slots))
    gone = [slot for slot, owner in zip(slots, owners, strict=True) if owner is None]
    found = [
        _Found(source, slot, distance, owner, object_of(source.view, slot))
        for slot, distance, owner in zip(slots, candidates.distances.tolist(), owners, strict=True)
        if owner is not None
    ]
    found.sort(key=_rank)
    del found[k:]
    rows = source.catalogue.rows([one.pin_id for one in found])
    for one, row in zip(found, rows, strict=True):
        one.row = row
        if row is None or one.slot not in row.slots:
            gone.append(one.slot)
    return found, gone


def _wanted(catalogue: Catalogue, query: Query) -> Wanted:
    label = None if query.label is None else catalogue.number_of(b"l", query.label)
    category = None if query.category is None else catalogue.number_of(b"c", query.category)
    unknown = (query.label is not None and label is None) or (query.category is not None and category is None)
    return Wanted(query.scope, label, category, query.buyable, unknown)


def _excluded(source: Source, query: Query) -> defaultdict[int, list[int]]:
    pins: set[str] = set(query.exclude_pins)
    for image_sha256 in query.exclude_sha256:
        pins.update(source.catalogue.pins_with(image_sha256))
    rows = source.catalogue.rows(sorted(pins))
    return by_segment(source.view, (slot for row in rows if row is not None for slot in row.slots))


def by_segment(view: View, slots: Iterable[int]) -> defaultdict[int, list[int]]:
    """Slots as number of the segment that holds them -> indices in it; those that the view lacks are left out."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for slot in slots:
        place = view.find(slot)
        if place is not None:
            found[place[0].number].append(place[1])
    return found


def object_of(view: View, slot: int) -> int:
    """The object index that a slot's column holds; -1 for the whole picture."""
    found = view.find(slot)
    return -1 if found is None else int(found[0].object_index[found[1]])


def _hit(one: _Found, bits: int) -> Hit:
    if one.row is None:
        raise Damaged(f"pin {one.pin_id} has a slot and no row")
    record = read_record(one.row, one.source.view)
    index = None if one.object_index < 0 else one.object_index
    return Hit(one.pin_id, index, one.distance, bits, 1 - one.distance / bits, record)


def read_codes(row: Row, view: View) -> list[bytes]:
    """The codes of a row, out of its segments.

    Raises:
        NotInView: the row is newer than the view.
    """
    codes: list[bytes] = []
    for slot in row.slots:
        found = view.find(slot)
        if found is None:
            raise NotInView(f"slot {slot} is not there")
        codes.append(found[0].codes[found[1]].tobytes())
    return codes


def read_record(row: Row, view: View) -> ObjectRecord:
    """A row's record, codes joined in."""
    return ObjectRecord.FromString(row.join(read_codes(row, view)))


def read_entry(row: Row, view: View) -> Entry:
    """A row as an entry of the index."""
    return Entry(read_record(row, view), row.offset, row.order, view.partition, row.logged_at)


def merge_frequencies(parts: Iterable[tuple[int, Mapping[str, int]]]) -> tuple[int, dict[str, int]]:
    """Sums document counts and annotation frequencies of partitions."""
    documents = 0
    total: dict[str, int] = {}
    for count, frequencies in parts:
        documents += count
        for annotation, n in frequencies.items():
            total[annotation] = total.get(annotation, 0) + n
    return documents, total
