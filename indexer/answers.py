"""From a query to hits: filters by name, nearest slots of every partition, their pins, and the last look at deletes.

The same for the writer's process (`Shard.search`) and for followers (`IndexReader.search`). Every result belongs to
the committed versions that its watermark names. Deletes hold at once, though: when pins among the nearest changed or
went since, the query has no answer here and is asked again at a newer version.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

import numpy as np
import numpy.typing as npt

from indexer import arguments
from indexer.asks import Ask, Places, Scope, Terms, Wanted
from indexer.catalogue import Catalogue
from indexer.crew import Crew
from indexer.entries import Row
from indexer.errors import BadArgument, Damaged, NotInView, SearchTimeout
from indexer.names import BOARD, CATEGORY, LABEL
from indexer.records_pb2 import ObjectRecord
from indexer.search import Candidates, nearest
from indexer.segments import LIVE
from indexer.view import View, read_record

MAX_K = 10_000
_AT_ONCE = 1_024
"""Candidates between two looks at the time limit."""
_SCOPES = frozenset(get_args(Scope))
_NONE: frozenset[Any] = frozenset()


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
        limit_s: time limit in seconds, above 0; None for none. The smallest of a batch holds for all of it.
        within: the largest distance wanted, in bits; None: any.
        only_pins: the only pins that may be found; None: any.
        board: only pins of this board.

    Raises:
        BadArgument: one of them cannot be taken. The code's width is looked at when the index is asked.
    """

    code: bytes
    k: int
    scope: Scope = "all"
    exclude_pins: Collection[str] = _NONE
    exclude_sha256: Collection[bytes] = _NONE
    label: str | None = None
    category: str | None = None
    buyable: bool | None = None
    limit_s: float | None = None
    within: int | None = None
    only_pins: Collection[str] | None = None
    board: str | None = None

    def __post_init__(self) -> None:
        arguments.code("code", self.code)
        if not isinstance(self.scope, str) or self.scope not in _SCOPES:
            raise arguments.refused("scope", self.scope, 'one of "all", "objects" and "images"')
        self._put("k", arguments.whole("k", self.k, 1, MAX_K))
        if self.exclude_pins is not _NONE:
            self._put("exclude_pins", frozenset(arguments.texts("exclude_pins", self.exclude_pins)))
        if self.exclude_sha256 is not _NONE:
            self._put("exclude_sha256", arguments.sha256s("exclude_sha256", self.exclude_sha256))
        if self.only_pins is not None:
            self._put("only_pins", frozenset(arguments.texts("only_pins", self.only_pins)))
        if self.within is not None:
            self._put("within", arguments.whole("within", self.within, 0))
        if self.limit_s is not None:
            self._put("limit_s", arguments.seconds("limit_s", self.limit_s))
        if self.buyable is not None:
            self._put("buyable", arguments.flag("buyable", self.buyable))
        for name in ("label", "category", "board"):
            value = getattr(self, name)
            if value is not None:
                arguments.text(name, value)

    def _put(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


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


class Find(Protocol):
    """A search over views: `indexer.search.nearest`, or its faster form (list_search.py)."""

    def __call__(
        self, views: Sequence[View], asks: Sequence[Ask], *, crew: Crew, checkpoint: Callable[[], None]
    ) -> list[list[Candidates]]: ...


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


@dataclass(frozen=True, slots=True)
class _Open:
    """A query with what it means in each source; slots that turn out to be of no pin join what is excluded."""

    number: int
    query: Query
    code: npt.NDArray[np.uint8]
    wanted: list[Wanted]
    excluded: list[defaultdict[int, list[int]]]
    only: list[Places | None]

    def ask(self, bits: int) -> Ask:
        within = bits if self.query.within is None else min(self.query.within, bits)
        terms = (Terms(*each) for each in zip(self.wanted, self.excluded, self.only, strict=True))
        return Ask(self.code, self.query.k, within, tuple(terms))


def answer(
    sources: Sequence[Source],
    queries: Sequence[Query],
    bits: int,
    elapsed: Callable[[], float],
    *,
    held: bool,
    crew: Crew,
    find: Find = nearest,
) -> list[SearchResult | None]:
    """Searches every source for all queries at once, and looks at deletes once more.

    Args:
        sources: one per partition, at the versions to search.
        queries: all of the index's width, which is checked here.
        bits: width of the index's codes.
        elapsed: seconds since the queries came in.
        held: the catalogues are at these very versions and do not move on meanwhile. What died since is answered, as it
            is still known what it was; the caller sees to it that none of it was deleted.
        crew: threads to use.
        find: the search, exact or approximate.

    Returns:
        One result for each query, in their order; None where pins among the nearest changed since the version was
        committed, so that only a newer version has the answer.

    Raises:
        BadArgument: a code's width is wrong.
        SearchTimeout: the smallest `limit_s` passed.
    """
    for query in queries:
        _check(query, bits)
    limits = [query.limit_s for query in queries if query.limit_s is not None]

    def checkpoint() -> None:
        if limits and elapsed() > min(limits):
            raise SearchTimeout(f"the search took longer than its limit of {min(limits)} s")

    watermark = {source.view.partition: source.view.watermark for source in sources}
    results: list[SearchResult | None] = [None] * len(queries)
    views = [source.view for source in sources]
    left = [one for number, query in enumerate(queries) if (one := _opened(number, query, sources)) is not None]
    while left:
        again: list[_Open] = []
        asks = [one.ask(bits) for one in left]
        for one, nearby in zip(left, find(views, asks, crew=crew, checkpoint=checkpoint), strict=True):
            found, lost = _resolved(sources, one, nearby, checkpoint)
            if not lost:
                hits = _hits(found, bits, held=held, checkpoint=checkpoint)
                results[one.number] = None if hits is None else SearchResult(hits, watermark)
            elif held:
                again.append(one)
        left = again
    return results


def _check(query: Query, bits: int) -> None:
    if len(query.code) * 8 != bits:
        found = len(query.code)
        raise BadArgument(f"the code has {found * 8} bits, {found} bytes; the index has {bits}: pass {bits // 8} bytes")


def _opened(number: int, query: Query, sources: Sequence[Source]) -> _Open | None:
    """None where the only pins that may be found have codes that are newer than the version."""
    only = [_only(source, query) for source in sources]
    if None in only and query.only_pins is not None:
        return None
    wanted = [_wanted(source.catalogue, query) for source in sources]
    excluded = [_excluded(source, query) for source in sources]
    return _Open(number, query, np.frombuffer(query.code, np.uint8), wanted, excluded, only)


def _resolved(
    sources: Sequence[Source], one: _Open, nearby: Sequence[Candidates], checkpoint: Callable[[], None]
) -> tuple[list[_Found], int]:
    """(the k nearest with their rows, nearest first; how many slots were of no pin, which are excluded from now on)."""
    found: list[_Found] = []
    lost = 0
    for source, excluded, candidates in zip(sources, one.excluded, nearby, strict=True):
        some, gone = _resolve(source, candidates, one.query.k, checkpoint)
        found.extend(some)
        lost += len(gone)
        for number, indices in by_segment(source.view, gone).items():
            excluded[number] += indices
    found.sort(key=_rank)
    return found[: one.query.k], lost


def _hits(found: Sequence[_Found], bits: int, *, held: bool, checkpoint: Callable[[], None]) -> list[Hit] | None:
    """The hits; None when one of them changed."""
    hits: list[Hit] = []
    for at in range(0, len(found), _AT_ONCE):
        checkpoint()
        try:
            hits += [_hit(each, bits) for each in found[at : at + _AT_ONCE]]
        except NotInView:
            return None
    return None if not held and any(_died(each.source.view, each.slot) for each in found) else hits


def _rank(one: _Found) -> tuple[int, str, int]:
    return one.distance, one.pin_id, one.object_index


def _died(view: View, slot: int) -> bool:
    found = view.find(slot)
    return found is None or int(found[0].died[found[1]]) != LIVE


def _resolve(
    source: Source, candidates: Candidates, k: int, checkpoint: Callable[[], None]
) -> tuple[list[_Found], list[int]]:
    """(the k first by distance, pin and object, with rows; the slots that the catalogue gives to no pin)."""
    slots, distances = candidates.slots.tolist(), candidates.distances.tolist()
    found: list[_Found] = []
    gone: list[int] = []
    for at in range(0, len(slots), _AT_ONCE):
        checkpoint()
        some = slots[at : at + _AT_ONCE]
        owners = source.catalogue.owners(source.view.runs_of(some))
        for slot, distance, owner in zip(some, distances[at : at + _AT_ONCE], owners, strict=True):
            if owner is None:
                gone.append(slot)
            else:
                found.append(_Found(source, slot, distance, owner, object_of(source.view, slot)))
    found.sort(key=_rank)
    del found[k:]
    checkpoint()
    rows = source.catalogue.rows([one.pin_id for one in found])
    for one, row in zip(found, rows, strict=True):
        one.row = row
        if row is None or one.slot not in row.slots:
            gone.append(one.slot)
    return found, gone


def _wanted(catalogue: Catalogue, query: Query) -> Wanted:
    names = ((LABEL, query.label), (CATEGORY, query.category), (BOARD, query.board))
    numbers = [None if name is None else catalogue.number_of(kind, name) for kind, name in names]
    unknown = any(name is not None and number is None for (_, name), number in zip(names, numbers, strict=True))
    label, category, board = numbers
    return Wanted(query.scope, label, category, board, query.buyable, unknown)


def _excluded(source: Source, query: Query) -> defaultdict[int, list[int]]:
    pins: set[str] = set(query.exclude_pins)
    for image_sha256 in query.exclude_sha256:
        pins.update(source.catalogue.pins_with(image_sha256))
    rows = source.catalogue.rows(sorted(pins))
    return by_segment(source.view, (slot for row in rows if row is not None for slot in row.slots))


def _only(source: Source, query: Query) -> Places | None:
    """The slots of the only pins that may be found; None for any, and where a pin's are newer than the view."""
    if query.only_pins is None:
        return None
    rows = source.catalogue.rows(sorted(query.only_pins))
    if any(row is not None and row.offset > source.view.watermark for row in rows):
        return None
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


def merge_frequencies(parts: Iterable[tuple[int, Mapping[str, int]]]) -> tuple[int, dict[str, int]]:
    """Sums document counts and annotation frequencies of partitions."""
    documents = 0
    total: dict[str, int] = {}
    for count, frequencies in parts:
        documents += count
        for annotation, n in frequencies.items():
            total[annotation] = total.get(annotation, 0) + n
    return documents, total
