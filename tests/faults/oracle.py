"""What must hold after any sequence of faults, checked on the whole state: the log, the dead letters, dots and shards.

A test publishes by `publish`, waits by `settle`, and hands what is then in Kafka to `check_log`, and the stopped
stack's shards to `check_index`.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from consumers.dead import PREFIX
from ops.topics import topic_id
from producers.events_pb2 import PinEvent
from producers.publisher import Publisher
from tests.faults.ledger import Ledger
from tests.faults.stack import RunningStack
from tests.faults.state import (
    Committed,
    digest_of_live,
    digest_of_rebuilt,
    dots_of,
    headers_of,
    read_whole,
    records_of,
    source_of,
    winners_of,
)

GENERATION = "g1"
OBJECTS = f"objects.{GENERATION}"
VISION = f"dotstream-vision-{GENERATION}"
PARTITIONS = 4
PUBLISH_LIMIT_S = 120.0
SETTLE_LIMIT_S = 180.0


def publish(stack: RunningStack, ledger: Ledger, count: int) -> list[PinEvent]:
    """Publishes the ledger's next events and enters them once the broker has acknowledged them, however long away."""
    stack.until("the broker's address is known", lambda: stack.facts().get("kafka"), PUBLISH_LIMIT_S)
    events = [ledger.next(int(time.time() * 1000)) for _ in range(count)]
    publish_these(stack, ledger, events)
    return events


def publish_these(stack: RunningStack, ledger: Ledger, events: list[PinEvent]) -> None:
    """Publishes these events and enters them."""
    with Publisher(stack.connection) as publisher:
        for event in events:
            publisher.pin(event)
        publisher.flush(PUBLISH_LIMIT_S)
    ledger.acknowledged(events)


@dataclass(frozen=True)
class World:
    """What a stack's topics held at one moment.

    Attributes:
        objects: committed records of objects.<generation>.
        dead: those of pins.dead.
        dots: pin -> (version, deleted) of its latest dot record.
        objects_id: the id of the topic of `objects`.
    """

    objects: Committed
    dead: Committed
    dots: dict[str, tuple[int, bool]]
    objects_id: str


def world_of(stack: RunningStack) -> World:
    connection = stack.connection
    dots = {pin: (dot.version, dot.deleted) for pin, dot in dots_of(connection).items()}
    dead = read_whole(connection, "pins.dead")
    return World(read_whole(connection, OBJECTS), dead, dots, topic_id(connection, OBJECTS))


def settle(stack: RunningStack, ledger: Ledger, limit_s: float = SETTLE_LIMIT_S) -> World:
    """Waits until every acknowledged event has its record, dots follow the winners and nothing is left to arbitrate."""
    stack.wait_ready(limit_s)
    found: list[World] = []
    missing = ["everything"]

    def caught_up() -> bool:
        found[:] = [world_of(stack)]
        missing[:] = [unsettled(found[0], ledger)]
        return not missing[0]

    try:
        stack.until("every event has taken effect", caught_up, limit_s, every_s=0.3)
    except AssertionError as error:
        raise AssertionError(f"still missing: {missing[0]}\n{error}") from None
    return found[0]


def unsettled(world: World, ledger: Ledger) -> str:
    """What has still to happen before the state can be that of the ledger; empty when it may be compared."""
    written = Counter(record_effects(world.objects, "vision"))
    if lacking := ledger.effects() - written:
        return f"records of {lacking.total()} events: {sorted(lacking)[:10]}"
    if len(world.dead.all()) < ledger.letters().total():
        return f"{ledger.letters().total() - len(world.dead.all())} dead letters"
    last = {record.pin_id: record for record in records_of(world.objects, GENERATION)}
    winners = winners_of(world.objects, GENERATION)
    if stale := [pin for pin, record in winners.items() if last[pin] != record]:
        return f"arbitration of {stale[:10]}"
    dots = {pin: (winner.version, winner.deleted) for pin, winner in ledger.expected().items()}
    if wrong := {pin: (world.dots.get(pin), dot) for pin, dot in dots.items() if world.dots.get(pin) != dot}:
        return f"dots (found, expected): {dict(list(wrong.items())[:10])}"
    return ""


def record_effects(objects: Committed, role: str) -> list[tuple[str, int, bool]]:
    """Pin, version and kind of each record that workers of a role wrote."""
    written = Committed(
        {
            number: [message for message in messages if source_of(message) == f"dotstream/{role}"]
            for number, messages in objects.messages.items()
        }
    )
    return [(record.pin_id, record.version, record.deleted) for record in records_of(written, GENERATION)]


def check_log(world: World, ledger: Ledger) -> None:
    """Nothing lost, nothing twice, nothing invented: in the records, in the dots and in the dead letters."""
    effects = ledger.effects()
    assert Counter(record_effects(world.objects, "vision")) == effects, "vision: one record for each event"
    deletes = Counter({key: count for key, count in effects.items() if key[2]})
    assert Counter(record_effects(world.objects, "takedowns")) == deletes, "takedowns: one record for each delete"
    expected = ledger.expected()
    winners = {pin: (record.version, record.deleted) for pin, record in winners_of(world.objects, GENERATION).items()}
    assert winners == {pin: (winner.version, winner.deleted) for pin, winner in expected.items()}
    assert world.dots == winners
    check_republished(world.objects)
    check_letters(world.dead, ledger)


def check_republished(objects: Committed) -> None:
    """What the index owner published again is what a worker had written, bit for bit."""
    written: set[tuple[object, object]] = set()
    again: set[tuple[object, object]] = set()
    for messages in objects.messages.values():
        for message in messages:
            (written if source_of(message) else again).add((message.key(), message.value()))
    assert not {entry for entry in again - written if entry[1] is not None}, "an invented winner"


def check_letters(dead: Committed, ledger: Ledger) -> None:
    """Each poison event lies in the dead letters once: its own bytes, its reason, coordinates of its own."""
    letters: Counter[tuple[bytes, str]] = Counter()
    places = set()
    for message in dead.all():
        headers = headers_of(message)
        letters[message.value() or b"", headers[PREFIX + "reason"].decode()] += 1
        places.add((headers[PREFIX + "partition"], headers[PREFIX + "offset"]))
    assert letters == ledger.letters()
    assert len(places) == letters.total(), "a dead letter was written twice"


def check_index(folder: Path, world: World, scratch: Path) -> None:
    """The shards of a stopped stack equal shards rebuilt from nothing but the committed records.

    Args:
        folder: the stack's data folder.
        scratch: where to rebuild.
    """
    for number in range(PARTITIONS):
        home = folder / "index" / GENERATION / str(number)
        live = digest_of_live(home, GENERATION, number, world.objects_id)
        rebuilt = digest_of_rebuilt(scratch / str(number), world.objects, GENERATION, number)
        assert live == rebuilt, f"shard {number} differs from one rebuilt from the committed records"
