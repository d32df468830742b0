"""Puts one worker process together from the settings and runs it: `dotstream work ROLE`.

This is the only place where settings, clients and the parts of consumers/ meet. A role's own parts are imported when it
is built, so that no worker pays for another's libraries.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry

from consumers.kafka_log import KafkaLog, KafkaLogSettings, Slot
from consumers.metrics import WorkerMetrics
from consumers.runtime import RuntimeSettings, Worker
from dotstream.clock import Clock, SystemClock
from dotstream.errors import Misconfigured
from dotstream.memory import give_back, settle
from indexer.records_pb2 import GenerationRecord
from ops.generations import Pipeline, ensure_generation
from ops.models import pipeline_of
from ops.probes import Probes
from ops.settings import Settings
from ops.topics import DEAD_HEADROOM, TopicNames, require
from producers.publisher import MAX_EVENT_BYTES

if TYPE_CHECKING:
    from consumers.records import RecordWriter
    from consumers.state_worker import Job, StateWorker
    from indexer.keyed_state import KeyedState
    from indexer.shard import Shard

log = logging.getLogger(__name__)

ROLES = ("vision", "takedowns", "index", "dots", "crops", "saves", "tags", "engagements")
TOPICS_LIMIT_S = 60.0
SYNC_THREADS = 4
"""So many states of a saves worker wait for the disk at once, which takes their writes together."""


@dataclass(frozen=True, slots=True)
class Post:
    """What every role needs."""

    settings: Settings
    names: TopicNames
    metrics: WorkerMetrics
    clock: Clock

    @property
    def scope(self) -> str:
        """The generation that the worker's group is of; empty for none."""
        return ""

    def log(self, role: str, topics: list[str]) -> KafkaLog:
        slot = Slot(role, self.scope, self.settings.worker.slot, self.settings.topics.prefix)
        limits = KafkaLogSettings(session_timeout_s=self.settings.kafka.session_timeout_s)
        return KafkaLog(self.settings.kafka.connection(), topics, slot, self.clock, limits)


@dataclass(frozen=True, slots=True)
class Workplace(Post):
    """What a role needs that works for one generation."""

    generation: GenerationRecord
    pipeline: Pipeline

    @property
    def scope(self) -> str:
        return self.settings.generation

    @property
    def feature(self) -> str:
        """Name of the searched codes."""
        return self.pipeline.features[0]

    def writer(self) -> RecordWriter:
        from consumers.records import RecordWriter

        return RecordWriter(
            topic=self.names.objects(self.settings.generation),
            generation=self.settings.generation,
            detector=self.generation.detector,
            embedder=self.generation.embedder,
            features=self.pipeline.features,
            source=f"dotstream/{self.metrics.role}",
            clock=self.clock,
        )


class Runs(Protocol):
    """A worker of any role."""

    @property
    def ready(self) -> bool: ...

    def run(self, stop: Callable[[], bool]) -> None: ...


Builder = Callable[[Post, contextlib.ExitStack], Runs]
GenerationBuilder = Callable[[Workplace, contextlib.ExitStack], Runs]


def run(role: str, settings: Settings, *, stop: threading.Event) -> int:
    """Runs one worker until `stop` is set, then drains it. Returns the exit status.

    Raises:
        Misconfigured: the role, a setting or the generation does not fit.
        Fatal: the worker must not go on.
    """
    build = BUILDERS.get(role)
    if build is None:
        raise Misconfigured(f"there is no worker {role!r}; there are {', '.join(ROLES)}")
    registry = CollectorRegistry()
    metrics = WorkerMetrics(role, registry)
    holder: list[Runs] = []
    with contextlib.ExitStack() as owned:
        probes = Probes(
            settings.worker.metrics_host,
            settings.worker.metrics_port,
            registry,
            healthy=lambda: True,
            ready=lambda: bool(holder) and holder[0].ready,
        )
        owned.enter_context(probes)
        log.info("%s worker: metrics on http://%s/metrics", role, probes.address)
        worker = build(Post(settings, TopicNames(settings.topics.prefix), metrics, SystemClock()), owned)
        holder.append(worker)
        settle()
        worker.run(stop.is_set)
    log.info("%s worker: stopped", role)
    return 0


def _of_generation(build: GenerationBuilder) -> Builder:
    """A builder that is given the generation too."""

    def built(post: Post, owned: contextlib.ExitStack) -> Runs:
        return build(_workplace(post), owned)

    return built


def _workplace(post: Post) -> Workplace:
    settings, names = post.settings, post.names
    connection = settings.kafka.connection()
    objects = names.objects(settings.generation)
    require(connection, [names.events.pins, objects, names.dots, names.generations], limit_s=TOPICS_LIMIT_S)
    pipeline = pipeline_of(settings)
    generation = ensure_generation(
        connection,
        names.generations,
        settings.generation,
        pipeline,
        partitions=settings.topics.record_partitions,
        now_ms=post.clock.now_ms(),
    )
    return Workplace(settings, names, post.metrics, post.clock, generation, pipeline)


@contextlib.contextmanager
def _pool(size: int, name: str) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(size, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _vision(place: Workplace, owned: contextlib.ExitStack) -> Worker:
    from consumers.vision import VisionProcessor
    from ops.models import decoder_of, fetcher_of, pictures_of, results_of, triton_client, vision_of

    settings, vision = place.settings, place.settings.vision
    client = triton_client(settings, place.metrics)
    owned.callback(client.close)
    fetcher = fetcher_of(settings, place.clock)
    owned.callback(fetcher.close)
    processor = VisionProcessor(
        fetcher=fetcher,
        decode=decoder_of(settings),
        vision=vision_of(settings, client),
        pictures=pictures_of(settings),
        cache=results_of(settings),
        fingerprint=place.generation.fingerprint,
        bits=place.generation.bits,
        extra_bits=place.pipeline.extra_bits,
        records=place.writer(),
        prepare=owned.enter_context(_pool(vision.prepare_threads, "prepare")),
        clock=place.clock,
        metrics=place.metrics,
    )
    runtime = RuntimeSettings(
        batch_max=vision.batch_max,
        window=vision.window,
        drain_limit_s=settings.worker.drain_s,
        dead_size_limit=MAX_EVENT_BYTES + DEAD_HEADROOM,
    )
    pins = place.names.events.pins if vision.input == "pins" else place.names.events.pins_backfill
    pool = owned.enter_context(_pool(vision.concurrency, "vision"))
    role = "vision" if vision.input == "pins" else "vision-backfill"
    return Worker(
        place.log(role, [pins]), processor, pool, place.clock, place.metrics, settings=runtime, rested=give_back
    )


def _takedowns(place: Workplace, owned: contextlib.ExitStack) -> Worker:
    from consumers.takedowns import TakedownProcessor

    processor = TakedownProcessor(place.writer(), place.clock, place.metrics)
    runtime = RuntimeSettings(batch_max=1_000, window=2, dead_letters=False)
    pool = owned.enter_context(_pool(1, "takedowns"))
    return Worker(
        place.log("takedowns", [place.names.events.pins]), processor, pool, place.clock, place.metrics, settings=runtime
    )


def _index(place: Workplace, owned: contextlib.ExitStack) -> StateWorker[Shard]:
    from consumers.index import IndexJob
    from consumers.state_worker import StateWorker, StateWorkerSettings
    from indexer.compaction import Compactor
    from ops.shards import longest_retention_ms, shard_opener

    settings = place.settings
    compactor = Compactor(
        settings.index.compact_every_s,
        settings.index.compact_dead_share,
        lambda compacted: place.metrics.stage("compaction_lock", compacted.held_s),
    )
    owned.callback(compactor.stop)
    compactor.start()
    job = IndexJob(
        shard_opener(settings, place.feature, place.generation.bits, clock=place.clock, opened_one=compactor.watch),
        place.clock,
        place.metrics,
        generation=settings.generation,
        bits=place.generation.bits,
        feature=place.feature,
        tombstone_retention_ms=longest_retention_ms(settings),
    )
    limits = StateWorkerSettings(batch_max=settings.index.batch_max, dead_size_limit=MAX_EVENT_BYTES + DEAD_HEADROOM)
    topics = [place.names.objects(settings.generation)]
    return StateWorker(place.log("index", topics), job, place.clock, place.metrics, settings=limits)


def _dots(place: Workplace, owned: contextlib.ExitStack) -> Worker:
    from consumers.dot_decider import DotDecider
    from consumers.dot_ledger import DotLedger
    from consumers.dots import Deciding, DotsProcessor
    from consumers.dots_again import DotsAgain
    from indexer.reader import IndexReader
    from indexer.search import warm
    from ops.device import exact_search
    from ops.dots import again_settings, dot_settings
    from ops.generation_watch import GenerationWatch
    from producers.whole_topic import KafkaWholeTopic

    warm(place.generation.bits)
    settings, names, name = place.settings, place.names, f"dots-{place.settings.worker.slot}"
    index = settings.index
    reader = IndexReader(
        settings.index_folder,
        place.generation.partitions,
        clock=place.clock,
        lease_s=index.lease_s,
        name=name,
        threads=index.search_threads,
        find=exact_search(index, place.generation.bits, clock=place.clock, observer=place.metrics),
    )
    owned.callback(reader.close)
    ledger = DotLedger(settings.data.absolute() / "ledger" / f"{settings.generation}-{settings.worker.slot}")
    owned.callback(ledger.close)
    followed, generations = (
        KafkaWholeTopic(settings.kafka.connection(), topic, client_id=f"dotstream-{name}")
        for topic in (names.dots, names.generations)
    )
    owned.callback(followed.close)
    owned.callback(generations.close)
    decider = DotDecider(
        reader, dot_settings(settings), generation=settings.generation, clock=place.clock, metrics=place.metrics
    )
    deciding = Deciding(
        reader=reader,
        decider=decider,
        standing=GenerationWatch(generations, place.generation, place.clock).standing,
        generation=settings.generation,
        topic=names.dots,
        source="dotstream/dots",
        clock=place.clock,
        metrics=place.metrics,
    )
    processor = DotsProcessor(deciding, bits=place.generation.bits)
    spare = DotsAgain(deciding, ledger=ledger, followed=followed, settings=again_settings(settings))
    runtime = RuntimeSettings(batch_max=settings.dots.batch_max, window=2, dead_letters=False)
    pool = owned.enter_context(_pool(1, "dots"))
    log = place.log("dots", [names.objects(settings.generation)])
    return Worker(log, processor, pool, place.clock, place.metrics, settings=runtime, spare=spare)


def _crops(place: Workplace, owned: contextlib.ExitStack) -> StateWorker[KeyedState]:
    from consumers.crops import CropSettings, CropsJob, crop_store
    from consumers.state_worker import StateWorker, StateWorkerSettings
    from indexer.reader import IndexReader
    from ops.models import box_embedder, pictures_of, triton_client
    from ops.states import state_opener

    settings, crops, engagements = place.settings, place.settings.crops, place.names.events.engagements
    require(settings.kafka.connection(), [engagements], limit_s=TOPICS_LIMIT_S)
    reader = IndexReader(
        settings.index_folder,
        place.generation.partitions,
        clock=place.clock,
        lease_s=settings.index.lease_s,
        name=f"crops-{settings.worker.slot}",
    )
    owned.callback(reader.close)
    client = triton_client(settings, place.metrics)
    owned.callback(client.close)
    job = CropsJob(
        state_opener(settings, crop_store(settings.generation), place.clock),
        reader=reader,
        embed=box_embedder(settings, client, pictures_of(settings)),
        records=place.writer(),
        clock=place.clock,
        metrics=place.metrics,
        settings=CropSettings(people_min=crops.people, iou_min=crops.overlap, objects_max=crops.max_objects),
    )
    limits = StateWorkerSettings(batch_max=crops.batch_max, dead_size_limit=MAX_EVENT_BYTES + DEAD_HEADROOM)
    return StateWorker(place.log("crops", [engagements]), job, place.clock, place.metrics, settings=limits)


def _saves(post: Post, owned: contextlib.ExitStack) -> StateWorker[KeyedState]:
    from consumers.saves import SavesJob, SavesSettings
    from consumers.state_worker import StateWorker, StateWorkerSettings
    from indexer.cooccurrence import BOARDS, PINS
    from ops.states import state_opener

    settings, saves, pairs = post.settings, post.names.events.saves, post.names.pairs
    require(settings.kafka.connection(), [saves, pairs], limit_s=TOPICS_LIMIT_S)
    syncs = owned.enter_context(_pool(SYNC_THREADS, "sync"))
    job = SavesJob(
        state_opener(settings, BOARDS, post.clock, syncs),
        state_opener(settings, PINS, post.clock, syncs),
        SavesSettings(
            saves=saves,
            pairs=pairs,
            pair_partitions=settings.topics.keyed_partitions,
            board_pins=settings.saves.board_pins,
            pin_boards=settings.saves.pin_boards,
        ),
        post.clock,
        post.metrics,
    )
    limits = StateWorkerSettings(batch_max=settings.saves.batch_max, dead_size_limit=MAX_EVENT_BYTES + DEAD_HEADROOM)
    return StateWorker(post.log("saves", [saves, pairs]), job, post.clock, post.metrics, settings=limits)


def _tags(post: Post, owned: contextlib.ExitStack) -> StateWorker[KeyedState]:  # noqa: ARG001  nothing else to own
    from consumers.tags import TagsJob
    from indexer.tags import TAGS
    from ops.states import state_opener

    job = TagsJob(state_opener(post.settings, TAGS, post.clock), post.clock, post.metrics)
    return _keyed(post, "tags", post.names.events.tags, job)


def _engagements(post: Post, owned: contextlib.ExitStack) -> StateWorker[KeyedState]:  # noqa: ARG001  as above
    from consumers.engagements import EngagementsJob
    from indexer.engagement import ENGAGEMENT
    from ops.states import state_opener

    job = EngagementsJob(state_opener(post.settings, ENGAGEMENT, post.clock), post.clock, post.metrics)
    return _keyed(post, "engagements", post.names.events.engagements, job)


def _keyed(post: Post, role: str, topic: str, job: Job[KeyedState]) -> StateWorker[KeyedState]:
    """A worker that keeps one topic's events by key."""
    from consumers.state_worker import StateWorker, StateWorkerSettings

    require(post.settings.kafka.connection(), [topic], limit_s=TOPICS_LIMIT_S)
    limits = StateWorkerSettings(batch_max=2_000, dead_size_limit=MAX_EVENT_BYTES + DEAD_HEADROOM)
    return StateWorker(post.log(role, [topic]), job, post.clock, post.metrics, settings=limits)


GENERATION_BUILDERS: dict[str, GenerationBuilder] = {
    "vision": _vision,
    "takedowns": _takedowns,
    "index": _index,
    "dots": _dots,
    "crops": _crops,
}
BUILDERS: dict[str, Builder] = {
    **{role: _of_generation(build) for role, build in GENERATION_BUILDERS.items()},
    "saves": _saves,
    "tags": _tags,
    "engagements": _engagements,
}
