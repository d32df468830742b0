"""Takedowns do not wait behind inference, and nothing that comes later brings a pin back."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from producers.events import TAKEDOWN_VERSION
from tests.faults.answers import assert_in_no_answer, pins_listed, pins_searched
from tests.faults.ledger import Ledger, created, deleted, distinct_pictures
from tests.faults.oracle import GENERATION, OBJECTS, VISION, check_index, check_log, publish_these, settle
from tests.faults.stack import RunningStack, running_stack
from tests.faults.state import lag_of, read_whole, winners_of

QUEUED = 1_000
SEEN_FIRST = 20
TAKEN = 12  # of the pins that were seen, and as many of those that wait
VISION_LIMIT_S = 300.0

pytestmark = pytest.mark.faults


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    with running_stack(tmp_path, DOTSTREAM_API__REQUESTS_PER_S="0") as stack:
        yield stack


def now_ms() -> int:
    return int(time.time() * 1000)


@pytest.mark.timeout(900)
def test_takedowns_pass_a_thousand_waiting_pins(stack: RunningStack, tmp_path: Path, seed: int) -> None:
    chance, ledger = random.Random(seed), Ledger(seed)
    pictures = distinct_pictures(seed)
    early = [created(f"early-{n}", 10, data, now_ms()) for n, data in enumerate(islice(pictures, SEEN_FIRST))]
    publish_these(stack, ledger, early)
    settle(stack, ledger)
    queue = [created(f"late-{n}", 10, data, now_ms()) for n, data in enumerate(islice(pictures, QUEUED))]
    publish_these(stack, ledger, queue)
    victims = chance.sample([e.pin_id for e in early], TAKEN) + chance.sample(
        [e.pin_id for e in queue[QUEUED // 2 :]], TAKEN
    )
    picture = next(e for e in early if e.pin_id == victims[0]).image.inline

    started = time.monotonic()
    done = stack.command("takedown", *victims)
    took = time.monotonic() - started
    behind = lag_of(stack.connection, VISION, "pins")
    assert done.returncode == 0, done.stderr
    assert behind > QUEUED // 4, f"vision is only {behind} records behind: the takedowns proved nothing"
    print(f"{len(victims)} takedowns took {took:.1f} s with the command's start, vision is {behind} records behind")
    assert_in_no_answer(stack, victims, picture)
    ledger.acknowledged([deleted(pin, TAKEDOWN_VERSION, now_ms()) for pin in victims])

    late = [created(pin, version, picture, now_ms()) for pin in victims for version in (5, 20, TAKEDOWN_VERSION - 1)]
    publish_these(stack, ledger, late)
    took = stack.until(
        "vision has seen all", lambda: lag_of(stack.connection, VISION, "pins") == 0, VISION_LIMIT_S, every_s=1.0
    )
    print(f"vision needed {took:.0f} s more")
    world = settle(stack, ledger)
    assert_in_no_answer(stack, victims, picture)
    winners = winners_of(world.objects, GENERATION)
    searched = pins_searched(stack, [winners[e.pin_id] for e in early if e.pin_id not in victims])
    assert searched == pins_listed(stack) == {e.pin_id for e in early + queue} - set(victims)
    assert all(world.dots[pin] == (TAKEDOWN_VERSION, True) for pin in victims)
    stack.stop()
    check_log(world, ledger)
    check_index(stack.data, world, tmp_path / "rebuilt")


@pytest.mark.timeout(300)
def test_the_newest_version_wins_whatever_the_order(stack: RunningStack, tmp_path: Path, seed: int) -> None:
    """Deletes before their creates, creates between deletes, all orders of four events of a pin."""
    chance, ledger = random.Random(seed), Ledger(seed)
    picture = next(distinct_pictures(seed))
    events = []
    for number in range(24):
        pin = f"pin-{number}"
        four = [
            created(pin, 10, picture, now_ms()),
            deleted(pin, 20, now_ms()),
            created(pin, 30, picture, now_ms()),
            deleted(pin, 40, now_ms()) if number % 2 else created(pin, 20, picture, now_ms()),
        ]
        chance.shuffle(four)
        events += four
    chance.shuffle(events)
    for start in range(0, len(events), 16):
        publish_these(stack, ledger, events[start : start + 16])
    world = settle(stack, ledger)
    gone = [f"pin-{number}" for number in range(24) if number % 2]
    assert_in_no_answer(stack, gone, picture)
    assert pins_listed(stack) == {f"pin-{number}" for number in range(24) if not number % 2}
    last = {message.key(): message for message in read_whole(stack.connection, OBJECTS).all()}
    assert len(last) == 24
    stack.stop()
    check_log(world, ledger)
    check_index(stack.data, world, tmp_path / "rebuilt")
