"""kill -9 of every worker, of Triton and of the broker in the middle of a run: nothing lost, nothing applied twice.

`FAULT_ROUNDS` and `FAULT_SEED` choose length and seed; the seed is printed and repeats a failure.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from indexer.records import order_of
from ops.topics import topic_id
from producers.publisher import Publisher
from tests.faults.ledger import Ledger
from tests.faults.stack import RunningStack, running_stack
from tests.faults.state import (
    Committed,
    digest_of_live,
    digest_of_rebuilt,
    dots_of,
    read_whole,
    records_of,
    winners_of,
)

GENERATION = "g1"
OBJECTS = f"objects.{GENERATION}"
VICTIMS = ("vision", "takedowns", "index", "dots", "triton", "kafka")
SETTLE_LIMIT_S = 120.0
EVENTS_PER_ROUND = 25

pytestmark = pytest.mark.faults


def until(what: str, holds: Callable[[], object], stack: RunningStack) -> None:
    """Waits for a condition, looking often enough; fails with what the stack says."""
    deadline = time.monotonic() + SETTLE_LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, f"{what} within {SETTLE_LIMIT_S:.0f} s\n{stack.output()}"
        stack.wait_ready()


@pytest.mark.timeout(2400)
def test_kill_nine_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("FAULT_SEED", random.SystemRandom().randrange(2**31)))
    rounds = int(os.environ.get("FAULT_ROUNDS", "12"))
    print(f"seed {seed}, {rounds} rounds")
    chance = random.Random(seed)
    ledger = Ledger(seed)
    with running_stack(tmp_path) as stack:
        for number in range(rounds):
            publish(stack, ledger)
            victim = VICTIMS[number % len(VICTIMS)]
            time.sleep(chance.uniform(0.0, 1.5))  # a random moment is the point
            stack.kill(victim)
            publish(stack, ledger)
        settle(stack, ledger)
        dots = dots_of(stack.connection)
        objects = read_whole(stack.connection, OBJECTS)
        dead = read_whole(stack.connection, "pins.dead")
        identity = topic_id(stack.connection, OBJECTS)
        print(f"{len(ledger.events)} events, restarts {stack.restarts()}")
    check_records(ledger, objects)
    expected = ledger.expected()
    assert {pin: (dot.version, dot.deleted) for pin, dot in dots.items()} == {
        pin: (winner.version, winner.deleted) for pin, winner in expected.items()
    }
    letters = [
        (dict(m.headers() or ())["dotstream-dead-partition"], dict(m.headers() or ())["dotstream-dead-offset"])
        for m in dead.all()
    ]
    assert len(letters) == len(set(letters)) == ledger.poisoned()
    check_index(tmp_path, objects, identity)


def publish(stack: RunningStack, ledger: Ledger) -> None:
    """Publishes events and enters those that the broker acknowledged, waiting out a broker that is away."""
    until("the broker is back", lambda: stack.facts().get("kafka"), stack)
    with Publisher(stack.connection) as publisher:
        batch = []
        for _ in range(EVENTS_PER_ROUND):
            event = ledger.next(int(time.time() * 1000))
            publisher.pin(event)
            batch.append(event)
        publisher.flush(SETTLE_LIMIT_S)
    ledger.acknowledged(batch)


def settle(stack: RunningStack, ledger: Ledger) -> None:
    """Waits until the dots have caught up with every acknowledged event, and arbitration with every stale record."""
    expected = ledger.expected()
    until("the stack is whole again", lambda: stack.facts().get("ready"), stack)

    def caught_up() -> bool:
        dots = dots_of(stack.connection)
        if any(pin not in dots or dots[pin].version != winner.version for pin, winner in expected.items()):
            return False
        if len(read_whole(stack.connection, "pins.dead").all()) < ledger.poisoned():
            return False
        objects = read_whole(stack.connection, OBJECTS)
        last = {record.pin_id: record for record in records_of(objects, GENERATION)}
        return last == winners_of(objects, GENERATION) and vision_is_done(objects, ledger)

    until("every event has taken effect", caught_up, stack)


def vision_is_done(objects: Committed, ledger: Ledger) -> bool:
    """Whether each acknowledged event, also one that lost, has its record."""
    made = {(record.pin_id, record.version, record.deleted) for record in records_of(objects, GENERATION)}
    return all(
        (event.pin_id, event.version, event.kind == event.KIND_DELETED) in made
        for event in ledger.events
        if event.image.inline[:1] != b"<"
    )


def check_records(ledger: Ledger, objects: Committed) -> None:
    """Every record comes from an acknowledged event, and an event has one record, however often it was redone."""
    events: dict[tuple[str, int, bool], int] = {}
    for event in ledger.events:
        key = (event.pin_id, event.version, event.kind == event.KIND_DELETED)
        events[key] = events.get(key, 0) + 1
    contents: dict[tuple[str, int, bool], set[bytes]] = {}
    for record in records_of(objects, GENERATION):
        key = (record.pin_id, record.version, record.deleted)
        contents.setdefault(key, set()).add(order_of(record).digest)
    for key, digests in contents.items():
        assert key in events, f"a phantom: {key}"
        writers = 2 if key[2] else 1  # deletes are written by the takedown worker too
        assert len(digests) <= writers * events[key], (
            f"{key} was recorded {len(digests)} times for {events[key]} events"
        )


def check_index(tmp_path: Path, objects: Committed, identity: str) -> None:
    for partition in range(4):
        live = digest_of_live(
            tmp_path / "data" / "index" / GENERATION / str(partition), GENERATION, partition, identity
        )
        rebuilt = digest_of_rebuilt(tmp_path / "rebuilt" / str(partition), objects, GENERATION, partition)
        assert live == rebuilt, f"shard {partition} differs from one rebuilt from the committed records"
