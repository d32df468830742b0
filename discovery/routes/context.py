"""What every route has at hand: the app's parts, and the ways to run work and to wait for the index."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from discovery import watermark
from discovery.announce import Announcer
from discovery.crops import Crops
from discovery.errors import Problem, deleted_pin, unknown_pin
from discovery.feed import Feed
from discovery.lens import Lens
from discovery.metrics import ApiMetrics
from discovery.ports import Found
from discovery.rate import RateLimit
from discovery.related.answers import RelatedPins
from discovery.search import Search
from discovery.services import Services
from discovery.thumbnails import Thumbnails
from discovery.watermark import Watermark
from discovery.work import Workroom
from indexer.errors import LeaseExpired, NotInView
from producers.events_pb2 import EngagementEvent, SaveEvent

S = TypeVar("S")
T = TypeVar("T")

POLL_S = 0.02


class Context:
    """The parts of a running app, made once by `create_app`.

    Work has a room of threads for each part that it may have to wait for, so that a part that hangs holds up nothing
    that does without it: `reads` and `work` ask the index only, `looks` Triton (and the picture store for a drawn box),
    `fetches` the picture store, `traces` and `telling` the broker.
    """

    def __init__(self, services: Services) -> None:
        limits = services.limits
        self.services = services
        self.limits = limits
        self.metrics = ApiMetrics(services.registry)
        self.feed = Feed(services.boot, clients=limits.event_clients)
        self.reads = Workroom("read", threads=4, waiting=512)
        self.work = Workroom("search", threads=limits.search_threads, waiting=limits.search_waiting)
        self.looks = Workroom("look", threads=limits.search_threads, waiting=limits.look_waiting)
        self.fetches = Workroom("picture", threads=limits.picture_threads, waiting=limits.picture_waiting)
        self.traces = Workroom("lineage", threads=2, waiting=64)
        self.telling = Workroom("report", threads=1, waiting=64)
        self.rate = RateLimit(limits.requests_per_s, limits.burst, services.clock)
        self.thumbnails = Thumbnails(services.pictures, cache_bytes=limits.thumbnail_cache_bytes)
        self.crops = Crops(services.eyes, services.index.generation)
        self.search = Search(
            services.index,
            services.pictures,
            self.crops,
            tags=services.tags,
            engagement=services.engagement,
            weights=services.weights,
            limit_s=limits.scan_s,
            timed=self.metrics.search_stage,
        )
        self.lens = Lens(
            services.index,
            self.crops,
            weights=services.weights,
            limit_s=limits.scan_s,
            timed=self.metrics.search_stage,
        )
        self.related = RelatedPins(
            services.index,
            services.together,
            services.clock,
            model=services.related_model,
            weights=services.weights,
            limit_s=limits.scan_s,
        )
        self.announcer = Announcer(
            services.index, services.dots, self.feed, self.metrics, services.clock, refresh_s=limits.refresh_s
        )
        self.metrics.watch(
            streams=lambda: self.feed.clients,
            rooms=self.rooms,
            dots_behind=lambda: services.dots.behind,
            dots_rebuilds=lambda: services.dots.rebuilds,
            dots_undecodable=lambda: services.dots.undecodable,
            dots_unnoticed=lambda: services.dots.unnoticed,
            crop_hits=lambda: self.crops.codes.hits,
            crop_misses=lambda: self.crops.codes.misses,
        )

    @property
    def rooms(self) -> tuple[Workroom, ...]:
        """Everywhere that work is done."""
        return self.reads, self.work, self.looks, self.fetches, self.traces, self.telling

    def start(self) -> None:
        """Starts following dots and index."""
        self.services.dots.start()
        self.announcer.start()

    def close(self) -> None:
        """Ends streams and threads, and closes the dot view."""
        self.feed.close()
        self.announcer.close()
        for room in self.rooms:
            room.close()
        self.services.dots.close()

    async def read(self, look: Callable[[], T]) -> T:
        """The result of a look-up, off the event loop."""
        return await self.reads.run(lambda: self._leased(look), self.limits.read_s)

    async def heavy(self, work: Callable[[], T]) -> T:
        """The result of a search of the index."""
        return await self.work.run(lambda: self._leased(work), self.limits.search_s)

    async def looked(self, look: Callable[[], S], work: Callable[[S], T]) -> T:
        """The result of a search of the index by what Triton says; the time limit of a search is for both together."""
        now = asyncio.get_running_loop().time
        deadline = now() + self.limits.search_s
        seen = await self.looks.run(lambda: self._leased(look), self.limits.search_s)
        return await self.work.run(lambda: self._leased(lambda: work(seen)), deadline - now())

    async def fetch(self, get: Callable[[], T]) -> T:
        """What is made of a stored picture."""
        return await self.fetches.run(get, self.limits.search_s)

    async def trace(self, find: Callable[[], T]) -> T:
        """The result of a look-up that asks the broker too."""
        return await self.traces.run(lambda: self._leased(find), self.limits.search_s)

    async def tell(self, events: Sequence[EngagementEvent | SaveEvent]) -> None:
        """Publishes what people did, one request after the other, so that a broker that is away stops nothing else."""
        await self.telling.run(lambda: self.services.reports.publish(events), self.limits.read_s)

    def _leased(self, work: Callable[[], T]) -> T:
        """Does the work, once more with a fresh lease when the process had stood still for longer than the old one."""
        try:
            return work()
        except LeaseExpired:
            self.services.index.refresh()
            return work()

    def word(self, offsets: Mapping[int, int]) -> str:
        """`indexed_up_to` for an answer that reflects these offsets."""
        return watermark.write(Watermark(self.services.index.generation, offsets))

    async def pin(self, pin_id: str) -> Found:
        """The live pin, looked up on the event loop where the index has it at hand.

        Two rows out of RocksDB's memory, or a few blocks of its tables, take a thirtieth of a millisecond; changing to
        a thread and back takes longer, and on busy cores each change may wait its turn.

        Raises: as `live`.
        """
        try:
            found = self.services.index.at_hand(pin_id)
        except (LeaseExpired, NotInView):
            found = None
        if found is None or found.record.deleted:
            return await self.read(lambda: self.live(pin_id))
        return found

    def live(self, pin_id: str) -> Found:
        """The pin as the index has it, looked for once more in fresh state when it is not there.

        Raises:
            Problem: unknown-pin, deleted-pin.
        """
        index = self.services.index
        found = index.pin(pin_id)
        if found is None:
            index.refresh()
            found = index.pin(pin_id)
        if found is None:
            raise unknown_pin(pin_id)
        if found.record.deleted:
            raise deleted_pin(pin_id)
        return found

    async def reach(self, word: str | None) -> None:
        """Waits until the index has come as far as a client has seen it.

        Raises:
            Problem: bad-watermark, other-generation; not-yet-indexed when the time ran out.
        """
        if word is None:
            return
        try:
            wanted = watermark.read(word)
        except ValueError as error:
            raise Problem("bad-watermark", str(error)) from None
        index = self.services.index
        if wanted.generation != index.generation:
            raise Problem("other-generation", f"{index.generation} is searched here, not {wanted.generation[:80]!r}")
        deadline = asyncio.get_running_loop().time() + self.limits.indexed_wait_s
        while not wanted.reached_by(await self.read(index.refresh)):
            if asyncio.get_running_loop().time() >= deadline:
                detail = f"the index did not come so far within {self.limits.indexed_wait_s:g} s"
                raise Problem("not-yet-indexed", detail, retry_after_s=1)
            await asyncio.sleep(POLL_S)

    def admit(self, request: Request) -> None:
        """Lets a client's search pass, or says when to come back.

        Raises:
            Problem: too-many-requests.
        """
        wait = self.rate.wait_s(request.client.host if request.client else "")
        if wait:
            raise Problem("too-many-requests", "this address asks too often", retry_after_s=max(1, round(wait)))


async def context_of(request: Request) -> Context:
    """The context of the app that a request came to. A coroutine, as others are called on a thread of their own."""
    context: Context = request.app.state.context
    return context


Here = Annotated[Context, Depends(context_of)]
