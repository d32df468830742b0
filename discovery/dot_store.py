"""The dots of every pin on local disk, written together with the offsets of topic `dots` that they reflect.

One RocksDB per API process. Keys and values, format version 1 (numbers big endian):

    b"f"             -> format version u8 | topic id in ASCII
    b"o" + u32       -> next offset to read of that partition, i64
    b"d" + pin_id    -> DotRecord in protobuf; a deleted one stays as the mark that older records must not pass

Offsets and dots go into one WriteBatch, so that a power loss rewinds both together and the log is read again from
there. The write-ahead log is synced by RocksDB's own rhythm: nothing here is the source of truth.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from google.protobuf.message import DecodeError
from rocksdict import Options, Rdict, WriteBatch

from dotstream.errors import DotstreamError, Fatal, Misconfigured
from indexer.database import translate
from indexer.records_pb2 import DotRecord

FORMAT = 1
_HEADER = b"f"
_OFFSET = b"o"
_OFFSET_END = b"p"
_DOTS = b"d"
_DOTS_END = b"e"

_MIB = 1 << 20

Change = tuple[str, DotRecord | None]
"""A pin and its dots; None forgets the pin altogether (a null in the log)."""


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


class DotStore:
    """Dots and offsets in one folder. Reads from any thread, writes from one.

    Args:
        folder: made when missing; its parent must exist or be creatable.

    Raises:
        LockHeld, DiskFull, Damaged, Retryable: as RocksDB says (indexer/database.py).
        Misconfigured: the folder was written in another format version.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        with self._translated():
            self._db = Rdict(str(folder), _options())
        try:
            self._topic_id = self._read_header()
        except BaseException:
            self._db.close()
            raise

    @property
    def topic_id(self) -> str | None:
        """The id of the topic whose dots these are; None in a new folder."""
        return self._topic_id

    def get(self, pin_id: str) -> DotRecord | None:
        """The pin's dots, or the mark of its delete; None when the log never named it."""
        with self._translated():
            value = self._db.get(_DOTS + pin_id.encode())
        return None if value is None else self._parse(value)

    def positions(self) -> dict[int, int]:
        """Partition -> next offset to read."""
        with self._translated():
            return {
                int.from_bytes(key[1:], "big"): int.from_bytes(value, "big", signed=True)
                for key, value in self._scan(_OFFSET, _OFFSET_END)
            }

    def live(self) -> int:
        """How many pins have dots that are not deleted. Reads all of them."""
        with self._translated():
            return sum(not self._parse(value).deleted for _, value in self._scan(_DOTS, _DOTS_END))

    def commit(self, changes: Sequence[Change], positions: Mapping[int, int]) -> None:
        """Writes changes and the positions that they reflect, all or nothing."""
        batch = WriteBatch(raw_mode=True)
        for pin_id, record in changes:
            key = _DOTS + pin_id.encode()
            if record is None:
                batch.delete(key)
            else:
                batch.put(key, record.SerializeToString(deterministic=True))
        self._put_positions(batch, positions)
        with self._translated():
            self._db.write(batch)

    def restart(self, topic_id: str) -> None:
        """Forgets everything and begins the state of another topic, in one batch."""
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(_DOTS, _DOTS_END)
        batch.delete_range(_OFFSET, _OFFSET_END)
        batch.put(_HEADER, struct.pack("B", FORMAT) + topic_id.encode("ascii"))
        with self._translated():
            self._db.write(batch)
        self._topic_id = topic_id

    def close(self) -> None:
        """Releases the folder."""
        self._db.close()

    def _put_positions(self, batch: WriteBatch, positions: Mapping[int, int]) -> None:
        for partition, offset in positions.items():
            batch.put(_OFFSET + struct.pack(">I", partition), struct.pack(">q", offset))

    def _read_header(self) -> str | None:
        with self._translated():
            header = self._db.get(_HEADER)
        if header is None:
            return None
        if header[0] != FORMAT:
            raise Misconfigured(
                f"{self._folder} holds dots in format {header[0]}, this version reads {FORMAT}: "
                "point the API at another folder, it will be filled from the topic"
            )
        return bytes(header[1:]).decode("ascii")

    def _scan(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._db.items(from_key=first):
            if not isinstance(key, bytes) or key >= end:
                return
            yield key, value

    def _parse(self, value: bytes) -> DotRecord:
        try:
            return DotRecord.FromString(value)
        except DecodeError as error:
            raise Fatal(f"{self._folder} holds bytes that are no DotRecord: {error}") from None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DotstreamError:
            raise
        except Exception as error:
            raise translate(error) from error
