"""`dotstream publish PATH…`: pins from pictures and manifests into the stream, or out of it again; logs of saves.

Where a person's or a nightly job's pins enter. What is wrong is told row by row on standard error; the command ends
with status 0 only when Kafka has acknowledged an event for every row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Protocol
from urllib.parse import unquote, urlsplit

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dotstream.clock import Clock, SystemClock
from dotstream.errors import Poison, Retryable
from ops.commands.options import Json, answer, counted, settings_of
from ops.local.claim import read_stack
from ops.settings import Settings
from ops.topics import require
from producers.events_pb2 import EngagementEvent, PinEvent, SaveEvent, TagEvent
from producers.manifests import ManifestError, count, read, read_engagements, read_saves, read_tags
from producers.publisher import Publisher, Undelivered

SOURCE = "/dotstream/publish"
SHOWN = 20  # refusals printed one by one; all of them are in the output of --json
FLUSH_LIMIT_S = 60.0
ANSWER_LIMIT_S = 10.0


Event = PinEvent | SaveEvent | EngagementEvent | TagEvent
LOGS = {"saves": read_saves, "engagements": read_engagements, "tags": read_tags}
"""Topics that take rows of a log instead of pins."""


class Sink(Protocol):
    """What a publisher is to this command."""

    @property
    def delivered(self) -> int: ...

    def pin(self, event: PinEvent, *, topic: str | None = None) -> None: ...

    def save(self, event: SaveEvent, *, topic: str | None = None) -> None: ...

    def engagement(self, event: EngagementEvent, *, topic: str | None = None) -> None: ...

    def tag(self, event: TagEvent, *, topic: str | None = None) -> None: ...

    def flush(self, limit_s: float) -> None: ...


@dataclass
class Summary:
    """What became of the rows.

    Attributes:
        read: rows and files that were looked at.
        published: events that Kafka has acknowledged.
        refused: rows that gave no event.
        undelivered: (pin_id, reason) of events that Kafka did not acknowledge.
        stopped: why reading ended before the last row, if it did.
        seconds: from the first row to the last acknowledgement.
    """

    read: int = 0
    published: int = 0
    refused: list[ManifestError] = field(default_factory=list)
    undelivered: list[tuple[str, str]] = field(default_factory=list)
    stopped: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether every row was read and its event acknowledged."""
        return not (self.refused or self.undelivered or self.stopped)

    def facts(self) -> dict[str, object]:
        return {
            "published": self.published,
            "refused": [{"where": error.where, "reason": error.reason} for error in self.refused],
            "undelivered": [{"pin_id": pin_id, "reason": reason} for pin_id, reason in self.undelivered],
            "stopped": self.stopped or None,
            "seconds": round(self.seconds, 3),
        }

    def as_text(self) -> str:
        rate = self.published / self.seconds if self.seconds else 0.0
        parts = [f"{counted(self.published, 'event')} published in {self.seconds:.1f} s ({rate:.0f} a second)"]
        parts += [f"{len(self.refused)} refused"] * bool(self.refused)
        parts += [f"{len(self.undelivered)} not delivered"] * bool(self.undelivered)
        parts += [f"stopped early: {self.stopped}"] * bool(self.stopped)
        return ", ".join(parts)


def publish_all(
    sink: Sink,
    items: Iterable[Event | ManifestError],
    *,
    topic: str,
    rate: float | None,
    clock: Clock,
    seen: Callable[[Summary], None],
) -> Summary:
    """Publishes the events and waits for their acknowledgement; an interrupt or an absent broker ends it early.

    Args:
        sink: the publisher.
        items: what `producers.manifests.read` gives.
        topic: full name of the topic.
        rate: events a second at most; None for as fast as Kafka takes them.
        clock: paces and times.
        seen: is shown the growing summary after each row.
    """
    summary = Summary()
    begun = clock.monotonic()
    try:
        for item in items:
            summary.read += 1
            if isinstance(item, ManifestError):
                summary.refused.append(item)
            else:
                _pace(clock, begun, summary.read - len(summary.refused) - 1, rate)
                _publish_one(sink, item, topic, summary)
            summary.published = sink.delivered
            seen(summary)
    except KeyboardInterrupt:
        summary.stopped = "interrupted"
    except Retryable as error:
        summary.stopped = str(error)
    try:
        sink.flush(FLUSH_LIMIT_S if not summary.stopped else ANSWER_LIMIT_S)
    except Undelivered as error:
        _note(error, summary)
    summary.published = sink.delivered
    summary.seconds = clock.monotonic() - begun
    return summary


def _pace(clock: Clock, begun: float, sent: int, rate: float | None) -> None:
    if rate is not None and (early := begun + sent / rate - clock.monotonic()) > 0:
        clock.sleep(early)


def _publish_one(sink: Sink, event: Event, topic: str, summary: Summary) -> None:
    while True:
        try:
            _send(sink, event, topic)
        except Undelivered as error:
            # News of earlier events; this one was not taken yet.
            _note(error, summary)
        except Poison as error:
            summary.refused.append(ManifestError(event.pin_id, error.detail))
            return
        except Retryable as error:
            summary.undelivered.append((event.pin_id, str(error)))
            raise
        else:
            return


def _send(sink: Sink, event: Event, topic: str) -> None:
    if isinstance(event, PinEvent):
        sink.pin(event, topic=topic)
    elif isinstance(event, SaveEvent):
        sink.save(event, topic=topic)
    elif isinstance(event, TagEvent):
        sink.tag(event, topic=topic)
    else:
        sink.engagement(event, topic=topic)


def _note(error: Undelivered, summary: Summary) -> None:
    summary.undelivered += [(failure.key, str(failure.error)) for failure in error.failures]


def deletes(pin_ids: Iterable[str], clock: Clock, version: int) -> Iterator[PinEvent]:
    """Delete events for pins that are named one by one."""
    for pin_id in pin_ids:
        yield PinEvent(pin_id=pin_id, kind=PinEvent.KIND_DELETED, version=version, event_time=clock.now_ms())


def stack_roots(settings: Settings) -> list[Path] | None:
    """Folders below which the local stack reads pictures; None when the events go elsewhere."""
    stack = read_stack(settings.data)
    if stack is None or stack.get("kafka") != settings.kafka.bootstrap or "file_roots" not in stack:
        return None
    return [Path(root).resolve() for root in stack["file_roots"]]


def refuse_unreadable(
    items: Iterable[PinEvent | ManifestError], roots: Sequence[Path] | None
) -> Iterator[PinEvent | ManifestError]:
    """Refuses events that name a picture file which the stack's workers may not read, instead of dead letters later.

    Args:
        items: events and refusals, passed on in their order.
        roots: folders below which file URLs may point; None for any.
    """
    for item in items:
        url = item.image.url if isinstance(item, PinEvent) else ""
        if roots is not None and isinstance(item, PinEvent) and url.startswith("file:"):
            path = Path(unquote(urlsplit(url).path)).resolve()
            if not any(path.is_relative_to(root) for root in roots):
                allowed = ", ".join(map(str, roots)) or "nowhere (fetch.file_roots)"
                why = f"the picture is too large to go inline and the local stack reads files only below {allowed}"
                yield ManifestError(str(path), why)
                continue
        yield item


def publish(  # noqa: PLR0917  typer reads the options from the signature
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders of pictures, pictures, or manifests (.csv, .jsonl, .parquet).", show_default=False
        ),
    ] = None,
    kafka: Annotated[str | None, typer.Option(help="Brokers, HOST:PORT; otherwise as set.", show_default=False)] = None,
    prefix: Annotated[str | None, typer.Option(help="Prefix of topic names; otherwise as set.")] = None,
    topic: Annotated[str, typer.Option(help="Without prefix: pins, pins.backfill, saves, engagements, tags.")] = "pins",
    rate: Annotated[float | None, typer.Option(min=0.001, help="Events a second at most.", show_default=False)] = None,
    update: Annotated[bool, typer.Option("--update", help="The pins exist already: new full state.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the pins; rows need only pin_id.")] = False,
    pin_id: Annotated[
        list[str] | None, typer.Option(help="With --delete: a pin to delete; may be given again.", show_default=False)
    ] = None,
    version: Annotated[int, typer.Option(min=0, help="Version of rows that have none; 0: the time of the event.")] = 0,
    as_json: Json = False,
) -> None:
    """Publish pins to Kafka from pictures and manifests; update or delete them."""
    if update and delete:
        raise typer.BadParameter("choose one of --update and --delete")
    if pin_id and not delete:
        raise typer.BadParameter("--pin-id goes with --delete")
    if not paths and not pin_id:
        raise typer.BadParameter("name at least one folder, picture or manifest (or, with --delete, --pin-id)")
    if topic in LOGS and (update or delete or version):
        raise typer.BadParameter(f"--update, --delete and --version are for pins, not for {topic}")
    settings = settings_of(kafka__bootstrap=kafka, topics__prefix=prefix).settings
    clock = SystemClock()
    items: Iterator[Event | ManifestError]
    if topic in LOGS:
        items = LOGS[topic](paths or (), now_ms=clock.now_ms)
    else:
        kind = PinEvent.KIND_DELETED if delete else PinEvent.KIND_UPDATED if update else PinEvent.KIND_CREATED
        pins = itertools.chain(
            deletes(pin_id or (), clock, version), read(paths or (), now_ms=clock.now_ms, kind=kind, version=version)
        )
        items = refuse_unreadable(pins, stack_roots(settings))
    total = count(paths or ()) + len(pin_id or ())
    summary = _run(settings, items, topic=settings.topics.prefix + topic, rate=rate, clock=clock, total=total)
    if as_json:
        answer(summary.facts())
    else:
        Console(stderr=True).print(summary.as_text(), markup=False, highlight=False, soft_wrap=True)
    if not summary.good:
        raise typer.Exit(130 if summary.stopped == "interrupted" else 1)


def _run(
    settings: Settings,
    items: Iterator[Event | ManifestError],
    *,
    topic: str,
    rate: float | None,
    clock: Clock,
    total: int,
) -> Summary:
    """Publishes with a progress bar; refusals are printed above it as they are met."""
    connection = settings.kafka.connection()
    require(connection, [topic], limit_s=ANSWER_LIMIT_S)
    console = Console(stderr=True)
    columns = (TextColumn("publishing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    publisher = Publisher(connection, source=SOURCE)
    told = 0

    def show(summary: Summary) -> None:
        nonlocal told
        for error in summary.refused[told:SHOWN]:
            bar.console.print(f"refused {error}", markup=False, highlight=False, soft_wrap=True)
        told = len(summary.refused)
        bar.update(task, completed=summary.read)

    try:
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("publish", total=total)
            summary = publish_all(publisher, items, topic=topic, rate=rate, clock=clock, seen=show)
    finally:
        publisher.close()
    for pin_id, reason in summary.undelivered[:SHOWN]:
        console.print(f"not delivered {pin_id}: {reason}", markup=False, highlight=False, soft_wrap=True)
    return summary
