"""The index as other processes ask it: dots workers, the API, commands. Read-only, over all partitions.

A reader sees committed versions only. `refresh()` moves it to the newest ones and renews its lease; everything else
answers from there, from any thread. When the lease has run out the reader refuses to answer until it is refreshed,
because a takedown no longer waits for it. Partitions that have no folder yet are empty.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from dotstream.clock import Clock
from dotstream.errors import Retryable
from indexer import arguments, words
from indexer.answers import (
    Find,
    Hit,
    Query,
    SearchResult,
    answer,
    merge_frequencies,
    read_entry,
)
from indexer.asks import Scope
from indexer.crew import Crew
from indexer.database import I64
from indexer.disk import disk
from indexer.entries import Entry
from indexer.errors import BadArgument, ForeignFormat, LeaseExpired, NotInView
from indexer.faster import Faster
from indexer.follower import Followed, Follower
from indexer.leases import MAX_PARTITIONS, LeaseFile, Positions, boot_id, read_leases
from indexer.partition import partition_of
from indexer.search import nearest

__all__ = ["Entry", "Hit", "IndexReader", "IndexSize", "Query", "SearchResult"]

_TRIES = 4
_HELD_TRIES = 8
_RENEWED = 0.25
"""Share of a lease that is gone when it is written again."""
Version = tuple[Followed, ...]
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


@dataclass(slots=True)
class _Held:
    """What a lease says: the lowest watermark and the oldest layout of each partition."""

    positions: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    layouts: dict[int, int] = field(default_factory=dict)

    def add(self, one: Followed) -> None:
        """Takes in a version that may be answered from. Two folders of one partition have no common watermark."""
        number, position = one.view.partition, (one.state.incarnation, one.view.watermark)
        known = self.positions.setdefault(number, position)
        if known[0] != position[0]:
            self.positions[number] = (bytes(16), -1)
        elif position < known:
            self.positions[number] = position
        self.layouts[number] = min(one.state.layout, self.layouts.get(number, one.state.layout))


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
        self._folder = arguments.folder("folder", folder)
        partitions = arguments.whole("partitions", partitions, 1, MAX_PARTITIONS)
        if faster is not None and find is not nearest:
            raise BadArgument("approximate searches run on the CPU; pass either faster or find")
        self._clock = clock
        self._lease_s = arguments.seconds("lease_s", lease_s)
        self._crew = Crew(arguments.whole("threads", threads, 1))
        self._faster = faster
        self._find = find
        with disk():
            self._lease = LeaseFile(folder, name, clock)
        scratch = self._lease.scratch
        self._followers = [Follower(folder / str(n), n, scratch, clock) for n in range(partitions)]
        self._refreshing = threading.Lock()
        self._state = threading.Lock()
        self._version: Version = ()
        self._valid_until = float("-inf")
        self._active: dict[int, Version] = {}
        self._asked = 0
        self._leased: tuple[float, _Held] = (float("-inf"), _Held())

    @property
    def generation(self) -> str:
        """The generation's name."""
        return self._folder.name

    @property
    def watermark(self) -> dict[int, int]:
        """Partition -> last applied offset, inclusive, as last refreshed; -1 for an empty one."""
        found = dict.fromkeys(range(len(self._followers)), -1)
        found.update((one.view.partition, one.view.watermark) for one in self._version)
        return found

    def refresh(self) -> dict[int, int]:
        """Takes in what the writers committed and renews the lease. Cheap when nothing changed.

        Returns:
            The watermark.

        Raises:
            Retryable: a folder is being replaced, or the disk refuses.
            Damaged, ForeignFormat: a partition cannot be read.
        """
        with self._refreshing, disk():
            started = self._clock.monotonic()
            if started >= self._valid_until:
                # The lease stands before the pages are read: a takedown that completes from here on waits for it.
                self._renew(started, self._held(()))
            for follower in self._followers:
                follower.refresh()
            version = tuple(follower.now for follower in self._followers if follower.now is not None)
            self._check(version)
            with self._state:
                self._version = version
            self._renew(started, self._held(version))
            self._valid_until = self._leased[0] + self._lease_s
            return self.watermark

    def keep(self) -> None:
        """Refreshes once a quarter of the lease is gone: between the questions of long work. Raises as `refresh`."""
        if self._clock.monotonic() > self._valid_until - self._lease_s * (1 - _RENEWED):
            self.refresh()

    def _check(self, version: Version) -> None:
        for one in version:
            found = (one.identity.generation, one.identity.bits)
            if found != (self.generation, version[0].identity.bits):
                raise ForeignFormat(f"partition {one.identity.partition} holds {found[1]}-bit codes of {found[0]!r}")

    def _held(self, version: Version) -> _Held:
        """What may still be answered from: this version and those of queries in progress, the lowest of each."""
        with self._state:
            versions = [version, *self._active.values()]
        held = _Held()
        for one in (one for each in versions for one in each):
            held.add(one)
        return held

    def _renew(self, started: float, held: _Held) -> None:
        """Writes the lease when what it holds moved or a share of its time is gone."""
        written, known = self._leased
        if held != known or started > written + self._lease_s * _RENEWED:
            self._lease.renew(started + self._lease_s, held.positions, held.layouts)
            self._leased = (started, held)

    @contextmanager
    def _asking(self, other: Version | None = None) -> Iterator[Version]:
        """The version to answer from, or another one, kept in the lease for as long as the answer takes."""
        with self._state:
            version = self._version if other is None else other
            self._asked += 1
            asked = self._asked
            self._active[asked] = version
        try:
            self._check_lease()
            yield version
            self._check_lease()
        finally:
            with self._state:
                del self._active[asked]

    def _check_lease(self) -> None:
        if self._clock.monotonic() >= self._valid_until:
            raise LeaseExpired(f"the reader was not refreshed within its lease of {self._lease_s} s")

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
        results: list[SearchResult | None] = [None] * len(queries)
        for _ in range(_TRIES):
            self._search(queries, results, started)
            if None not in results:
                break
            self.refresh()
        for _ in range(_HELD_TRIES):
            if None not in results:
                break
            self._search_held(queries, results, started)
        found = [result for result in results if result is not None]
        if len(found) < len(results):
            raise Retryable(
                "pins among the nearest changed faster than they could be answered; ask again, or for fewer"
            )
        return found

    def _search_held(self, queries: Sequence[Query], results: list[SearchResult | None], started: float) -> None:
        """Asks what the catalogues hold while no thread refreshes, so that nothing moves; then leaves open what holds a
        pin that was deleted meanwhile.
        """
        before = results.copy()
        with self._refreshing, disk():
            version = tuple(found for one in self._followers if (found := one.committed()) is not None)
            self._search(queries, results, started, held=version)
        self.refresh()
        for number, (result, known) in enumerate(zip(results, before, strict=True)):
            if known is None and result is not None and self._any_gone(result):
                results[number] = None

    def _any_gone(self, result: SearchResult) -> bool:
        """Whether one of the pins was deleted, as last refreshed."""
        pins: defaultdict[int, set[str]] = defaultdict(set)
        for hit in result.hits:
            pins[partition_of(hit.pin_id.encode(), len(self._followers))].add(hit.pin_id)
        with self._asking() as version:
            return any(
                row is None or row.order.deleted
                for one in version
                for row in one.catalogue.rows(sorted(pins[one.view.partition]))
            )

    def _search(
        self,
        queries: Sequence[Query],
        results: list[SearchResult | None],
        started: float,
        *,
        held: Version | None = None,
    ) -> None:
        """Answers those that have no result yet, as far as nothing changed meanwhile."""
        open_ = [number for number, result in enumerate(results) if result is None]
        if not open_:
            return
        with self._asking(held) as version:
            bits = version[0].identity.bits if version else len(queries[0].code) * 8

            def ask(asked: Sequence[Query], find: Find) -> list[SearchResult | None]:
                def elapsed() -> float:
                    return self._clock.monotonic() - started

                return answer(version, asked, bits, elapsed, held=held is not None, crew=self._crew, find=find)

            asked = [queries[number] for number in open_]
            found = ask(asked, self._find) if self._faster is None else self._faster.search(asked, ask)
            empty = dict.fromkeys(range(len(self._followers)), -1)
            for number, result in zip(open_, found, strict=True):
                if result is not None:
                    results[number] = SearchResult(result.hits, empty | result.watermark)

    def pin(self, pin_id: str) -> Entry | None:
        """The pin's winning record, deletes included; None when the index never heard of it.

        Raises:
            LeaseExpired: refresh first.
        """
        number = partition_of(arguments.text("pin_id", pin_id).encode(), len(self._followers))
        return self._settled(lambda version: _pin(version, number, pin_id))

    def at_hand(self, pin_id: str) -> Entry | None:
        """As `pin`, from the version at hand alone, so that nothing is waited for but the row: for event loops.

        Raises:
            LeaseExpired, NotInView: refresh first, or ask `pin`.
        """
        number = partition_of(arguments.text("pin_id", pin_id).encode(), len(self._followers))
        with self._asking() as version:
            return _pin(version, number, pin_id)

    def pins(self, pin_ids: Sequence[str]) -> list[Entry | None]:
        """The winning records of many pins, in their order, each as `pin` gives it; quicker than one by one."""
        wanted = arguments.texts("pin_ids", pin_ids)
        return self._settled(lambda version: _pins(version, len(self._followers), wanted))

    def _settled(self, ask: Callable[[Version], Answer]) -> Answer:
        """Asks, again at a newer version while rows turn out to be newer than the version at hand."""
        for _ in range(_TRIES):
            try:
                with self._asking() as version:
                    return ask(version)
            except NotInView:
                self.refresh()
        with self._asking() as version:
            return ask(version)

    def pins_with(self, image_sha256: bytes) -> list[str]:
        """The live pins whose picture has this sha256, ascending."""
        arguments.sha256("image_sha256", image_sha256)
        with self._asking() as version:
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
        with self._asking() as version:
            found = [place for place, _ in _newest_places(version, n, None)]
        return [(I64.unpack_from(place)[0], place[I64.size :].decode()) for place in found]

    def document_frequency(self, annotations: Sequence[str]) -> tuple[int, Mapping[str, int]]:
        """(live pins with annotations, annotation -> how many of them carry it)."""
        annotations = arguments.texts("annotations", annotations)
        keys = [annotation.encode() for annotation in annotations]
        with self._asking() as version:
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
        return self._settled(lambda version: _about(version, wanted, n, len(self._followers)))

    def size(self) -> IndexSize:
        """What the index holds."""
        with self._asking() as version:
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
        with self._asking() as version:
            followed = {one.view.partition: one for one in version}
            for pin_id in pin_ids:
                number = partition_of(pin_id.encode(), len(self._followers))
                one = followed.get(number)
                row = None if one is None else one.catalogue.rows([pin_id])[0]
                if one is None or row is None or not row.order.deleted:
                    return False
                offset = max(row.offset, wanted.get(number, (b"", -1))[1])
                wanted[number] = (one.state.incarnation, offset)
        if any(self._followers[number].durable() < offset for number, (_, offset) in wanted.items()):
            return False
        return self._leases_passed(wanted)

    def _leases_passed(self, wanted: Positions) -> bool:
        now, boot = self._clock.monotonic(), boot_id()
        return all(
            lease.passed(number, incarnation, offset, now, boot)
            for lease in read_leases(self._folder)
            for number, (incarnation, offset) in wanted.items()
        )

    def rest(self) -> None:
        """Gives up the lease until the next `refresh`, so that no takedown waits for a reader that asks nothing.

        Not while a query is in progress.
        """
        with self._refreshing:
            self._valid_until = float("-inf")
            self._leased = (float("-inf"), _Held())
            self._lease.renew(self._clock.monotonic() - 1.0, {})

    def close(self) -> None:
        """Ends the lease and lets go of the files. Not while a query is in progress."""
        with self._refreshing:
            self._valid_until = float("-inf")
            if self._faster is not None:
                self._faster.close()
            for follower in self._followers:
                follower.close()
            self._version = ()
            self._crew.close()
            self._lease.close()


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
