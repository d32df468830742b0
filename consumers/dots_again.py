"""Decides dots again when they may have changed: in the background of the dots worker, below its live records.

What makes a decision due, most urgent first:

    witness   a pin that it rests on was deleted
    epoch     a cut-over or roll-back: it was made by another generation, or by this one before it
    growth    the index holds twice as many objects as when it was made, or cold start has ended since

What is due is read from the ledger (consumers/dot_ledger.py), which is derived from topic `dots`, and never from
memory: after a crash the same decisions are due, those that were committed excepted, because reading them back takes
them off the list. A turn, on the worker's own thread:

    closed     the topic is opened, and read from the ledger's positions on
    following  what the topic brings is folded into the ledger
    level      for partitions that the worker owns and whose ledger has reached the topic's end, some due pins are
               decided again; the worker commits them in one transaction with its positions
    resting    until the rate allows the next; or for a while when something was away

A partition's decisions have one writer, and it decides only over a ledger that holds all that was ever committed there;
so each decision is numbered above the one it replaces, and none is made twice.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from consumers.dot_decider import DECISIONS_PER_REVISION, first_decision
from consumers.dot_ledger import DotLedger
from consumers.dots import Deciding, Standing
from consumers.ports import Output
from consumers.window import Backoff
from dotstream.errors import Retryable
from indexer.records_pb2 import DotRecord, ObjectRecord
from producers.whole_topic import WholeTopic

log = logging.getLogger(__name__)

READ_MAX = 250  # of the topic in one turn, about 40 ms
LEVEL_S = 0.05  # until the ledger is asked again whether it has read what was just committed


@dataclass(frozen=True, slots=True)
class AgainSettings:
    """How much is decided again. Times are seconds.

    Attributes:
        per_s: at most so many pins in a second; 0 decides none again.
        batch_max: pins in one transaction.
        budget_s: after so long a batch ends early, because a live record may wait behind it.
        look_s: between looks for what is due when nothing was.
        cold_start_objects: below it the signals are not asked for, and growth changes nothing.
    """

    per_s: float = 50.0
    batch_max: int = 16
    budget_s: float = 0.05
    look_s: float = 1.0
    cold_start_objects: int = 1_000
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True, slots=True)
class Due:
    """A pin whose dots are to be decided again, and why."""

    pin_id: str
    trigger: str


class DotsAgain:
    """See `consumers.ports.Spare`. Owns nothing: ledger, topic and reader are closed by who made them."""

    def __init__(
        self,
        deciding: Deciding,
        *,
        ledger: DotLedger,
        followed: WholeTopic,
        settings: AgainSettings | None = None,
    ) -> None:
        self._with = deciding
        self._ledger = ledger
        self._followed = followed
        self._clock = deciding.clock
        self._metrics = deciding.metrics
        self._reader = deciding.reader
        self._settings = settings or AgainSettings()
        self._following = False
        self._failures = 0
        self._next_at = self._clock.monotonic()
        # Where the present pass over what is due stands: one that cannot be decided now must not hold up the others.
        self._bereft_at: dict[int, str | None] = {}
        self._standing_at: dict[int, tuple[int, int, str] | None] = {}

    def due_in(self) -> float:
        return max(0.0, self._next_at - self._clock.monotonic())

    def turn(self, partitions: Collection[int]) -> Sequence[Output]:
        try:
            outputs = self._turn(sorted(partitions))
        except Retryable as error:
            self._failures += 1
            self._rest(self._settings.backoff.after(self._failures))
            self._metrics.error(type(error).__name__)
            log.warning("deciding dots again waits %.1f s: %s", self.due_in(), error)
            return ()
        self._failures = 0
        return outputs

    def _turn(self, partitions: Sequence[int]) -> Sequence[Output]:
        read = self._follow()
        self._metrics.coverage({partition: self._ledger.coverage(partition) for partition in partitions})
        if read == READ_MAX:
            self._rest(0.0)
            return ()
        standing = self._with.standing()
        if not standing.active or self._settings.per_s <= 0:
            self._rest(self._settings.look_s)
            return ()
        try:
            self._reader.refresh()
            return self._decide(self._due(partitions, standing), standing)
        finally:
            self._reader.rest()

    def _rest(self, seconds: float) -> None:
        self._next_at = self._clock.monotonic() + seconds

    # Following the topic.

    def _follow(self) -> int:
        """Folds in what the topic brings; returns how many records that were, `READ_MAX` at most."""
        try:
            if not self._following:
                self._open()
            records, moved = self._followed.read(READ_MAX, 0.0)
        except Retryable:
            self._following = False
            raise
        if moved:
            unreadable = self._ledger.fold(records, moved)
            if unreadable:
                log.warning("%d records of topic %s could not be read and are left out", unreadable, self._with.topic)
        return len(records)

    def _open(self) -> None:
        extent = self._followed.open()
        if self._ledger.topic_id != extent.topic_id or not extent.holds(self._ledger.positions()):
            if self._ledger.topic_id is not None:
                log.warning("the ledger is of another topic; it is rebuilt")
            self._ledger.restart(extent.topic_id)
        kept = self._ledger.positions()
        self._followed.start({partition: kept.get(partition, first) for partition, first in extent.first.items()})
        self._following = True

    def _is_level(self, partition: int) -> bool:
        """Whether the ledger holds everything that was committed to a partition."""
        return self._ledger.positions().get(partition, 0) >= self._followed.end(partition)

    # What is due.

    def _due(self, partitions: Sequence[int], standing: Standing) -> list[Due]:
        grown = self._grown()
        found: list[Due] = []
        behind = False
        for partition in partitions:
            due = self._due_of(partition, standing.epoch, grown, self._settings.batch_max)
            if due and not self._is_level(partition):
                behind = True
                self._bereft_at.pop(partition, None)
                self._standing_at.pop(partition, None)
            else:
                found += due
        found.sort(key=lambda due: due.trigger != "witness")
        self._rest(LEVEL_S if behind else self._settings.look_s)
        return found

    def _due_of(self, partition: int, epoch: int, grown: int, limit: int) -> list[Due]:
        """The next due pins of a partition; the pass begins anew once it has reached the end."""
        bereft = self._ledger.bereft(partition, self._bereft_at.get(partition), limit)
        self._bereft_at[partition] = bereft[-1] if len(bereft) == limit else None
        known = self._ledger.standing(partition, self._standing_at.get(partition), limit)
        due = [each for each in known if each[0] < epoch or (each[0] == epoch and each[1] <= grown)]
        self._standing_at[partition] = due[-1] if len(due) == limit else None
        older = [Due(pin_id, "epoch" if made < epoch else "growth") for made, _, pin_id in due]
        return [*(Due(pin_id, "witness") for pin_id in bereft), *older]

    def _grown(self) -> int:
        """Decisions made with at most so many objects in the index are due by growth; -1 for none."""
        objects = self._reader.size().objects
        cold = self._settings.cold_start_objects
        return -1 if objects < cold else min(max(objects // 2, cold - 1), objects - 1)

    # Deciding.

    def _decide(self, due: Sequence[Due], standing: Standing) -> list[Output]:
        """Decides pins within the batch's budget, and rests as long as the rate asks for these."""
        started = self._clock.monotonic()
        decided: dict[str, DotRecord] = {}
        tried = 0
        for each in due[: self._settings.batch_max]:
            if each.pin_id in decided:
                continue
            tried += 1
            record = self._again(each, standing.epoch)
            self._metrics.decided_again(each.trigger if record is not None else "not now")
            if record is not None:
                decided[each.pin_id] = record
            if self._clock.monotonic() - started > self._settings.budget_s:
                break
        if tried:
            self._next_at = started + tried / self._settings.per_s
        return [self._with.output(record) for record in decided.values()]

    def _again(self, due: Due, epoch: int) -> DotRecord | None:
        """The new decision, or None while there is nothing to decide it by."""
        known = self._ledger.get(due.pin_id)
        if known is None or known.deleted:
            return None
        entry = self._reader.pin(due.pin_id)
        if entry is None:
            return self._emptied(known, epoch) if known.epoch < epoch else None
        if entry.record.version < known.version:
            return None
        number = next_decision(known, entry.record, epoch)
        return None if number is None else self._with.decider.decide(entry, epoch=epoch, decision=number)

    def _emptied(self, known: DotRecord, epoch: int) -> DotRecord:
        """After a cut-over, of a pin that this generation has not seen: its dots pointed at objects of another one.

        Number 0 stands below that of the record's own decision, should the record still come.
        """
        return DotRecord(
            pin_id=known.pin_id,
            version=known.version,
            generation=self._with.generation,
            epoch=epoch,
            watermark=self._reader.watermark,
            index_objects=self._reader.size().objects,
            decided_at=self._clock.now_ms(),
        )


def next_decision(known: DotRecord, record: ObjectRecord, epoch: int) -> int | None:
    """The number of a decision on `record` that wins over `known`; None when there can be none.

    There can be none while the index still lacks the revision that `known` was made on, and when a revision's numbers
    are used up.
    """
    first = first_decision(record.revision)
    if (record.version, record.deleted, epoch) > (known.version, known.deleted, known.epoch):
        return first
    number = max(first, known.decision + 1)
    return number if number < first - 1 + DECISIONS_PER_REVISION else None
