"""The test's own ledger: which events were acknowledged, and what must have become of each in the end."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from PIL import Image

from producers.events_pb2 import PinEvent
from tests.support.photographs import photographs

POISON = b"<html>this is no picture</html>"
POISON_REASON = "picture_format"


@cache
def small_pictures(count: int, side: int = 160) -> tuple[bytes, ...]:
    """Real photographs, small, as JPEG."""
    found = []
    for path in photographs()[:count]:
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((side, side))
            out = io.BytesIO()
            small.save(out, "JPEG", quality=85)
            found.append(out.getvalue())
    return tuple(found)


def distinct_pictures(seed: int) -> Iterator[bytes]:
    """Pictures that no cache knows, without end: each has a comment segment of its own behind the JPEG's first marker.

    Their pixels are those of few photographs, so that what they cost and show is alike.
    """
    number = 0
    pictures = small_pictures(20)
    while True:
        data = pictures[number % len(pictures)]
        text = f"{seed}/{number}".encode()
        yield data[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + data[2:]
        number += 1


def created(pin_id: str, version: int, data: bytes, now_ms: int) -> PinEvent:
    """The event of a pin with its picture inline."""
    return PinEvent(
        pin_id=pin_id,
        kind=PinEvent.KIND_CREATED,
        version=version,
        image=PinEvent.Image(inline=data),
        board_id="board",
        annotations=["a", "b"],
        category_weights={"c": 1.0},
        event_time=now_ms,
    )


def deleted(pin_id: str, version: int, now_ms: int) -> PinEvent:
    return PinEvent(pin_id=pin_id, kind=PinEvent.KIND_DELETED, version=version, event_time=now_ms)


def effect(event: PinEvent) -> tuple[str, int, bool]:
    """Pin, version and kind: what tells the effects of events apart."""
    return event.pin_id, event.version, event.kind == PinEvent.KIND_DELETED


@dataclass(frozen=True, order=True)
class Expected:
    """The winner of a pin, by the order of records."""

    version: int
    deleted: bool


@dataclass
class Ledger:
    """Makes events from a seed and remembers the acknowledged ones.

    Attributes:
        seed: of the events.
        pins: how many pins they are about.
        fresh: whether each event brings a picture that was never seen, so that none is answered from the cache.
        events: acknowledged ones, in the order of their publication.
    """

    seed: int
    pins: int = 40
    fresh: bool = False
    events: list[PinEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._versions: dict[str, int] = {}
        self._pictures = distinct_pictures(self.seed)

    def next(self, now_ms: int) -> PinEvent:
        """A new event: mostly newer ones, some late, some deletes, some duplicates, some poison."""
        draw = self._random.random()
        if self.events and draw < 0.05:
            return self._random.choice(self.events)
        pin_id = f"pin-{self.seed}-{self._random.randrange(self.pins)}"
        newest = self._versions.get(pin_id, 0)
        late = draw < 0.15 and newest > 10
        version = self._random.randrange(1, newest) * 10 + 1 if late else (newest + 1) * 10
        self._versions[pin_id] = max(newest, version // 10)
        if draw < 0.25:
            return deleted(pin_id, version, now_ms)
        return created(pin_id, version, POISON if draw > 0.95 else self._picture(), now_ms)

    def _picture(self) -> bytes:
        return next(self._pictures) if self.fresh else self._random.choice(small_pictures(20))

    def acknowledged(self, events: Sequence[PinEvent]) -> None:
        self.events += events

    def good(self) -> list[PinEvent]:
        """The events that must take effect."""
        return [event for event in self.events if event.image.inline != POISON]

    def expected(self) -> dict[str, Expected]:
        """The winner of each pin that has one."""
        winners: dict[str, Expected] = {}
        for event in self.good():
            this = Expected(event.version, event.kind == PinEvent.KIND_DELETED)
            winners[event.pin_id] = max(this, winners.get(event.pin_id, this))
        return winners

    def effects(self) -> Counter[tuple[str, int, bool]]:
        """How many events had each effect."""
        return Counter(effect(event) for event in self.good())

    def letters(self) -> Counter[tuple[bytes, str]]:
        """Value and reason of every dead letter that there must be."""
        poison = (event for event in self.events if event.image.inline == POISON)
        return Counter((event.SerializeToString(deterministic=True), POISON_REASON) for event in poison)
