"""`dotstream takedown PIN_ID…`: deletes that nothing can follow, and the proof that no answer holds the pins."""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import counted, say, settings_of

if TYPE_CHECKING:
    from indexer.reader import IndexReader
    from ops.settings import Settings

LOOK_EVERY_S = 0.05


def takedown(
    pin_ids: Annotated[list[str], typer.Argument(metavar="PIN_ID…", help="Pins to take down.")],
    limit: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for completion.")] = 60.0,
) -> None:
    """Take pins down for good. Status 0 only when they are in no answer, and will be in none after a power loss either.

    The deletes are published whatever happens next; run the command again to wait on.
    """
    from dotstream.errors import Unavailable

    settings = settings_of().settings
    begun = time.monotonic()
    _publish(settings, pin_ids)
    say(f"{counted(len(pin_ids), 'takedown')} in Kafka; waiting for the index and its readers")
    with ExitStack() as owned:
        readers = _readers(settings, owned)
        while not all(reader.takedown_complete(pin_ids) for reader in readers):
            if time.monotonic() - begun > limit:
                raise Unavailable(
                    f"not complete within {limit:g} s: the takedowns are in Kafka and will take effect; "
                    "are the takedown and index workers running (dotstream status)?"
                )
            time.sleep(LOOK_EVERY_S)
    print(f"{counted(len(pin_ids), 'pin')} taken down ({time.monotonic() - begun:.2f} s)")


def _publish(settings: Settings, pin_ids: list[str]) -> None:
    from producers.events import TAKEDOWN_VERSION
    from producers.events_pb2 import PinEvent
    from producers.publisher import EventTopics, Publisher

    topics = EventTopics.prefixed(settings.topics.prefix)
    with Publisher(settings.kafka.connection(), topics=topics, source="/dotstream/takedown", linger_ms=0) as publisher:
        for pin_id in pin_ids:
            now_ms = time.time_ns() // 1_000_000
            publisher.pin(
                PinEvent(pin_id=pin_id, kind=PinEvent.KIND_DELETED, version=TAKEDOWN_VERSION, event_time=now_ms)
            )


def _readers(settings: Settings, owned: ExitStack) -> list[IndexReader]:
    """A reader of every live generation: a pin must be gone from all of them."""
    from dotstream.clock import SystemClock
    from dotstream.errors import Misconfigured
    from indexer.reader import IndexReader
    from indexer.records_pb2 import GenerationRecord
    from ops.generations import read_generations
    from ops.topics import TopicNames

    known = read_generations(settings.kafka.connection(), TopicNames(settings.topics.prefix).generations)
    live = [record for record in known.values() if record.state != GenerationRecord.STATE_RETIRED]
    if not live:
        raise Misconfigured("there is no generation yet: start the workers (dotstream up)")
    readers = []
    for record in live:
        folder = settings.data.absolute() / "index" / record.name
        name = f"takedown-{uuid.uuid4().hex[:8]}"
        readers.append(
            IndexReader(folder, record.partitions, clock=SystemClock(), lease_s=settings.index.lease_s, name=name)
        )
        owned.callback(readers[-1].close)
    return readers
