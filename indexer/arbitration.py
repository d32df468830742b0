"""Which record of a pin wins, given what the catalogue holds and what the log brings: pure decisions, no files.

The log may bring a pin's records in any order and more than once. The greatest order wins. Compaction keeps the last
logged record and not the winner, so a pin whose last logged record is not its winner is pending: the owner publishes
the winner again, and reading it clears the mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dotstream.errors import Poison
from indexer import arguments
from indexer.entries import Row
from indexer.errors import BadArgument
from indexer.records import Order, check, encode, order_of
from indexer.records_pb2 import DetectedObject, ObjectRecord


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


@dataclass(slots=True)
class Winner:
    """A record that was read and may win, with what storing it takes.

    Attributes:
        record, canonical: the record and its bytes.
        objects: of the record; none for a delete.
        codes: its searched codes, in their order, each of the shard's width; none for a delete.
        order: its place among the pin's records.
        offset, logged_at: of the log.
    """

    record: ObjectRecord
    canonical: bytes
    objects: Sequence[DetectedObject]
    codes: list[bytes]
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
    batch: Sequence[tuple[str, Logged, Winner | None]], rows: Mapping[str, Row | None], null_retention_ms: int
) -> tuple[dict[str, Outcome], Counts]:
    """Plays a batch over the rows of its pins.

    Args:
        batch: as `read_batch` gives it.
        rows: every pin of the batch with its row.
        null_retention_ms: a null lets go of a delete only when it was logged so long after it.

    Returns:
        (pin_id -> outcome, counts).
    """
    outcomes = {pin_id: Outcome(pin_id, row) for pin_id, row in rows.items()}
    counts = Counts()
    for pin_id, logged, winner in batch:
        outcome = outcomes[pin_id]
        if winner is None:
            outcome.read.append(None)
            _play_null(outcome, logged, null_retention_ms, counts)
        else:
            outcome.read.append(winner.order)
            _play(outcome, winner, counts)
    return outcomes, counts


def check_logged(batch: Sequence[Logged]) -> None:
    """Looks at what a caller hands over as a batch.

    Raises:
        BadArgument: it is no list of `Logged`, or a field of one is of another type or out of range.
    """
    arguments.all_of("batch", batch, Logged)
    for one in batch:
        if type(one.offset) is not int or not 0 <= one.offset <= arguments.MAX_INT64:
            raise arguments.refused("an offset", one.offset, "an int from 0 on, below 2**63")
        if type(one.timestamp_ms) is not int or not -arguments.MAX_INT64 <= one.timestamp_ms <= arguments.MAX_INT64:
            raise arguments.refused(f"the timestamp at offset {one.offset}", one.timestamp_ms, "Unix ms, an int")
        if type(one.key) is not bytes:
            raise arguments.refused(f"the key at offset {one.offset}", one.key, "bytes, the pin_id in UTF-8")
        if one.record is not None and not isinstance(one.record, ObjectRecord):
            raise arguments.refused(f"the record at offset {one.offset}", one.record, "an ObjectRecord, or None")


def read_batch(
    batch: Sequence[Logged], applied: int, generation: str, bits: int
) -> list[tuple[str, Logged, Winner | None]]:
    """Takes out of logged records what the shard needs, and refuses what could harm it; `indexer.records.decode` has
    looked at everything else.

    Args:
        batch: ascending by offset, behind `applied`.
        applied: the shard's applied offset.
        generation: the shard's.
        bits: width of its codes.

    Returns:
        (pin_id, what was logged, what may win; None for a null).

    Raises:
        BadArgument: the offsets do not ascend from behind `applied`.
        Poison: a record of another pin, generation or code width, or a key that is not in UTF-8.
    """
    found: list[tuple[str, Logged, Winner | None]] = []
    last, width = applied, bits // 8
    for logged in batch:
        if logged.offset <= last:
            raise BadArgument(f"offset {logged.offset} comes behind {last}; pass a batch in ascending order")
        last = logged.offset
        record = logged.record
        pin_id = _pin_id(logged)
        if record is None:
            found.append((pin_id, logged, None))
            continue
        objects: Sequence[DetectedObject] = () if record.deleted else list(record.objects)
        codes = [] if record.deleted else _codes(record, objects)
        whole = list(map(len, codes)).count(width) == len(codes)
        if not whole or record.pin_id != pin_id or record.generation != generation:
            check(record, logged.key, generation=generation, bits=bits)
        canonical = encode(record)
        order = order_of(record, canonical)
        found.append((pin_id, logged, Winner(record, canonical, objects, codes, order, last, logged.timestamp_ms)))
    return found


def _pin_id(logged: Logged) -> str:
    try:
        return logged.key.decode()
    except UnicodeDecodeError as error:
        raise Poison("bad_field", f"the key at offset {logged.offset} is no pin_id: {error}") from None


def _codes(record: ObjectRecord, objects: Sequence[DetectedObject]) -> list[bytes]:
    """The searched codes of a live record, a missing one as an empty one, which `check` names."""
    try:
        return [record.codes[0].bits, *[item.codes[0].bits for item in objects]]
    except IndexError:
        return [b""]


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
