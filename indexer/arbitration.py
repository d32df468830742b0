"""Which record of a pin wins, given what the catalogue holds and what the log brings: pure decisions, no files.

The log may bring a pin's records in any order and more than once. The greatest order wins. Compaction keeps the last
logged record and not the winner, so a pin whose last logged record is not its winner is pending: the owner publishes
the winner again, and reading it clears the mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from indexer.entries import Row
from indexer.records import Order, check, encode, order_of, searched_codes
from indexer.records_pb2 import ObjectRecord


@dataclass(frozen=True, slots=True)
class Logged:
    """One logged record of objects.<generation>, decoded.

    Attributes:
        offset: in its partition.
        key: the pin_id in UTF-8.
        record: None for a null value, which only the index owner writes, to let compaction forget a delete.
        timestamp_ms: the log's timestamp, Unix ms.
    """

    offset: int
    key: bytes
    record: ObjectRecord | None
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Winner:
    """A record that won in this batch and is to be stored; `codes` are its `searched_codes`."""

    record: ObjectRecord
    canonical: bytes
    codes: list[tuple[int, bytes]]
    order: Order
    offset: int
    logged_at: int


@dataclass(slots=True)
class Outcome:
    """What a batch does to one pin.

    Attributes:
        pin_id: the pin.
        before: its row before the batch.
        winner: the record that won, None where the row stands.
        forgotten: a null took the row of a delete out.
        pending: offset of the last logged record while that is not the winner, else None.
        repeated: the winner was read again; its damaged slots, if any, are written again from `again`.
        read: orders that were read for the pin, for what is in flight; None is a null.
    """

    pin_id: str
    before: Row | None
    winner: Winner | None = None
    forgotten: bool = False
    pending: int | None = None
    again: Winner | None = None
    read: list[Order | None] = field(default_factory=list)

    @property
    def order(self) -> Order | None:
        """The order that stands now."""
        if self.winner is not None:
            return self.winner.order
        return None if self.before is None or self.forgotten else self.before.order

    @property
    def logged_at(self) -> int:
        """The log's timestamp of the record that stands now."""
        if self.winner is not None:
            return self.winner.logged_at
        return 0 if self.before is None else self.before.logged_at


@dataclass(slots=True)
class Counts:
    """How the records of a batch fared.

    Attributes:
        live, deleted: records that won and were stored, by kind.
        stale: records and nulls that did not win; their pins are pending.
        repeated: records equal to the winner.
        forgotten: deletes that a null let go.
    """

    live: int = 0
    deleted: int = 0
    stale: int = 0
    repeated: int = 0
    forgotten: int = 0


def arbitrate(
    batch: Sequence[Logged], rows: Iterable[tuple[str, Row | None]], null_retention_ms: int
) -> tuple[dict[str, Outcome], Counts]:
    """Plays a batch over the rows of its pins.

    Args:
        batch: ascending by offset.
        rows: every pin of the batch with its row.
        null_retention_ms: a null lets go of a delete only when it was logged so long after it.

    Returns:
        (pin_id -> outcome, counts).
    """
    outcomes = {pin_id: Outcome(pin_id, row) for pin_id, row in rows}
    counts = Counts()
    for logged in batch:
        outcome = outcomes[logged.key.decode()]
        if logged.record is None:
            outcome.read.append(None)
            _play_null(outcome, logged, null_retention_ms, counts)
        else:
            canonical = encode(logged.record)
            order = order_of(logged.record, canonical)
            outcome.read.append(order)
            codes = searched_codes(logged.record)
            _play(outcome, Winner(logged.record, canonical, codes, order, logged.offset, logged.timestamp_ms), counts)
    return outcomes, counts


def check_batch(batch: Sequence[Logged], applied: int, generation: str, bits: int) -> None:
    """Refuses what could harm the shard; everything else `indexer.records.decode` has looked at.

    Raises:
        ValueError: the offsets do not ascend from behind `applied`.
        Poison: a record of another pin, generation or code width.
    """
    last = applied
    for logged in batch:
        if logged.offset <= last:
            raise ValueError(f"offset {logged.offset} comes behind {last}")
        last = logged.offset
        record = logged.record
        if record is None:
            continue
        codes = [] if record.deleted else [record.codes, *(item.codes for item in record.objects)]
        fits = all(each and len(each[0].bits) * 8 == bits for each in codes)
        if not fits or record.pin_id.encode() != logged.key or record.generation != generation:
            check(record, logged.key, generation=generation, bits=bits)


def _play(outcome: Outcome, one: Winner, counts: Counts) -> None:
    standing = outcome.order
    if standing is None or one.order > standing:
        outcome.winner, outcome.pending, outcome.again = one, None, None
        if one.order.deleted:
            counts.deleted += 1
        else:
            counts.live += 1
    elif one.order == standing:
        outcome.pending = None
        outcome.again = one if outcome.winner is None else None
        counts.repeated += 1
    else:
        outcome.pending = one.offset
        counts.stale += 1


def _play_null(outcome: Outcome, logged: Logged, null_retention_ms: int, counts: Counts) -> None:
    standing = outcome.order
    if standing is None:
        outcome.pending = None
    elif standing.deleted and logged.timestamp_ms >= outcome.logged_at + null_retention_ms:
        outcome.winner, outcome.again, outcome.pending = None, None, None
        outcome.forgotten = True
        counts.forgotten += 1
    else:
        outcome.pending = logged.offset
        counts.stale += 1
