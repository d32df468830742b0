"""An index filled by the stream itself: a private local stack into which pins are published, and a reader of it."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dotstream.clock import SystemClock
from dotstream.errors import Unavailable
from indexer.reader import IndexReader
from indexer.search import warm
from ops.commands.options import say, settings_of
from ops.dead import read_letters
from ops.local.stack import LocalStack, local_stack
from ops.models import code_bits
from ops.settings import Settings
from ops.topics import TopicNames
from producers.events_pb2 import PinEvent
from producers.publisher import Publisher

STALL_S = 120.0  # without a pin that arrives
LETTERS_AFTER_S = 5.0  # without one, before dead letters are counted
TELL_EVERY_S = 10.0
LEASE_S = 600.0  # nobody takes anything down in a private stack


@dataclass(frozen=True)
class Filled:
    """A stack whose index holds every pin that was published, the dead ones excepted."""

    settings: Settings
    stack: LocalStack
    reader: IndexReader
    published: int
    dead: int


@contextmanager
def filled(events: Iterable[PinEvent], pictures: Path) -> Iterator[Filled]:
    """Runs broker, Triton and workers in a temporary folder, publishes the pins and waits for all of them.

    Args:
        events: read as they are published.
        pictures: folder below which pictures lie that are too large for an event.

    Raises:
        Unavailable: pins stopped to arrive.
    """
    with tempfile.TemporaryDirectory(prefix="dotstream-eval-") as folder, ExitStack() as owned:
        reads = {"fetch__schemes": ("https", "file"), "fetch__file_roots": (str(pictures.resolve()),)}
        loaded = settings_of(data=Path(folder), api__port=0, **reads)
        stack = owned.enter_context(local_stack(loaded, progress=say))
        stop = threading.Event()
        stack.start(stop)
        watching = threading.Thread(target=stack.watch, args=(stop,), daemon=True)
        watching.start()
        owned.callback(watching.join, 10)
        owned.callback(stop.set)
        settings = stack.settings
        partitions = settings.topics.record_partitions
        reader = IndexReader(settings.index_folder, partitions, clock=SystemClock(), lease_s=LEASE_S, name="eval")
        owned.callback(reader.close)
        warm(code_bits(settings))
        published = _publish(stack, events)
        dead = _wait(stack, reader, published)
        yield Filled(settings, stack, reader, published, dead)


def _publish(stack: LocalStack, events: Iterable[PinEvent]) -> int:
    published = 0
    with Publisher(stack.connection, source="/dotstream/eval") as publisher:
        for event in events:
            publisher.pin(event)
            published += 1
    return published


def _wait(stack: LocalStack, reader: IndexReader, published: int) -> int:
    """Waits until every pin is in the index or a dead letter; returns the number of the latter."""
    names = TopicNames(stack.settings.topics.prefix)
    seen, moved_at, told_at = 0, time.monotonic(), time.monotonic()
    while True:
        reader.refresh()
        pins, now = reader.size().pins, time.monotonic()
        if pins == published:
            return 0
        if pins > seen:
            seen, moved_at = pins, now
        if now - moved_at > LETTERS_AFTER_S:
            dead = len(read_letters(stack.connection, [names.dead(names.events.pins)]))
            if pins + dead == published:
                return dead
            if now - moved_at > STALL_S:
                raise Unavailable(f"{pins} of {published} pins came into the index and {dead} are dead letters")
        if now - told_at > TELL_EVERY_S:
            told_at = now
            say(f"{pins} of {published} pins are in the index")
        time.sleep(0.5)
