"""What the dots worker remembers of its decisions, so that it can say which of them are due to be decided again.

Everything is derived from the compacted topic `dots`: the ledger follows all of its partitions, so that a rebalance
moves no state, and is rebuilt by reading it again. One RocksDB per worker slot. Keys and values, format version 1
(numbers big endian, p = partition of `dots`, which is that of `objects` too):

    b"f"                                         -> format u8 | topic id in ASCII
    b"o" + p u32                                 -> next offset to read, i64
    b"d" + pin                                   -> p u32 | DotRecord; a deleted one stays as the mark of the delete
    b"w" + length u16 + witness + pin            -> b""; the pin's dots rest on the witness
    b"q" + p u32 + epoch u64 + objects u64 + pin -> b""; live pins by epoch, then by the index's size when decided
    b"g" + pin                                   -> b""; deleted pins
    b"t" + p u32 + pin                           -> b""; live pins of whose witnesses one is deleted now
    b"c" + p u32 + outcome                       -> u64, live pins with this outcome (see `outcome_of`)
    b"u" + pin                                   -> b""; turned: its delete was read or taken back, and step 2 is due

How a batch is folded in, so that a crash at any point is mended by reading the same records again:

    1. of each pin the record that wins by (version, deleted, epoch, decision) replaces the one before, with its
       entries under w, q, g and c, and one whose delete was read or taken back is noted under u: one write
    2. for every pin that was read, and every pin that rests on a noted one, the mark under t is set or cleared by what
       is stored now, the notes go, and the positions move: one write
"""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from google.protobuf.message import DecodeError
from rocksdict import Options, Rdict, WriteBatch

from dotstream.errors import DotstreamError, Fatal, Misconfigured
from indexer.database import translate
from indexer.dot_order import order_of
from indexer.records_pb2 import Dot, DotRecord
from producers.whole_topic import Logged

FORMAT = 1
_U16, _U32, _U64, _I64 = struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q"), struct.Struct(">q")
_MIB = 1 << 20
Known = tuple[int, DotRecord]
"""A partition of `dots` and the record that counts there."""


def outcome_of(record: DotRecord) -> str:
    """What the dots of a pin came to, in one word for the coverage metrics.

    `signals` or `cold_start` when a dot is shown; `no_objects`; else the first reason of the dot that failed least.
    """
    if not record.dots:
        return "no_objects"
    best = min(record.dots, key=lambda dot: (not dot.shown, len(dot.reasons)))
    return Dot.Reason.Name(best.reasons[0]).removeprefix("REASON_").lower() if best.reasons else "unspecified"


class DotLedger:
    """Decisions and positions in one folder. One thread uses it.

    Args:
        folder: made when missing.

    Raises:
        LockHeld, DiskFull, Damaged, Retryable: as RocksDB says (indexer/catalogue.py).
        Misconfigured: the folder was written in another format version.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        with _edge():
            self._db = Rdict(str(folder), _options())
        try:
            self._topic_id = self._read_header()
        except BaseException:
            self._db.close()
            raise

    @property
    def topic_id(self) -> str | None:
        """The id of the topic that it follows; None in a new folder."""
        return self._topic_id

    def positions(self) -> dict[int, int]:
        """Partition -> next offset to read."""
        return {_U32.unpack(key[1:])[0]: _I64.unpack(value)[0] for key, value in self._scan(b"o")}

    def get(self, pin_id: str) -> DotRecord | None:
        """The pin's decision that counts, or the mark of its delete."""
        known = self._get(pin_id)
        return None if known is None else known[1]

    def coverage(self, partition: int) -> dict[str, int]:
        """Outcome -> live pins of a partition."""
        prefix = b"c" + _U32.pack(partition)
        return {key[5:].decode(): _U64.unpack(value)[0] for key, value in self._scan(prefix)}

    def bereft(self, partition: int, after: str | None, limit: int) -> list[str]:
        """Pins of a partition that rest on a deleted one, ascending, behind `after`."""
        prefix = b"t" + _U32.pack(partition)
        start = prefix if after is None else prefix + after.encode() + b"\0"
        return [key[5:].decode() for key in itertools.islice(self._keys(prefix, start), limit)]

    def standing(self, partition: int, after: tuple[int, int, str] | None, limit: int) -> list[tuple[int, int, str]]:
        """(epoch, objects in the index when decided, pin) of a partition's live pins, ascending, behind `after`."""
        prefix = b"q" + _U32.pack(partition)
        start = prefix if after is None else _queued(partition, *after) + b"\0"
        found = itertools.islice(self._keys(prefix, start), limit)
        return [(_U64.unpack(key[5:13])[0], _U64.unpack(key[13:21])[0], key[21:].decode()) for key in found]

    def fold(self, records: Sequence[Logged], positions: Mapping[int, int]) -> int:
        """Takes records in, by the two steps above. Returns how many could not be read and were left out."""
        read, unreadable = self._winners(records)
        batch = WriteBatch(raw_mode=True)
        turned = [key[1:] for key in self._keys(b"u", b"u")]
        for key in turned:
            batch.delete(b"u" + key)
        for partition, record in self._to_mark(read, [key.decode() for key in turned]):
            key = b"t" + _U32.pack(partition) + record.pin_id.encode()
            if self._is_bereft(record):
                batch.put(key, b"")
            else:
                batch.delete(key)
        for partition, offset in positions.items():
            batch.put(b"o" + _U32.pack(partition), _I64.pack(offset))
        with _edge():
            self._db.write(batch)
        return unreadable

    def restart(self, topic_id: str) -> None:
        """Forgets everything and begins to follow another topic, in one batch."""
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(b"a", b"z")
        batch.put(b"f", struct.pack("B", FORMAT) + topic_id.encode("ascii"))
        with _edge():
            self._db.write(batch)
        self._topic_id = topic_id

    def close(self) -> None:
        """Releases the folder."""
        self._db.close()

    # Step 1.

    def _winners(self, records: Sequence[Logged]) -> tuple[list[str], int]:
        """Writes the winners, and notes those that are deleted now or were before.

        Returns: the pins that were read, and how many records were unreadable.
        """
        before: dict[str, Known | None] = {}
        after: dict[str, Known | None] = {}
        unreadable = 0
        for logged in records:
            try:
                pin_id, record = _parse(logged)
            except (ValueError, DecodeError):
                unreadable += 1
                continue
            if pin_id not in before:
                before[pin_id] = after[pin_id] = self._get(pin_id)
            standing = after[pin_id]
            if record is None:
                after[pin_id] = None
            elif standing is None or order_of(record) > order_of(standing[1]):
                after[pin_id] = (logged.partition, record)
        batch = WriteBatch(raw_mode=True)
        counts: Counter[bytes] = Counter()
        for pin_id, known in after.items():
            _replace(batch, counts, pin_id, before[pin_id], known)
            if _is_gone(before[pin_id]) or _is_gone(known):
                batch.put(b"u" + pin_id.encode(), b"")
        for key, change in counts.items():
            with _edge():
                value = self._db.get(key)
            batch.put(key, _U64.pack((_U64.unpack(value)[0] if value else 0) + change))
        with _edge():
            self._db.write(batch)
        return list(after), unreadable

    # Step 2.

    def _to_mark(self, read: Sequence[str], turned: Iterable[str]) -> Iterator[Known]:
        """The pins that were read and those that rest on turned ones, each once; a forgotten one is passed over."""
        pins = dict.fromkeys(read)
        for pin_id in turned:
            prefix = _witnessed(pin_id)
            pins |= dict.fromkeys(key[len(prefix) :].decode() for key, _ in self._scan(prefix))
        for pin_id in pins:
            known = self._get(pin_id)
            if known is not None:
                yield known

    def _is_bereft(self, record: DotRecord) -> bool:
        if record.deleted or not record.witnesses:
            return False
        with _edge():
            found = self._db.get([b"g" + witness.encode() for witness in record.witnesses])
        return any(value is not None for value in found or ())

    # The edge to RocksDB.

    def _get(self, pin_id: str) -> Known | None:
        with _edge():
            value = self._db.get(b"d" + pin_id.encode())
        if value is None:
            return None
        try:
            return _U32.unpack_from(value)[0], DotRecord.FromString(value[_U32.size :])
        except DecodeError as error:
            raise Fatal(f"{self._folder} holds bytes that are no DotRecord: {error}; delete the folder") from None

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        with _edge():
            for key, value in self._db.items(from_key=prefix):
                if not isinstance(key, bytes) or not key.startswith(prefix):
                    return
                yield key, value

    def _keys(self, prefix: bytes, start: bytes) -> Iterator[bytes]:
        with _edge():
            for key in self._db.keys(from_key=start):
                if not isinstance(key, bytes) or not key.startswith(prefix):
                    return
                yield key

    def _read_header(self) -> str | None:
        with _edge():
            header = self._db.get(b"f")
        if header is None:
            return None
        if header[0] != FORMAT:
            raise Misconfigured(
                f"{self._folder} holds a ledger in format {header[0]}, this version reads {FORMAT}: "
                "delete the folder, it will be filled from the topic"
            )
        return bytes(header[1:]).decode("ascii")


def _replace(batch: WriteBatch, counts: Counter[bytes], pin_id: str, before: Known | None, after: Known | None) -> None:
    """Puts a pin's entries in place of those before, its mark under t left aside."""
    if before is not None and (after is None or before != after):
        for key in _entries(*before):
            batch.delete(key)
        if after is None:
            batch.delete(b"t" + _U32.pack(before[0]) + pin_id.encode())
            batch.delete(b"d" + pin_id.encode())
        _count(counts, before, -1)
    if after is not None and before != after:
        batch.put(b"d" + pin_id.encode(), _U32.pack(after[0]) + after[1].SerializeToString(deterministic=True))
        for key in _entries(*after):
            batch.put(key, b"")
        _count(counts, after, 1)


def _entries(partition: int, record: DotRecord) -> list[bytes]:
    """The keys under w and q of a live record, under g of a deleted one."""
    if record.deleted:
        return [b"g" + record.pin_id.encode()]
    rests = [_witnessed(witness) + record.pin_id.encode() for witness in record.witnesses]
    return [*rests, _queued(partition, record.epoch, record.index_objects, record.pin_id)]


def _is_gone(known: Known | None) -> bool:
    return known is not None and known[1].deleted


def _count(counts: Counter[bytes], known: Known, change: int) -> None:
    partition, record = known
    if not record.deleted:
        counts[b"c" + _U32.pack(partition) + outcome_of(record).encode()] += change


def _witnessed(witness: str) -> bytes:
    key = witness.encode()
    return b"w" + _U16.pack(len(key)) + key


def _queued(partition: int, epoch: int, objects: int, pin_id: str) -> bytes:
    return b"q" + _U32.pack(partition) + _U64.pack(epoch) + _U64.pack(objects) + pin_id.encode()


def _parse(logged: Logged) -> tuple[str, DotRecord | None]:
    """Raises ValueError or DecodeError for what is no record of ours; the dots workers are the only writers."""
    if logged.key is None:
        raise ValueError("it has no key")
    pin_id = logged.key.decode()
    if logged.value is None:
        return pin_id, None
    record = DotRecord.FromString(logged.value)
    if record.pin_id != pin_id or min(record.epoch, record.index_objects) < 0:
        raise ValueError(f"its pin_id {record.pin_id!r} is not its key, or a number is negative")
    return pin_id, record


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(8 * _MIB)
    options.set_max_write_buffer_number(2)
    options.set_max_total_wal_size(32 * _MIB)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(_MIB)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


@contextmanager
def _edge() -> Iterator[None]:
    try:
        yield
    except DotstreamError:
        raise
    except Exception as error:
        raise translate(error) from error
