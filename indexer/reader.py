"""The index as other processes ask it: dots workers, the API, commands. Read-only, over all partitions.

A reader sees committed versions only. `refresh()` moves it to the newest ones and renews its lease; everything else
answers from there, from any thread. When the lease has run out the reader refuses to answer until it is refreshed,
because a takedown no longer waits for it. Partitions that have no folder yet are empty.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dotstream.clock import Clock
from indexer import arguments, words
from indexer.answers import Find, Hit, Query, SearchResult, answer, merge_frequencies
from indexer.asks import Scope
from indexer.crew import Crew
from indexer.database import I64
from indexer.entries import Entry
from indexer.errors import BadArgument, NotInView
from indexer.faster import Faster
from indexer.follower import Followed
from indexer.open_queries import OpenQueries
from indexer.partition import partition_of
from indexer.search import nearest
from indexer.versions import Version, Versions
from indexer.view import read_entry

__all__ = ["Entry", "Hit", "IndexReader", "IndexSize", "Query", "SearchResult"]

_TRIES = 4
_HELD_TRIES = 8
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class IndexSize:
    """What is in the index, all partitions together.

    Attributes:
        pins: live pins.
        deleted: pins of which only the delete is remembered.
        objects: detected objects of live pins.
        codes: searchable codes, objects and whole pictures.
        documents: live pins with annotations.
    """

    pins: int
    deleted: int
    objects: int
    codes: int
    documents: int


class IndexReader:
    """Follows every partition of one generation.

    Args:
        folder: of the generation, `<data>/index/<generation>`; it need not exist yet.
        partitions: of objects.<generation>.
        clock: monotonic time for leases and limits.
        lease_s: how long answers may be given after a refresh.
        name: unique among the readers of the machine.
        threads: that one search may use; all searches together use at most `threads - 1` beside their own.
        faster: approximate searches; None: they are exact. Closed with the reader.
        find: the exact search, on the CPU or a device; not together with `faster`.

    Raises:
        LockHeld: a living reader has this name.
        BadArgument: an argument cannot be taken; so says every method of one of its own.
    """

    def __init__(
        self,
        folder: Path,
        partitions: int,
        *,
        clock: Clock,
        lease_s: float,
        name: str,
        threads: int = 1,
        faster: Faster | None = None,
        find: Find = nearest,
    ) -> None:
        if faster is not None and find is not nearest:
            raise BadArgument("approximate searches run on the CPU; pass either faster or find")
        self._clock = clock
        self._crew = Crew(arguments.whole("threads", threads, 1))
        self._faster = faster
        self._find = find
        self._versions = Versions(folder, partitions, clock=clock, lease_s=lease_s, name=name)

    @property
    def generation(self) -> str:
        """The generation's name."""
        return self._versions.generation

    @property
    def watermark(self) -> dict[int, int]:
        """Partition -> last applied offset, inclusive, as last refreshed; -1 for an empty one."""
        return self._versions.watermark

    def refresh(self) -> dict[int, int]:
        """Takes in what the writers committed and renews the lease. Cheap when nothing changed.

        Returns:
            The watermark.

        Raises:
            Retryable: a folder is being replaced, or the disk refuses.
            Damaged, ForeignFormat: a partition cannot be read.
            Closed: the reader was closed.
        """
        return self._versions.refresh()

    def keep(self) -> None:
        """Refreshes once a quarter of the lease is gone: between the questions of long work. Raises as `refresh`."""
        self._versions.keep()

    def rest(self) -> None:
        """Gives up the lease until the next `refresh`, so that no takedown waits for a reader that asks nothing.

        Not while a query is in progress.
        """
        self._versions.rest()

    def close(self) -> None:
        """Ends the lease and lets go of the files. Not while a query is in progress."""
        if self._faster is not None:
            self._faster.close()
        self._versions.close()
        self._crew.close()

    def search(
        self,
        code: bytes,
        k: int,
        *,
        scope: Scope = "all",
        exclude_pins: Collection[str] = frozenset(),
        exclude_sha256: Collection[bytes] = frozenset(),
        label: str | None = None,
        category: str | None = None,
        buyable: bool | None = None,
        limit_s: float | None = None,
        within: int | None = None,
        only_pins: Collection[str] | None = None,
        board: str | None = None,
    ) -> SearchResult:
        """The exact k nearest codes; the arguments are those of `indexer.answers.Query`.

        A pin among the nearest that changed meanwhile makes the reader refresh and search again.

        Raises:
            LeaseExpired: refresh first.
            SearchTimeout: `limit_s` passed.
            BadArgument: an argument cannot be taken.
        """
        query = Query(
            code,
            k,
            scope,
            exclude_pins,
            exclude_sha256,
            label,
            category,
            buyable,
            limit_s,
            within,
            only_pins,
            board,
        )
        return self.search_many([query])[0]

    def search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        """Answers many queries together, in about a third of the time that they take one by one.

        All are asked of one version; those whose nearest pins changed meanwhile are asked again of a newer one.

        Raises: as `search` does.
        """
        arguments.all_of("queries", queries, Query)
        started = self._clock.monotonic()
        asked = OpenQueries(queries)
        for _ in range(_TRIES):
            with self._versions.asking() as version:
                self._ask(asked, version, started, held=False)
            if not asked:
                break
            self.refresh()
        for _ in range(_HELD_TRIES):
            if not asked:
                break
            self._ask_held(asked, started)
        return asked.results()

    def _ask_held(self, asked: OpenQueries, started: float) -> None:
        """Asks what the catalogues hold while nothing moves; leaves open what has a pin that was deleted meanwhile."""
        answered: dict[int, SearchResult] = {}
        with suppress(NotInView), self._versions.still() as version:
            answered = self._ask(asked, version, started, held=True)
        self.refresh()
        for number, result in answered.items():
            if self._any_gone(result):
                asked.reopen(number)

    def _any_gone(self, result: SearchResult) -> bool:
        """Whether one of the pins was deleted, as last refreshed."""
        pins: defaultdict[int, set[str]] = defaultdict(set)
        for hit in result.hits:
            pins[partition_of(hit.pin_id.encode(), self._versions.partitions)].add(hit.pin_id)
        with self._versions.asking() as version:
            return any(
                row is None or row.order.deleted
                for one in version
                for row in one.catalogue.rows(sorted(pins[one.view.partition]))
            )

    def _ask(self, asked: OpenQueries, version: Version, started: float, *, held: bool) -> dict[int, SearchResult]:
        """Answers those that are open, as far as nothing changed meanwhile."""
        empty = dict.fromkeys(range(self._versions.partitions), -1)

        def elapsed() -> float:
            return self._clock.monotonic() - started

        def answering(queries: Sequence[Query]) -> list[SearchResult | None]:
            bits = version[0].identity.bits if version else len(queries[0].code) * 8

            def ask(some: Sequence[Query], find: Find) -> list[SearchResult | None]:
                return answer(version, some, bits, elapsed, held=held, crew=self._crew, find=find)

            found = ask(queries, self._find) if self._faster is None else self._faster.search(queries, ask)
            return [None if one is None else SearchResult(one.hits, empty | one.watermark) for one in found]

        return asked.ask(answering)

    def pin(self, pin_id: str) -> Entry | None:
        """The pin's winning record, deletes included; None when the index never heard of it.

        Raises:
            LeaseExpired: refresh first.
        """
        number = partition_of(arguments.text("pin_id", pin_id).encode(), self._versions.partitions)
        return self._settled(lambda version: _pin(version, number, pin_id))

    def at_hand(self, pin_id: str) -> Entry | None:
        """As `pin`, from the version at hand alone, so that nothing is waited for but the row: for event loops.

        Raises:
            LeaseExpired, NotInView: refresh first, or ask `pin`.
        """
        number = partition_of(arguments.text("pin_id", pin_id).encode(), self._versions.partitions)
        with self._versions.asking() as version:
            return _pin(version, number, pin_id)

    def pins(self, pin_ids: Sequence[str]) -> list[Entry | None]:
        """The winning records of many pins, in their order, each as `pin` gives it; quicker than one by one."""
        wanted = arguments.texts("pin_ids", pin_ids)
        return self._settled(lambda version: _pins(version, self._versions.partitions, wanted))

    def _settled(self, ask: Callable[[Version], Answer]) -> Answer:
        """Asks, again at a newer version while rows turn out to be newer than the version at hand."""
        for _ in range(_TRIES):
            try:
                with self._versions.asking() as version:
                    return ask(version)
            except NotInView:
                self.refresh()
        with self._versions.asking() as version:
            return ask(version)

    def pins_with(self, image_sha256: bytes) -> list[str]:
        """The live pins whose picture has this sha256, ascending."""
        arguments.sha256("image_sha256", image_sha256)
        with self._versions.asking() as version:
            return sorted(pin_id for one in version for pin_id in one.catalogue.pins_with(image_sha256))

    def newest(self, n: int, before: tuple[int, str] | None = None) -> list[Entry]:
        """The newest live pins by (recorded_at, pin_id), descending.

        Args:
            n: at most so many.
            before: (recorded_at, pin_id) of the last one seen; only those behind it.
        """
        n = arguments.whole("n", n, 0)
        stop = None
        if before is not None:
            recorded_at, pin_id = arguments.place("before", before)
            stop = I64.pack(recorded_at) + pin_id.encode()
        return self._settled(lambda version: _newest(version, n, stop))

    def newest_places(self, n: int) -> list[tuple[int, str]]:
        """(recorded_at, pin_id) of what `newest` gives, without reading a record."""
        n = arguments.whole("n", n, 0)
        with self._versions.asking() as version:
            found = [place for place, _ in _newest_places(version, n, None)]
        return [(I64.unpack_from(place)[0], place[I64.size :].decode()) for place in found]

    def document_frequency(self, annotations: Sequence[str]) -> tuple[int, Mapping[str, int]]:
        """(live pins with annotations, annotation -> how many of them carry it)."""
        annotations = arguments.texts("annotations", annotations)
        keys = [annotation.encode() for annotation in annotations]
        with self._versions.asking() as version:
            return merge_frequencies(
                (one.state.documents, dict(zip(annotations, one.catalogue.numbers("df", keys), strict=True)))
                for one in version
            )

    def about(self, query: Mapping[str, float], n: int) -> list[tuple[float, Entry]]:
        """The n live pins that are most about some words, with their scores, best first: annotation search.

        Args:
            query: word -> weight, words as `indexer.words.words_of` writes them; the formula stands there too.
            n: at most so many.
        """
        wanted = arguments.weights("query", query)
        n = arguments.whole("n", n, 0)
        return self._settled(lambda version: _about(version, wanted, n, self._versions.partitions))

    def size(self) -> IndexSize:
        """What the index holds."""
        with self._versions.asking() as version:
            states = [one.state for one in version]
        return IndexSize(
            sum(state.live_pins for state in states),
            sum(state.deleted_pins for state in states),
            sum(state.objects for state in states),
            sum(state.codes for state in states),
            sum(state.documents for state in states),
        )

    def takedown_complete(self, pin_ids: Iterable[str]) -> bool:
        """Whether no answer of this generation on this machine can hold these pins, also after a power loss.

        True when each pin's delete is in the catalogue, the writer's durable offset has passed it, and every leased
        reader answers from behind it. Refreshes first. A pin that the index never heard of is not taken down.
        """
        pin_ids = arguments.texts("pin_ids", pin_ids)
        self.refresh()
        wanted: dict[int, tuple[bytes, int]] = {}
        with self._versions.asking() as version:
            followed = {one.view.partition: one for one in version}
            for pin_id in pin_ids:
                number = partition_of(pin_id.encode(), self._versions.partitions)
                one = followed.get(number)
                row = None if one is None else one.catalogue.rows([pin_id])[0]
                if one is None or row is None or not row.order.deleted:
                    return False
                offset = max(row.offset, wanted.get(number, (b"", -1))[1])
                wanted[number] = (one.state.incarnation, offset)
        return self._versions.all_behind(wanted)


def _pin(version: Version, number: int, pin_id: str) -> Entry | None:
    for one in version:
        if one.view.partition == number:
            row = one.catalogue.rows([pin_id])[0]
            return None if row is None else read_entry(row, one.view)
    return None


def _about(version: Version, query: Mapping[str, float], n: int, partitions: int) -> list[tuple[float, Entry]]:
    found = words.best(version, query, n)
    entries = [(score, _pin(version, partition_of(pin_id.encode(), partitions), pin_id)) for score, pin_id in found]
    return [(score, entry) for score, entry in entries if entry is not None and not entry.record.deleted]


def _pins(version: Version, partitions: int, pin_ids: Sequence[str]) -> list[Entry | None]:
    found: dict[str, Entry] = {}
    numbers = [partition_of(pin_id.encode(), partitions) for pin_id in pin_ids]
    for one in version:
        mine = [pin_id for pin_id, number in zip(pin_ids, numbers, strict=True) if number == one.view.partition]
        for pin_id, row in zip(mine, one.catalogue.rows(mine), strict=True):
            if row is not None:
                found[pin_id] = read_entry(row, one.view)
    return [found.get(pin_id) for pin_id in pin_ids]


def _newest(version: Version, n: int, stop: bytes | None) -> list[Entry]:
    entries: list[Entry] = []
    for place, one in _newest_places(version, n, stop):
        row = one.catalogue.rows([place[I64.size :].decode()])[0]
        if row is not None and not row.order.deleted:
            entries.append(read_entry(row, one.view))
    return entries


def _newest_places(version: Version, n: int, stop: bytes | None) -> list[tuple[bytes, Followed]]:
    """Keys of the family `newest`, the newest first, each with its partition."""
    keys: list[tuple[bytes, Followed]] = []
    for one in version:
        with one.catalogue.scan("newest", b"", stop, back=True) as found:
            keys.extend((key, one) for (key, _), _ in zip(found, range(n), strict=False))
    keys.sort(key=lambda each: each[0], reverse=True)
    return keys[:n]
