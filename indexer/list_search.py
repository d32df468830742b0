"""Approximate search by inverted lists: only codes in the lists of the centres nearest to the query are ranked.

Versions, deletes and filters hold as in an exact search; what can happen is that a neighbour is missed, and faster.py
measures how many are. Lists (lists.py) are made beside the searches, which read all codes that stand in none yet.
probe.py has what one query does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from weakref import ReferenceType, ref

from indexer import arguments
from indexer.asks import Ask
from indexer.background import Background
from indexer.centres import choose, rows_of
from indexer.crew import Crew
from indexer.lists import Lists
from indexer.probe import Probe
from indexer.scan import Nearest
from indexer.search import Candidates, by_view
from indexer.sweeps import Job, Part, Parts, jobs, parts_of, sweep
from indexer.view import View

log = logging.getLogger(__name__)

WORTH_IT = 16_384
"""Fewer codes are read as quickly as lists are looked up."""
_TOGETHER = 16
"""Of queries that come together, up to so many, each asks for `WORTH_IT` more: codes are read once for all of them."""
_NARROW = 8
"""Ranges of more than one in so many bits rule out too little."""
_TAIL, _TAIL_SHARE = 1024, 64
"""New lists are made when more codes than this, and more than one in so many, stand in none."""
_GROWN = 4
"""Centres are chosen anew when there are so many times as many codes."""


class _Ended(Exception):
    """The search was closed while lists were made."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """What searches of some versions share.

    Attributes:
        views: the versions; that they are searched often keeps none of them.
        parts: of these.
        rewrites: how many of their codes had been put back.
        lists: as they were.
        probe: of these lists; None: there were none.
    """

    views: tuple[ReferenceType[View], ...]
    parts: Parts
    rewrites: int
    lists: Lists | None
    probe: Probe | None


class ListSearch:
    """The approximate searches of one reader, and the lists that it makes for them.

    Args:
        share: of the living codes, in the lists that a query looks into, above 0; with 1 answers are exact.
        worth_it: from how many codes on there are lists.

    Attributes:
        share: as given; what it is changed to holds from the next search on.

    Raises:
        BadArgument: an argument is out of its range.
    """

    def __init__(self, share: float, *, worth_it: int = WORTH_IT) -> None:
        self.share = arguments.share("share", share)
        if not self.share:
            raise arguments.refused("share", share, "a number above 0, 1 at most")
        self._worth_it = arguments.whole("worth_it", worth_it, 0)
        self._lists: Lists | None = None
        self._opened: _Opened | None = None
        self._upkeep = Background("lists")
        self._beginning = threading.Lock()
        self._ended = threading.Event()
        self._again_at = 0  # so many codes, after lists could not be made

    def nearest(
        self,
        views: Sequence[View],
        asks: Sequence[Ask],
        *,
        crew: Crew,
        checkpoint: Callable[[], None],
        looked: Callable[[int], None] | None = None,
    ) -> list[list[Candidates]]:
        """As `indexer.search.nearest`, approximately; ranges by distance are exact.

        `looked` is told the number of each ask that was answered approximately.
        """
        checkpoint()
        opened = self._open(views)
        parts, probe = opened.parts, self._probe(opened, len(asks))

        def find(job: Job) -> list[Nearest]:
            return sweep(parts, asks, job, crew, checkpoint)

        found: list[list[Candidates]] = [[]] * len(asks)
        for job in jobs(parts, asks):
            together = job
            if probe is not None and job.rows is None:
                together = Job()
                for number, masks in zip(job.asks, job.masks, strict=True):
                    ask, one = asks[number], None
                    if ask.within >= ask.code.size * 8:
                        one = probe.nearest(ask, number, masks, self.share, find)
                        if looked is not None:
                            looked(number)
                    elif ask.within <= ask.code.size * 8 // _NARROW:
                        one = probe.within(ask, number, masks, find)
                    if one is None:
                        together.asks.append(number)
                        together.masks.append(masks)
                    else:
                        found[number] = by_view(parts, len(views), ask, one)
            if together.asks:
                for number, nearby in zip(together.asks, find(together), strict=True):
                    found[number] = by_view(parts, len(views), asks[number], nearby)
        return found

    def make(self, views: Sequence[View]) -> None:
        """Makes all lists of views now, on this thread; searches do so beside them."""
        self._make(parts_of(views))

    def close(self) -> None:
        """Ends the making of lists and waits for it. Not while a query is in progress."""
        self._ended.set()
        with self._beginning:
            self._upkeep.wait()
        self._opened = None

    def _open(self, views: Sequence[View]) -> _Opened:
        """What searches of these versions share, made once while neither they nor the lists change."""
        last, lists = self._opened, self._lists
        if last is not None and len(views) == len(last.views) and lists is last.lists:
            same = all(known() is view for known, view in zip(last.views, views, strict=True))
            if same and _rewrites(last.parts) == last.rewrites:
                return last
        parts = parts_of(views)
        rewrites = _rewrites(parts)
        probe = Probe(parts, lists) if lists is not None and parts else None
        made = _Opened(tuple(ref(view, self._forget) for view in views), parts, rewrites, lists, probe)
        self._opened = made
        return made

    def _forget(self, _: ReferenceType[View]) -> None:
        """A version has gone; its segments shall not stay for the next search."""
        self._opened = None

    def _probe(self, opened: _Opened, queries: int) -> Probe | None:
        """The lists as they are; None where reading everything is the better way. Sees to it that they are made."""
        total, probe = rows_of(opened.parts), opened.probe
        if total < self._worth_it:
            return None
        if probe is None or probe.missing > max(_TAIL, total // _TAIL_SHARE) or total >= _GROWN * probe.chosen_by:
            self._begin(opened.parts)
        together = total < self._worth_it * min(queries, _TOGETHER)
        return None if together or probe is None or 2 * probe.missing > total else probe

    def _begin(self, parts: Sequence[Part]) -> None:
        """Has lists of these parts made beside the searches, unless others are being made. Where that fails all is read
        as before, until many more codes are there.
        """
        total = rows_of(parts)
        if total < self._again_at:
            return

        def make() -> None:
            try:
                with suppress(_Ended):
                    self._make(parts)
            except Exception:
                self._again_at = total + max(_TAIL, total // _TAIL_SHARE)
                log.exception("no lists were made of %d codes; what stands in none is read", total)

        if self._beginning.acquire(blocking=False):
            try:
                if not self._ended.is_set():
                    self._upkeep.begin(make)
            finally:
                self._beginning.release()

    def _make(self, parts: Sequence[Part]) -> None:
        """Present lists stay in use until the new ones are whole. Centres are chosen anew when the index has grown."""

        def checkpoint() -> None:
            if self._ended.is_set():
                raise _Ended

        lists = self._lists
        if lists is None or rows_of(parts) >= _GROWN * lists.centres.chosen_by:
            self._lists = Lists(choose(parts, checkpoint), parts, None, checkpoint)
        else:
            self._lists = Lists(lists.centres, parts, lists, checkpoint)


def _rewrites(parts: Parts) -> int:
    return sum(part.segment.rewrites for part in parts)
