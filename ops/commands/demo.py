"""`dotstream demo`: the main job in one command. A local stack, real photographs, and their dots as they arrive."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import say, settings_of
from ops.commands.stack import ApiPort, KafkaAddress, TritonAddress, running_stack

if TYPE_CHECKING:
    from ops.demo.photographs import Photograph
    from ops.demo.show import View
    from ops.demo.tally import Tally
    from ops.local.stack import LocalStack

PINS_PER_S = 10.0
QUIET_LIMIT_S = 60.0
DEMO_SCORE = 0.45
"""The served detector seldom gives more than 0.7 on scenes; the demonstration shows dots from here on."""


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End when all pins have their dots; status 0 only if none was lost or dead.")
    ] = False,
    pins: Annotated[int | None, typer.Option(min=1, help="Only so many photographs.")] = None,
    kafka: KafkaAddress = None,
    triton: TritonAddress = None,
    port: ApiPort = None,
) -> None:
    """Stream real photographs through a local stack, and watch their dots arrive; Ctrl-C stops everything."""
    begun = time.monotonic()
    loaded = settings_of(api__port=port)
    if "dots.cold_start_score" not in loaded.sources:
        usual = loaded.settings.dots.cold_start_score
        loaded = settings_of(api__port=port, dots__cold_start_score=DEMO_SCORE)
        say(
            f"the demonstration shows dots from a detector score of {DEMO_SCORE} on; "
            f"dots.cold_start_score is {usual} otherwise"
        )
    from ops.demo.pictures import chosen, locate
    from ops.demo.tally import Tally

    photographs, tally = chosen(pins), Tally()
    with ThreadPoolExecutor(1) as aside:
        located = aside.submit(locate, photographs, loaded.settings.cache_folder, say)
        with running_stack(loaded, kafka, triton) as (stack, stop), _kept_alive(stack, stop):
            files = located.result()
            pictures = [(photograph, files[photograph.pin_id]) for photograph in photographs]
            if stop.is_set():
                raise typer.Exit(130)
            say(f"ready after {time.monotonic() - begun:.1f} s: the page is at {stack.api}")
            finished = _stream(stack, stop, pictures, tally, stay=not once)
            say("stopping")
    _conclude(tally, finished=finished, once=once)


@contextlib.contextmanager
def _kept_alive(stack: LocalStack, stop: threading.Event) -> Iterator[None]:
    """Keeps the stack's parts alive on a thread; a signal, or the end of the block, ends it."""
    watcher = threading.Thread(target=stack.watch, args=(stop,), name="watch")
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _stream(
    stack: LocalStack,
    stop: threading.Event,
    pictures: Sequence[tuple[Photograph, Path]],
    tally: Tally,
    *,
    stay: bool,
) -> bool:
    """Publishes the photographs and shows what becomes of them. Returns whether every pin was settled."""
    from rich.console import Console

    from ops.demo.follow import Follower
    from ops.demo.show import closing, view
    from ops.topics import TopicNames

    console = Console()
    names = TopicNames(stack.settings.topics.prefix)
    with Follower(stack.connection, names, stack.settings.generation, tally), view(console, tally, stack.api) as shown:
        _publish(stack, stop, pictures, tally, shown)
        finished = _settle(tally, stop, shown)
    console.print(closing(tally), highlight=False)
    if stay and not stop.is_set():
        console.print(f"the page is at {stack.api}; Ctrl-C stops everything", highlight=False)
        stop.wait()
    return finished


def _publish(
    stack: LocalStack,
    stop: threading.Event,
    pictures: Sequence[tuple[Photograph, Path]],
    tally: Tally,
    shown: View,
) -> None:
    """One event after another, at a pace that leaves the latency to the stream and not to a queue."""
    from ops.demo.pictures import event_of
    from ops.demo.tally import Row
    from producers.publisher import EventTopics, Publisher

    topics = EventTopics.prefixed(stack.settings.topics.prefix)
    with Publisher(stack.connection, topics=topics, source="/dotstream/demo", linger_ms=0) as publisher:
        for photograph, path in pictures:
            if stop.wait(1 / PINS_PER_S):
                return
            event = event_of(photograph, path, time.time_ns() // 1_000_000)
            tally.published(Row(photograph.pin_id, photograph.title, event.event_time, event.event_time))
            publisher.pin(event)
            shown.update()


def _settle(tally: Tally, stop: threading.Event, shown: View) -> bool:
    """Waits until every pin has dots or a dead letter, or nothing has happened for a long while."""
    left, since = len(tally.open), time.monotonic()
    while tally.open and not stop.wait(0.1):
        shown.update()
        if len(tally.open) != left:
            left, since = len(tally.open), time.monotonic()
        elif time.monotonic() - since > QUIET_LIMIT_S:
            break
    shown.update()
    return not tally.open


def _conclude(tally: Tally, *, finished: bool, once: bool) -> None:
    """Exit status: of `--once` whether the demonstration succeeded; else 0 after Ctrl-C."""
    complaints = tally.complaints()
    if once or not finished:
        for complaint in complaints:
            say(f"dotstream: {complaint}")
        if complaints:
            raise typer.Exit(1)
