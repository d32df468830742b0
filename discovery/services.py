"""What the API is made of: the parts it asks and the limits it keeps. ops/ fills it in and hands it to `create_app`."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from discovery.dot_view import DotView
from discovery.filters import FASHION, Group
from discovery.ports import (
    DeadLetters,
    Engagement,
    Eyes,
    Index,
    NoDeadLetters,
    NoEngagement,
    NoReports,
    NoTags,
    Pictures,
    Reports,
    Tags,
)
from discovery.related.answers import NothingTogether, TogetherSource
from discovery.related.model import CONTROL, LinearModel
from discovery.rerank import Weights
from dotstream.clock import Clock, SystemClock


def files_at_once() -> int:
    """Files and connections that this process may have open (`ulimit -n`)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost.

    Attributes:
        connections: open at once; of more, the longest idle ones are closed.
        requests: answered at once. Those that wait for their client's bytes, and event streams, do not count.
        header_s: from the first byte of a request, or from the connection's start, to the end of its header.
        body_bytes: of a request's body.
        body_s, body_stall_s: from the header to the body's end, and without a byte of it.
        search_s: from the request to its answer, waiting included.
        scan_s: of the index scans of one search; what was found by then is answered as partial.
        read_s: the same for look-ups.
        search_threads, search_waiting: searches of the index at once, and how many more may wait.
        look_waiting: searches that may wait for Triton, which `search_threads` others ask, in threads of their own.
        picture_threads, picture_waiting: stored pictures that are fetched or scaled at once, and how many may wait.
        indexed_wait_s: how long a request waits for `indexed_up_to`.
        event_clients: of `GET /events` at once.
        heartbeat_s: between comments on a silent stream.
        requests_per_s, burst: of one client address, for searches and reports; 0 switches the limit off.
        thumbnail_cache_bytes: of scaled pictures kept in memory.
        refresh_s: how often the index reader looks for news and renews its lease.
    """

    connections: int = field(default_factory=lambda: min(1000, files_at_once() // 2))
    requests: int = 256
    header_s: float = 10.0
    body_bytes: int = 20_000_000
    body_s: float = 60.0
    body_stall_s: float = 10.0
    search_s: float = 8.0
    scan_s: float = 2.0
    read_s: float = 3.0
    search_threads: int = 4
    search_waiting: int = 256
    look_waiting: int = 64
    picture_threads: int = 4
    picture_waiting: int = 256
    indexed_wait_s: float = 2.0
    event_clients: int = 200
    heartbeat_s: float = 15.0
    requests_per_s: float = 50.0
    burst: int = 200
    thumbnail_cache_bytes: int = 64 << 20
    refresh_s: float = 0.2


@dataclass(frozen=True)
class Services:
    """The parts behind the API. They are started and closed by their owner, except `dots`, which the app starts.

    Attributes:
        index: reader of the shards of the generation that is searched: the active one, or one beside it.
        dots: not started yet; the app starts and closes it.
        pictures: the store that vision fills.
        eyes: Triton's models with the generation's own crop settings.
        dead_letters: for lineage.
        tags: experts' products, for Shop-the-Look.
        engagement: what people did with results, for the boost of known good ones.
        weights: of re-ranking.
        reports: where what people did is published.
        together: image-board co-occurrence, for Related Pins.
        related_model: what re-ranks Related Pins.
        fashion: what Similar Looks searches.
        registry: its metrics are answered at /metrics.
        limits: what one request may cost.
        boot: names this process in the ids of events; a new one for each start.
        allowed_hosts: names that the Host header may have; "*" for any.
    """

    index: Index
    dots: DotView
    pictures: Pictures
    eyes: Eyes
    registry: CollectorRegistry
    boot: str
    dead_letters: DeadLetters = field(default_factory=NoDeadLetters)
    tags: Tags = field(default_factory=NoTags)
    engagement: Engagement = field(default_factory=NoEngagement)
    reports: Reports = field(default_factory=NoReports)
    weights: Weights = field(default_factory=Weights)
    together: TogetherSource = field(default_factory=NothingTogether)
    related_model: LinearModel = CONTROL
    fashion: Group = FASHION
    limits: Limits = field(default_factory=Limits)
    clock: Clock = field(default_factory=SystemClock)
    allowed_hosts: tuple[str, ...] = ("*",)
