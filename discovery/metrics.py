"""Every metric of the API, declared once: name, unit, and what to do when it looks wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from discovery.work import Workroom

REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.4, 1.0, 2.5, 5.0, 10.0)


class ApiMetrics:
    """The metrics of one API process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Histogram(
            "dotstream_api_request_seconds",
            "Time to answer, by route and status; streams are left out. Slow: compare with the search stages.",
            ["method", "route", "status"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self._search = Histogram(
            "dotstream_api_search_stage_seconds",
            "Time of a search stage: look (decode, crop, Triton), scan (index), rank, annotate, words "
            "(annotation search). Slow look: see Triton.",
            ["stage"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self._problems = Counter(
            "dotstream_api_problems",
            "Problem documents answered, by type. Rising unavailable or busy: a part is away, or load is too high.",
            ["type"],
            registry=registry,
        )
        self._streams = Gauge("dotstream_api_event_clients", "Clients of GET /events at present.", registry=registry)
        self._work = Gauge(
            "dotstream_api_work_held",
            "Pieces of work running or waiting at present, by room: read and search (index), look (Triton), picture "
            "(picture store), lineage and report (broker). One that stays high: what it waits for hangs.",
            ["room"],
            registry=registry,
        )
        self._dots_behind = Gauge(
            "dotstream_api_dots_behind_records",
            "Records of topic dots that this process still had to read at its last start. Above 0: it is not ready.",
            registry=registry,
        )
        self.index_errors = Counter(
            "dotstream_api_index_errors",
            "Times the index could not be refreshed. Rising: see the log.",
            registry=registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered. `route` is the template, never the path."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def problem(self, slug: str) -> None:
        """A problem document was answered."""
        self._problems.labels(slug).inc()

    @contextmanager
    def search_stage(self, stage: str) -> Iterator[None]:
        """Times a stage of a search."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._search.labels(stage).observe(time.monotonic() - started)

    def watch(
        self,
        *,
        streams: Callable[[], float],
        rooms: Sequence[Workroom],
        dots_behind: Callable[[], float],
        dots_rebuilds: Callable[[], float],
        dots_undecodable: Callable[[], float],
        dots_unnoticed: Callable[[], float],
        crop_hits: Callable[[], float],
        crop_misses: Callable[[], float],
    ) -> None:
        """Reads these whenever the metrics are asked for."""
        self._streams.set_function(streams)
        for room in rooms:
            self._work.labels(room.name).set_function(partial(_held, room))
        self._dots_behind.set_function(dots_behind)
        self.registry.register(_DotCounts(dots_rebuilds, dots_undecodable, dots_unnoticed))
        self.registry.register(_CropCounts(crop_hits, crop_misses))


def _held(room: Workroom) -> float:
    return room.held


class _CropCounts(Collector):
    """What the cache of crop codes counts itself."""

    def __init__(self, hits: Callable[[], float], misses: Callable[[], float]) -> None:
        self._hits = hits
        self._misses = misses

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            "dotstream_api_crop_hits", "Crops whose code was kept from an earlier search.", value=self._hits()
        )
        yield CounterMetricFamily(
            "dotstream_api_crop_misses", "Crops that were cut and embedded.", value=self._misses()
        )


class _DotCounts(Collector):
    """What the dot view counts itself, read whenever the metrics are asked for."""

    def __init__(
        self, rebuilds: Callable[[], float], undecodable: Callable[[], float], unnoticed: Callable[[], float]
    ) -> None:
        self._rebuilds = rebuilds
        self._undecodable = undecodable
        self._unnoticed = unnoticed

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            "dotstream_api_dots_rebuilds",
            "Times the dots were rebuilt because the topic is another.",
            value=self._rebuilds(),
        )
        yield CounterMetricFamily(
            "dotstream_api_dots_undecodable",
            "Records of topic dots that were left out. Above 0: see the log for who else writes there.",
            value=self._undecodable(),
        )
        yield CounterMetricFamily(
            "dotstream_api_dots_unnoticed",
            "Changed dots that the event stream passed over because too many came at once.",
            value=self._unnoticed(),
        )


class RecallMetrics:
    """What approximate searches miss, by the queries that were answered exactly too."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._expected = Counter(
            "dotstream_api_neighbours_expected",
            "True nearest neighbours of the approximate searches that were checked.",
            registry=registry,
        )
        self._found = Counter(
            "dotstream_api_neighbours_found",
            "Those of them that the approximate answer had: recall is the quotient of both rates. Below 0.95: raise "
            "index.probe_share, or switch index.approximate off.",
            registry=registry,
        )

    def checked(self, found: int, expected: int) -> None:
        """An approximate answer was held against the exact one."""
        self._found.inc(found)
        self._expected.inc(expected)


class DeviceMetrics:
    """What becomes of searches on a GPU."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._failed = Counter(
            "dotstream_api_device_failures",
            "Searches that failed on the GPU and were answered by the CPU. Rising: look in the log; for `memory` give "
            "index.device_bytes less, or other users of the GPU.",
            ["reason"],
            registry=registry,
        )
        self._held = Gauge("dotstream_api_device_bytes", "Codes and offsets on the GPU.", registry=registry)
        self._left = Gauge(
            "dotstream_api_device_rows_left",
            "Codes of the last search that did not fit on the GPU. Above 0: raise index.device_bytes.",
            registry=registry,
        )

    def fell_back(self, reason: str) -> None:
        """The CPU answered instead."""
        self._failed.labels(reason).inc()

    def holds(self, held: int, left: int) -> None:
        """So many bytes lie on the device, and so many rows were left out."""
        self._held.set(held)
        self._left.set(left)
