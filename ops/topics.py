"""Every topic of the stream, declared once, and created or checked on a cluster.

Partition counts, retention and the prefix are settings; their defaults here are those of the local stack. Size limits
and compaction follow from the contracts and are not.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, TopicCollection

# The package re-exports these without saying so.
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
    TopicDescription,
)

from dotstream.errors import DotstreamError, Misconfigured, Unavailable
from producers.kafka import KafkaConnection, translate
from producers.publisher import MAX_EVENT_BYTES, EventTopics

DEAD_SUFFIX = ".dead"
DEAD_HEADROOM = 64 << 10  # bytes that a dead letter may add to its event: reason, detail and coordinates
DAY_MS = 86_400_000


@dataclass(frozen=True)
class TopicSettings:
    """What an operator may choose about the topics.

    Attributes:
        prefix: stands before every topic's name, as "shop1." does.
        event_partitions: of pins and pins.backfill.
        keyed_partitions: of saves, engagements, tags and pairs, which workers keep by key; never changes.
        record_partitions: of objects.<generation> and dots; never changes within a generation.
        event_retention_ms: of the event topics.
        dead_retention_ms: of the dead letters.
        replication: copies of each partition; 1 on the local stack, 3 in production.
        min_insync: copies that must have a record before it counts as written.
    """

    prefix: str = ""
    event_partitions: int = 4
    keyed_partitions: int = 4
    record_partitions: int = 4
    event_retention_ms: int = 7 * DAY_MS
    dead_retention_ms: int = 30 * DAY_MS
    replication: int = 1
    min_insync: int = 1


@dataclass(frozen=True)
class TopicSpec:
    """What a topic must be.

    Attributes:
        name: with its prefix.
        partitions: how many.
        compacted: whether the last record of each key is kept for ever, or all records for `retention_ms`.
        retention_ms: how long records are kept; -1 for ever. On a compacted topic: how long a null value is.
        max_message_bytes: the largest batch of records that the broker takes.
        min_compaction_lag_ms: how long each record stays before compaction may drop it.
        fixed_partitions: records are found by their partition, so another count is an error and not a difference.
    """

    name: str
    partitions: int
    compacted: bool = False
    retention_ms: int = 7 * DAY_MS
    max_message_bytes: int = MAX_EVENT_BYTES
    min_compaction_lag_ms: int = 0
    fixed_partitions: bool = False

    def config(self) -> dict[str, str]:
        """The topic's settings in Kafka's words."""
        common = {"max.message.bytes": str(self.max_message_bytes), "compression.type": "producer"}
        if self.compacted:
            lag, kept = str(self.min_compaction_lag_ms), str(self.retention_ms)
            return {**common, "cleanup.policy": "compact", "min.compaction.lag.ms": lag, "delete.retention.ms": kept}
        return {**common, "cleanup.policy": "delete", "retention.ms": str(self.retention_ms)}


@dataclass(frozen=True)
class TopicNames:
    """The names of the topics under one prefix."""

    prefix: str = ""

    @property
    def events(self) -> EventTopics:
        return EventTopics.prefixed(self.prefix)

    @property
    def dots(self) -> str:
        return f"{self.prefix}dots"

    @property
    def pairs(self) -> str:
        return f"{self.prefix}pairs"

    @property
    def generations(self) -> str:
        return f"{self.prefix}generations"

    def objects(self, generation: str) -> str:
        return f"{self.prefix}objects.{generation}"

    @staticmethod
    def dead(topic: str) -> str:
        """The dead letters of an input topic, whose name has its prefix already."""
        return topic + DEAD_SUFFIX


def event_topics(settings: TopicSettings) -> list[TopicSpec]:
    """The topics pins, pins.backfill, saves, engagements and tags, each with its dead letters."""
    names = TopicNames(settings.prefix).events
    kept_ms = settings.event_retention_ms
    inputs = [
        TopicSpec(name, settings.event_partitions, retention_ms=kept_ms) for name in (names.pins, names.pins_backfill)
    ]
    inputs += [
        TopicSpec(name, settings.keyed_partitions, retention_ms=kept_ms, fixed_partitions=True)
        for name in (names.saves, names.engagements, names.tags)
    ]
    return [spec for topic in inputs for spec in (topic, dead_letters(topic, settings))]


def pair_topics(settings: TopicSettings) -> list[TopicSpec]:
    """The topic pairs, by which the saves worker tells a pin's partition what happened on a board, and its letters."""
    pairs = TopicSpec(
        TopicNames(settings.prefix).pairs,
        settings.keyed_partitions,
        compacted=True,
        retention_ms=DAY_MS,
        fixed_partitions=True,
    )
    return [pairs, dead_letters(pairs, settings)]


def record_topics(settings: TopicSettings) -> list[TopicSpec]:
    """The topics dots and generations, which all generations share."""
    names = TopicNames(settings.prefix)
    dots = TopicSpec(names.dots, settings.record_partitions, compacted=True, retention_ms=DAY_MS, fixed_partitions=True)
    generations = TopicSpec(names.generations, 1, compacted=True, retention_ms=DAY_MS, fixed_partitions=True)
    return [dots, generations]


def generation_topics(settings: TopicSettings, generation: str) -> list[TopicSpec]:
    """The topic objects.<generation> with its dead letters.

    A record is kept at least as long as any topic could still bring an older event of its pin: what was written last
    is not always what wins, and the index owner must have seen both.
    """
    longest = max(settings.event_retention_ms, settings.dead_retention_ms)
    objects = TopicSpec(
        TopicNames(settings.prefix).objects(generation),
        settings.record_partitions,
        compacted=True,
        retention_ms=longest,
        min_compaction_lag_ms=longest,
        fixed_partitions=True,
    )
    return [objects, dead_letters(objects, settings)]


def dead_letters(topic: TopicSpec, settings: TopicSettings) -> TopicSpec:
    """The topic that takes what cannot be processed of `topic`: the same events, and why."""
    return TopicSpec(
        TopicNames.dead(topic.name),
        1,
        retention_ms=settings.dead_retention_ms,
        max_message_bytes=topic.max_message_bytes + DEAD_HEADROOM,
    )


def all_topics(settings: TopicSettings, generations: Sequence[str]) -> list[TopicSpec]:
    """All of the above, for these generations."""
    objects = [spec for generation in generations for spec in generation_topics(settings, generation)]
    return [*event_topics(settings), *pair_topics(settings), *objects, *record_topics(settings)]


@dataclass(frozen=True)
class Report:
    """What `ensure` found.

    Attributes:
        created: names of the topics that it created.
        existing: names of those that were there.
        differences: one sentence for each way in which an existing topic is not as declared. Nothing was changed.
    """

    created: tuple[str, ...] = ()
    existing: tuple[str, ...] = ()
    differences: tuple[str, ...] = field(default=())


def ensure(
    connection: KafkaConnection,
    specs: Sequence[TopicSpec],
    *,
    settings: TopicSettings | None = None,
    limit_s: float = 30,
) -> Report:
    """Creates the topics that are missing and compares the others with their declaration; never changes one.

    It can be called again, and by several processes at once.

    Args:
        connection: the cluster; the principal needs CREATE, DESCRIBE and DESCRIBE_CONFIGS on the topics.
        specs: the topics.
        settings: replication and min_insync of what is created.
        limit_s: time for all of it.

    Raises:
        Misconfigured: a topic whose records are found by partition has another partition count; the message names all.
        Unavailable: the cluster did not answer in time.
        DotstreamError: what else Kafka said, translated.
    """
    admin = AdminClient(connection.config())
    deadline = time.monotonic() + limit_s
    names = [spec.name for spec in specs]
    with _naming(connection):
        before = _described(admin, names, limit_s)
        missing = [spec for spec in specs if spec.name not in before]
        created = _create(missing, admin, settings or TopicSettings(), deadline)
        present = _wait_until_led(admin, names, deadline)
        existing = [spec for spec in specs if spec.name not in created]
        _check_partitions(existing, present)
        differences = _differences(admin, existing, present, deadline)
    return Report(tuple(created), tuple(spec.name for spec in existing), differences)


def topic_id(connection: KafkaConnection, name: str, *, limit_s: float = 30) -> str:
    """The id that the cluster gave the topic when it was created; a topic made anew under the name has another.

    Returns:
        22 characters of URL-safe base64, as Kafka's own tools print it.

    Raises:
        Misconfigured: the topic does not exist.
        Unavailable: the cluster did not answer in time.
    """
    require(connection, [name], limit_s=limit_s)
    described = _described(AdminClient(connection.config()), [name], limit_s)[name]
    return str(described.topic_id).replace("+", "-").replace("/", "_")


def require(connection: KafkaConnection, names: Sequence[str], *, limit_s: float = 30) -> None:
    """Returns when all these topics exist.

    Raises:
        Misconfigured: some do not; the message names them.
        Unavailable: the cluster did not answer in time.
    """
    with _naming(connection):
        found = _described(AdminClient(connection.config()), names, limit_s)
    missing = sorted(set(names) - found.keys())
    if missing:
        names_of = ", ".join(missing)
        raise Misconfigured(f"no topic {names_of} on {connection.bootstrap}; `dotstream topics ensure` creates topics")


@contextlib.contextmanager
def _naming(connection: KafkaConnection) -> Iterator[None]:
    """Says of an absence which cluster is absent."""
    try:
        yield
    except Unavailable as error:
        raise Unavailable(f"{connection.bootstrap}: {error}") from error


def _described(admin: AdminClient, names: Sequence[str], limit_s: float) -> dict[str, TopicDescription]:
    """The topics of these names that exist."""
    if not names:
        return {}
    found: dict[str, TopicDescription] = {}
    answers = admin.describe_topics(TopicCollection(list(names)), request_timeout=max(limit_s, 0.1))
    for name, answer in answers.items():
        try:
            found[name] = answer.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise _away(error) from error
    return found


def _away(error: KafkaException) -> DotstreamError:
    """The error, said as an absent cluster where it only says that time ran out."""
    if error.args[0].code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):
        return Unavailable(f"Kafka did not answer: {error.args[0].str()}")
    return translate(error)


def _create(specs: Sequence[TopicSpec], admin: AdminClient, settings: TopicSettings, deadline: float) -> list[str]:
    """Creates these topics; returns the names of those that nobody else had created meanwhile."""
    if not specs:
        return []
    insync = {"min.insync.replicas": str(settings.min_insync)}
    wanted = [
        NewTopic(spec.name, spec.partitions, settings.replication, config={**spec.config(), **insync}) for spec in specs
    ]
    created = []
    for name, done in admin.create_topics(wanted, request_timeout=max(deadline - time.monotonic(), 0.1)).items():
        try:
            done.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise _away(error) from error
    return created


def _wait_until_led(admin: AdminClient, names: Sequence[str], deadline: float) -> dict[str, TopicDescription]:
    """Waits until every partition of these topics has a leader: what was just created is not served at once."""
    while (left := deadline - time.monotonic()) > 0:
        present = _described(admin, names, left)
        led = [name for name, topic in present.items() if all(part.leader for part in topic.partitions)]
        if len(led) == len(set(names)):
            return present
        time.sleep(0.02)
    raise Unavailable(f"topics {', '.join(sorted(names))} had no leaders in time")


def _check_partitions(specs: Sequence[TopicSpec], present: Mapping[str, TopicDescription]) -> None:
    wrong = [
        f"{spec.name} has {len(present[spec.name].partitions)} partitions instead of {spec.partitions}"
        for spec in specs
        if spec.fixed_partitions and len(present[spec.name].partitions) != spec.partitions
    ]
    if wrong:
        raise Misconfigured(f"{'; '.join(wrong)}: set the partition count to the cluster's, or start a new generation")


def _differences(
    admin: AdminClient, specs: Sequence[TopicSpec], present: Mapping[str, TopicDescription], deadline: float
) -> tuple[str, ...]:
    if not specs:
        return ()
    found = []
    resources = {spec.name: ConfigResource(ResourceType.TOPIC, spec.name) for spec in specs}
    answers = admin.describe_configs(list(resources.values()), request_timeout=max(deadline - time.monotonic(), 0.1))
    for spec in specs:
        count = len(present[spec.name].partitions)
        if count != spec.partitions:
            found.append(f"{spec.name} has {count} partitions, declared are {spec.partitions}")
        try:
            actual = answers[resources[spec.name]].result()
        except KafkaException as error:
            raise _away(error) from error
        found += [
            f"{spec.name} has {key}={actual[key].value}, declared is {value}"
            for key, value in spec.config().items()
            if actual[key].value != value
        ]
    return tuple(found)
