"""The vision worker: from a pin event to its objects and codes.

A batch is prepared on a pool (check, fetch, store, decode), so that the next batch is decoded while Triton works on the
present one; pictures that no one has seen yet go through the pipeline together; each event becomes one `ObjectRecord`.
A picture is computed once for each fingerprint of the pipeline: results are kept by picture sha256 + fingerprint, and
of batches that meet the same new picture at the same time only one computes it.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Protocol

from consumers.flights import Flights
from consumers.metrics import WorkerMetrics
from consumers.ports import Message, Outcome
from consumers.records import Look, RecordWriter
from dotstream.clock import Clock
from dotstream.errors import Poison, Retryable
from indexer.pictures import PictureStore, ResultCache
from producers.events import check_pin
from producers.events_pb2 import PinEvent
from triton_models.pictures import Picture
from triton_models.seen import BadEntry, Seen, decode_seen, encode_seen

log = logging.getLogger(__name__)

SIZE = struct.Struct(">II")
FLIGHT_LIMIT_S = 120.0


class Fetches(Protocol):
    """Gets the bytes of an event's picture (consumers/fetch.py)."""

    def fetch(self, image: PinEvent.Image) -> bytes: ...


class Sees(Protocol):
    """The vision pipeline (triton_models/pipeline.py)."""

    def see(self, pictures: Sequence[Picture]) -> Sequence[Seen]: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """An event with its picture stored. `picture` is set when this batch has to look at it."""

    event: PinEvent
    sha256: bytes = b""
    ref: str = ""
    flight: Future[Look] | None = None
    picture: Picture | None = None


class VisionProcessor:
    """See `consumers.ports.Processor`. Thread-safe: several batches are processed at once.

    Args:
        decode: the guarded decoder; raises Poison for a picture that must not or cannot be decoded.
        fingerprint: of the whole pipeline, 32 bytes.
        bits: of a searched code.
        extra_bits: of the code of each extra feature.
        prepare: pool on which single pictures are fetched and decoded.
    """

    def __init__(
        self,
        *,
        fetcher: Fetches,
        decode: Callable[[bytes], Picture],
        vision: Sees,
        pictures: PictureStore,
        cache: ResultCache,
        fingerprint: bytes,
        bits: int,
        extra_bits: Sequence[int] = (),
        records: RecordWriter,
        prepare: Executor,
        clock: Clock,
        metrics: WorkerMetrics,
    ) -> None:
        self._fetcher = fetcher
        self._decode = decode
        self._vision = vision
        self._pictures = pictures
        self._cache = cache
        self._fingerprint = fingerprint
        self._bits = bits
        self._extra_bits = tuple(extra_bits)
        self._records = records
        self._prepare_pool = prepare
        self._clock = clock
        self._metrics = metrics
        self._flights: Flights[Look] = Flights()

    def process(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        started = self._clock.monotonic()
        futures = [self._prepare_pool.submit(self._prepare, message) for message in batch]
        prepared, failure = _gather(futures)
        self._metrics.stage("prepare", self._clock.monotonic() - started)
        if failure is not None:
            self._ground(prepared, failure)
            raise failure
        synced = self._prepare_pool.submit(self._pictures.sync)
        self._look([p for p in prepared if isinstance(p, Prepared) and p.picture is not None])
        synced.result(timeout=FLIGHT_LIMIT_S)  # a record must never name a picture that a power loss can take
        return [self._outcome(message, p) for message, p in zip(batch, prepared, strict=True)]

    def _prepare(self, message: Message) -> Prepared | Poison:
        try:
            event = check_pin(message.key, message.value, message.timestamp_ms)
            if event.kind == PinEvent.KIND_DELETED:
                return Prepared(event)
            return self._with_picture(event, self._fetcher.fetch(event.image))
        except Poison as poison:
            return poison.bare()

    def _with_picture(self, event: PinEvent, data: bytes) -> Prepared:
        sha256 = hashlib.sha256(data).digest()
        kept = self._kept(sha256)
        if kept is not None:
            landed: Future[Look] = Future()
            landed.set_result(kept)
            self._metrics.cache("hit")
            return Prepared(event, sha256, self._pictures.put(sha256, data), landed)
        flight, owned = self._flights.claim(sha256)
        if not owned:
            self._metrics.cache("joined")
            return Prepared(event, sha256, self._pictures.put(sha256, data), flight)
        self._metrics.cache("miss")
        try:
            picture = self._decode(data)
            return Prepared(event, sha256, self._pictures.put(sha256, data), flight, picture)
        except BaseException as error:
            self._flights.crash(sha256, error)
            raise

    def _kept(self, sha256: bytes) -> Look | None:
        """The result that an earlier look left, or None; a damaged one counts as none and is written anew."""
        data = self._cache.get(sha256, self._fingerprint)
        if data is None or len(data) < SIZE.size:
            return None
        width, height = SIZE.unpack_from(data)
        try:
            return Look(width, height, decode_seen(data[SIZE.size :], self._bits, self._extra_bits))
        except BadEntry:
            self._metrics.cache("damaged")
            return None

    def _look(self, owned: Sequence[Prepared]) -> None:
        """Looks at the pictures that this batch owns, all together, and lands their flights."""
        if not owned:
            return
        started = self._clock.monotonic()
        pictures = [p.picture for p in owned if p.picture is not None]
        try:
            seen = self._vision.see(pictures)
        except BaseException as error:
            self._ground(owned, error)
            raise
        self._metrics.stage("see", self._clock.monotonic() - started)
        looks = [Look(p.width, p.height, what) for p, what in zip(pictures, seen, strict=True)]
        for prepared, look in zip(owned, looks, strict=True):
            self._flights.land(prepared.sha256, look)
        for prepared, look in zip(owned, looks, strict=True):
            self._keep(prepared.sha256, look)

    def _keep(self, sha256: bytes, look: Look) -> None:
        """Leaves the result for whoever meets the picture next; without it the picture is only looked at again."""
        try:
            self._cache.put(sha256, self._fingerprint, _pack(look))
        except Retryable as error:
            self._metrics.cache("not kept")
            log.warning("a vision result was not kept: %s", error)

    def _ground(self, prepared: Sequence[Prepared | Poison], error: BaseException) -> None:
        for p in prepared:
            if isinstance(p, Prepared) and p.picture is not None:
                self._flights.crash(p.sha256, error)

    def _outcome(self, message: Message, prepared: Prepared | Poison) -> Outcome:
        if isinstance(prepared, Poison):
            return Outcome(poison=prepared)
        event = prepared.event
        if prepared.flight is None:
            return Outcome((self._records.deleted(event, message),))
        try:
            look = prepared.flight.result(timeout=FLIGHT_LIMIT_S)
        except Poison as poison:
            return Outcome(poison=poison.bare())
        except TimeoutError as error:
            raise Retryable(f"another batch did not finish a shared picture within {FLIGHT_LIMIT_S:.0f} s") from error
        try:
            record = self._records.live(event, look, ref=prepared.ref, sha256=prepared.sha256, message=message)
        except Poison as poison:
            return Outcome(poison=poison.bare())
        self._metrics.freshness("record", self._clock.now_ms() - event.event_time)
        return Outcome((record,))


def _gather(
    futures: Sequence[Future[Prepared | Poison]],
) -> tuple[list[Prepared | Poison], BaseException | None]:
    """Waits for all, so that nothing of a failed batch is left running; the first error is the batch's."""
    prepared: list[Prepared | Poison] = []
    failure: BaseException | None = None
    for future in futures:
        error = future.exception()
        if error is None:
            prepared.append(future.result())
        elif failure is None:
            failure = error
    return prepared, failure


def _pack(look: Look) -> bytes:
    return SIZE.pack(look.width, look.height) + encode_seen(look.seen)
