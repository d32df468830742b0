"""What became of the demonstration's pins: which have their dots, how fast, and whether none was lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from indexer.records_pb2 import DotRecord, ObjectRecord
from ops.commands.options import counted

SHOWN_SHARE = 1 / 3
"""At least so many of the pins must show a dot for the demonstration to count as a success."""


@dataclass
class Row:
    """One published pin. Times are Unix milliseconds, by this machine's clock when the record was read here."""

    pin_id: str
    title: str
    version: int
    event_time: int
    recorded_at: int | None = None
    dotted_at: int | None = None
    objects: int = 0
    shown: int = 0
    labels: tuple[str, ...] = ()
    dead: str | None = None

    @property
    def done(self) -> bool:
        return self.dotted_at is not None or self.dead is not None


class Tally:
    """Rows in the order of publication. One thread changes it; others may read."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def published(self, row: Row) -> None:
        """To be called before the event can have an effect."""
        self._rows[row.pin_id] = row

    def recorded(self, record: ObjectRecord, at_ms: int) -> None:
        row = self._rows.get(record.pin_id)
        if row is not None and record.version == row.version and row.recorded_at is None:
            row.recorded_at = at_ms

    def dotted(self, record: DotRecord, at_ms: int) -> None:
        """Of several decisions on the same version the first gives the time, the last the dots."""
        row = self._rows.get(record.pin_id)
        if row is None or record.version != row.version or record.deleted:
            return
        row.dotted_at = row.dotted_at or at_ms
        row.objects = len(record.dots)
        shown = [dot.label for dot in record.dots if dot.shown]
        row.shown, row.labels = len(shown), tuple(dict.fromkeys(shown))

    def died(self, pin_id: str, reason: str) -> None:
        row = self._rows.get(pin_id)
        if row is not None:
            row.dead = reason

    @property
    def rows(self) -> Sequence[Row]:
        return list(self._rows.values())

    @property
    def open(self) -> list[str]:
        """Pins that have neither dots nor a dead letter."""
        return [row.pin_id for row in self.rows if not row.done]

    @property
    def dead(self) -> dict[str, str]:
        return {row.pin_id: row.dead for row in self.rows if row.dead is not None}

    @property
    def showing(self) -> int:
        """Pins with at least one dot that is shown."""
        return sum(row.shown > 0 for row in self.rows)

    def to_record_ms(self) -> list[int]:
        return [row.recorded_at - row.event_time for row in self.rows if row.recorded_at is not None]

    def to_dots_ms(self) -> list[int]:
        return [row.dotted_at - row.event_time for row in self.rows if row.dotted_at is not None]

    def complaints(self) -> list[str]:
        """Why the demonstration did not succeed; empty when it did."""
        found = []
        if not self.rows:
            found.append("no pin was published")
        if self.open:
            found.append(f"{counted(len(self.open), 'pin')} without dot record: {', '.join(self.open[:5])}")
        if self.dead:
            reasons = ", ".join(f"{pin_id} ({reason})" for pin_id, reason in list(self.dead.items())[:5])
            found.append(f"{counted(len(self.dead), 'pin')} dead: {reasons}")
        if self.showing < SHOWN_SHARE * len(self.rows):
            found.append(f"only {self.showing} of {len(self.rows)} pins show a dot")
        return found


def percentiles(values: Iterable[int]) -> str:
    """As `p50 12 ms, p90 20 ms, p99 31 ms`, by nearest rank."""
    ranked = sorted(values)
    if not ranked:
        return "nothing measured"
    shares = ((50, 0.5), (90, 0.9), (99, 0.99))
    return ", ".join(f"p{name} {ranked[math.ceil(share * len(ranked)) - 1]} ms" for name, share in shares)
