"""Related Pins put together from the settings: co-occurrence, the re-ranking model, and examples out of the stream."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from consumers.saves import read_save
from discovery.related.answers import IdfMemory
from discovery.related.attribution import examples, impressions
from discovery.related.examples import write
from discovery.related.model import CONTROL, LinearModel, load
from dotstream.clock import SystemClock
from dotstream.errors import Misconfigured, Poison, Unavailable
from indexer.cooccurrence import BOARDS, PINS, CoOccurrence, Rules
from indexer.keyed_reader import KeyedReader
from indexer.past_saves import PastSaves
from indexer.reader import IndexReader
from ops.generations import active_generation, read_generations
from ops.settings import Settings
from ops.states import store_folder
from ops.topics import TopicNames
from producers.events import check_engagement
from producers.events_pb2 import EngagementEvent
from producers.kafka import KafkaConnection
from producers.whole_topic import KafkaWholeTopic, Logged

READ_LIMIT_S = 600.0
DAY_MS = 86_400_000


def co_occurrence_of(settings: Settings, past: PastSaves | None = None) -> CoOccurrence:
    """Reads what the saves worker of this data folder keeps, empty while there is nothing; `past` to look back by."""
    partitions = settings.topics.keyed_partitions
    related = settings.related
    return CoOccurrence(
        KeyedReader(store_folder(settings, BOARDS), BOARDS, partitions),
        KeyedReader(store_folder(settings, PINS), PINS, partitions),
        Rules(
            half_life_ms=int(related.half_life_days * DAY_MS),
            window_ms=int(related.window_days * DAY_MS),
            boards_max=related.boards,
            members_max=related.board_pins,
        ),
        past,
    )


def related_model_of(settings: Settings) -> LinearModel:
    """The model that the settings name, else the control.

    Raises:
        Misconfigured: the file is no model.
    """
    return CONTROL if settings.related.model is None else load(settings.related.model)


def stream_examples(settings: Settings, out: Path, progress: Callable[[str], None]) -> int:
    """Writes examples out of topics `engagements` and `saves`, the index and the saves kept; returns how many.

    Raises:
        Retryable: Kafka or the index is away.
        Misconfigured: there is no active generation, or nothing in the topic.
    """
    names, connection = TopicNames(settings.topics.prefix), settings.kafka.connection()
    progress("reading engagements")
    answers = impressions(engagements_of(connection, names.events.engagements))
    if not answers:
        raise Misconfigured("topic engagements tells of no impression with request_id and query_pin_id")
    progress("reading saves")
    past = past_of(settings, connection, names.events.saves)
    active = active_generation(read_generations(connection, names.generations))
    if active is None:
        raise Misconfigured("no generation is active; start the stream first")
    folder, name = settings.data.absolute() / "index" / active.name, f"related-{uuid.uuid4().hex[:8]}"
    reader = IndexReader(folder, active.partitions, clock=SystemClock(), lease_s=settings.index.lease_s, name=name)
    with contextlib.closing(reader), contextlib.closing(co_occurrence_of(settings, past)) as together:
        reader.refresh()
        together.refresh()
        progress(f"{len(answers)} answers")
        return write(out, examples(answers, reader, together, IdfMemory(reader, SystemClock()).of))


def engagements_of(connection: KafkaConnection, topic: str) -> Iterator[EngagementEvent]:
    """Every good event of the topic up to its present end; bad ones are the dead letters of others.

    A time after the log's own is that, as it is for saves.
    """
    for record in _records_of(connection, topic):
        with contextlib.suppress(Poison):
            event = check_engagement(record.key, record.value, record.timestamp_ms)
            event.event_time = min(event.event_time, record.timestamp_ms)
            yield event


def past_of(settings: Settings, connection: KafkaConnection, topic: str) -> PastSaves:
    """The saves that the topic still has up to its present end, read as the saves worker reads them."""
    past = PastSaves(settings.saves.board_pins, settings.saves.pin_boards)
    for record in _records_of(connection, topic):
        with contextlib.suppress(Poison):
            past.add(*read_save(record.key, record.value, record.timestamp_ms))
    return past


def _records_of(connection: KafkaConnection, topic: str) -> Iterator[Logged]:
    whole = KafkaWholeTopic(connection, topic, client_id="dotstream-related")
    try:
        extent = whole.open()
        at = dict(extent.first)
        whole.start(at)
        deadline = time.monotonic() + READ_LIMIT_S
        while any(at[number] < end for number, end in extent.end.items()):
            if time.monotonic() > deadline:
                raise Unavailable(f"{topic} was not read to its end within {READ_LIMIT_S:.0f} s")
            records, moved = whole.read(1_000, 1.0)
            at.update(moved)
            yield from records
    finally:
        whole.close()
