"""Puts the API together from the settings and runs it: `dotstream serve`."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack

from prometheus_client import CollectorRegistry, Counter, Histogram

from discovery.api import create_app
from discovery.dead_letters import KafkaDeadLetters
from discovery.dot_store import DotStore
from discovery.dot_view import DotView
from discovery.eyes import TritonEyes
from discovery.filters import FASHION, Group
from discovery.metrics import DeviceMetrics, RecallMetrics
from discovery.ports import Engagement, NoEngagement, NoReports, NoTags, Reports, Tags
from discovery.reports import KafkaReports
from discovery.rerank import Weights
from discovery.server import free_port, server
from discovery.services import Limits, Services
from dotstream.clock import SystemClock
from dotstream.errors import Misconfigured, Retryable, Unavailable
from dotstream.memory import settle
from indexer.answers import Find
from indexer.engagement import ENGAGEMENT, EngagementReader
from indexer.faster import Faster
from indexer.keyed_reader import KeyedReader
from indexer.list_search import ListSearch
from indexer.reader import IndexReader
from indexer.records_pb2 import GenerationRecord
from indexer.search import nearest, warm
from indexer.tags import TAGS, TagReader
from ops.device import exact_search
from ops.generations import active_generation, check_pipeline, read_generations
from ops.models import picture_limits, pictures_of, pipeline_of, triton_client, vision_settings
from ops.related import co_occurrence_of, related_model_of
from ops.settings import Settings
from ops.states import store_folder
from ops.topics import TopicNames, require
from producers.publisher import EventTopics, Publisher
from producers.whole_topic import KafkaWholeTopic
from triton_models.breaker import State

log = logging.getLogger(__name__)
GENERATION_LIMIT_S = 120.0
REPORT_LIMIT_S = 2.0


class TritonMetrics:
    """Counts the API's own calls to Triton."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "dotstream_api_triton_requests",
            "Calls to Triton by model and outcome.",
            ["model", "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "dotstream_api_triton_seconds",
            "Time of one call to Triton, retries included.",
            ["model"],
            registry=registry,
        )
        self._retries = Counter(
            "dotstream_api_triton_retries", "Calls to Triton that were tried again.", ["model"], registry=registry
        )

    def inferred(self, model: str, *, rows: int, seconds: float, retries: int, outcome: str) -> None:  # noqa: ARG002
        """See triton_models.calls.Observer."""
        self._calls.labels(model, outcome).inc()
        self._seconds.labels(model).observe(seconds)
        self._retries.labels(model).inc(retries)

    def breaker_changed(self, model: str, state: State) -> None:
        """See triton_models.calls.Observer."""
        log.warning("circuit breaker of %s: %s", model, state)


def run(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Raises:
        Misconfigured: a setting does not fit, or the port is taken.
        Unavailable: no generation is active yet and none became so in time.
    """
    with ExitStack() as owned:
        app = create_app(services(settings, owned))
        host = settings.api.host
        port = free_port(host, settings.api.port)
        if settings.api.port not in {0, port}:
            raise Misconfigured(f"port {settings.api.port} on {host} is taken; choose another with --port")
        log.info("API: http://%s:%d", host, port)
        serving = server(app, host, port)
        settle()
        serving.run()


def services(settings: Settings, owned: ExitStack) -> Services:
    """The parts behind the API; those with something to close are closed by `owned`."""
    names = TopicNames(settings.topics.prefix)
    connection = settings.kafka.connection()
    generation, beside = _generation(settings, names)
    warm(generation.bits)
    registry = CollectorRegistry()
    client = triton_client(settings, TritonMetrics(registry), extra=False)
    owned.callback(client.close)
    clock = SystemClock()
    faster = _faster(settings, registry)
    find: Find = nearest
    if faster is None:
        find = exact_search(settings.index, generation.bits, clock=clock, observer=DeviceMetrics(registry))
    reader = IndexReader(
        settings.data.absolute() / "index" / generation.name,
        generation.partitions,
        clock=clock,
        lease_s=settings.index.lease_s,
        name=f"api-{uuid.uuid4().hex[:8]}",
        threads=settings.index.search_threads,
        faster=faster,
        find=find,
    )
    owned.callback(reader.close)
    tags, engagement = _of_objects(settings, owned, beside=beside)
    together = co_occurrence_of(settings)
    owned.callback(together.close)
    events = names.events
    dead = [names.dead(topic) for topic in (events.pins, events.pins_backfill, names.objects(generation.name))]
    api = settings.api
    return Services(
        index=reader,
        dots=DotView(
            DotStore(settings.data.absolute() / (f"dots-{generation.name}" if beside else "dots")),
            KafkaWholeTopic(connection, names.dots, client_id="dotstream-api"),
            only=generation.name if beside else None,
        ),
        pictures=pictures_of(settings),
        eyes=TritonEyes(client, vision_settings(settings), picture_limits(settings)),
        registry=registry,
        together=together,
        related_model=related_model_of(settings),
        boot=uuid.uuid4().hex,
        tags=tags,
        weights=Weights(
            settings.discovery.annotations,
            settings.discovery.category,
            settings.discovery.engagement,
            settings.discovery.near_duplicate,
        ),
        fashion=Group(
            frozenset(settings.discovery.fashion_labels) or FASHION.labels,
            frozenset(settings.discovery.fashion_categories) or FASHION.categories,
        ),
        engagement=engagement,
        reports=NoReports() if beside else _reports(settings, events, owned),
        dead_letters=KafkaDeadLetters(connection, dead),
        limits=Limits(
            body_bytes=api.max_body_bytes,
            search_s=api.search_limit_s,
            search_threads=api.searches,
            requests_per_s=api.requests_per_s,
        ),
        allowed_hosts=api.known_hosts,
    )


def _of_objects(settings: Settings, owned: ExitStack, *, beside: bool) -> tuple[Tags, Engagement]:
    """Tags and engagement, which name a pin's objects by their number in the active generation: others have neither."""
    if beside:
        return NoTags(), NoEngagement()
    tags = TagReader(KeyedReader(store_folder(settings, TAGS), TAGS, settings.topics.keyed_partitions))
    owned.callback(tags.close)
    counts = KeyedReader(store_folder(settings, ENGAGEMENT), ENGAGEMENT, settings.topics.keyed_partitions)
    engagement = EngagementReader(counts)
    owned.callback(engagement.close)
    return tags, engagement


def _reports(settings: Settings, topics: EventTopics, owned: ExitStack) -> Reports:
    if not settings.api.reports_taken:
        return NoReports()
    connection, limit_s = settings.kafka.connection(), REPORT_LIMIT_S

    def publisher() -> Publisher:
        return Publisher(
            connection, topics=topics, source="/dotstream/api", block_limit_s=limit_s, delivery_limit_s=limit_s
        )

    reports = KafkaReports(publisher, limit_s=limit_s)
    owned.callback(reports.close)
    return reports


def _faster(settings: Settings, registry: CollectorRegistry) -> Faster | None:
    index = settings.index
    if not index.approximate:
        return None
    return Faster(
        ListSearch(index.probe_share),
        check_every=index.recall_every,
        observer=RecallMetrics(registry),
    )


def _generation(settings: Settings, names: TopicNames) -> tuple[GenerationRecord, bool]:
    """The generation to search, and whether it stands beside the active one; on an empty cluster one is about to come.

    Raises:
        Misconfigured: the named one is not there, is retired, or was made with other models or settings.
        Unavailable: no generation became active in time.
    """
    connection = settings.kafka.connection()
    require(connection, [names.dots, names.generations])
    deadline = time.monotonic() + GENERATION_LIMIT_S
    while time.monotonic() < deadline:
        try:
            known = read_generations(connection, names.generations)
        except Retryable as error:
            log.warning("waiting for Kafka: %s", error)
        else:
            active = active_generation(known)
            if active is not None:
                named = settings.api.generation or active.name
                return (active, False) if named == active.name else (_named(settings, named, known), True)
        time.sleep(0.2)
    raise Unavailable(f"no generation is active in {names.generations}; start a worker first")


def _named(settings: Settings, name: str, known: Mapping[str, GenerationRecord]) -> GenerationRecord:
    record = known.get(name)
    if record is None or record.state == GenerationRecord.STATE_RETIRED:
        raise Misconfigured(f"there is no generation {name!r} to search; there are {', '.join(sorted(known))}")
    check_pipeline(record, pipeline_of(settings))
    if record.state == GenerationRecord.STATE_BUILDING:
        log.warning("generation %s is being filled: answers come from what it holds so far", name)
    return record
