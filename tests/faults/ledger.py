"""The test's own ledger: which events were acknowledged, and what must have become of each in the end."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from producers.events_pb2 import PinEvent
from tests.support.photographs import photographs

POISON = b"<html>this is no picture</html>"


def small_pictures(count: int, side: int = 160) -> list[bytes]:
    """Real photographs, small, as JPEG."""
    found = []
    for path in photographs()[:count]:
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((side, side))
            out = io.BytesIO()
            small.save(out, "JPEG", quality=85)
            found.append(out.getvalue())
    return found


@dataclass(frozen=True, order=True)
class Expected:
    """The winner of a pin, by the order of records."""

    version: int
    deleted: bool


@dataclass
class Ledger:
    """Makes events from a seed and remembers the acknowledged ones."""

    seed: int
    pins: int = 40
    events: list[PinEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._pictures = small_pictures(20)
        self._versions: dict[str, int] = {}

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
            return PinEvent(pin_id=pin_id, kind=PinEvent.KIND_DELETED, version=version, event_time=now_ms)
        data = POISON if draw > 0.95 else self._random.choice(self._pictures)
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

    def acknowledged(self, events: Sequence[PinEvent]) -> None:
        self.events += events

    def expected(self) -> dict[str, Expected]:
        """The winner of each pin that has one."""
        winners: dict[str, Expected] = {}
        for event in self.events:
            if event.image.inline == POISON:
                continue
            this = Expected(event.version, event.kind == PinEvent.KIND_DELETED)
            winners[event.pin_id] = max(this, winners.get(event.pin_id, this))
        return winners

    def poisoned(self) -> int:
        return sum(event.image.inline == POISON for event in self.events)
