r"""A small value that one process writes and others read without a lock: two checksummed copies in a mapped file.

The writer overwrites the older copy, so that the newer one stays whole while a write is under way or was cut off.
File layout (8192 bytes, little endian), two copies at 0 and 4096:

    magic 8 bytes "DSPAGE\x00\x01" | crc32 u32 of all that follows | length u32 | sequence u64 | payload

Step 4 of the commit protocol (indexer/shard.py) and the leases of readers (indexer/leases.py) are such pages.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import zlib
from pathlib import Path

from indexer.errors import Closed

MAGIC = b"DSPAGE\x00\x01"
COPY_BYTES = 4096
_PREFIX = struct.Struct("<8sI")
_BODY = struct.Struct("<IQ")
_READ_TRIES = 20
MAX_PAYLOAD = COPY_BYTES - _PREFIX.size - _BODY.size


class PageFile:
    """One page file, opened for writing or for reading. Not for two writers.

    Args:
        path: the file; a writer creates it, and never shortens one that is there, as readers have it mapped.
        writable: whether `write` may be called.

    Raises:
        FileNotFoundError: reading a file that does not exist.
        Closed: of each method after `close`.
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        flags = os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY
        fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
        try:
            if writable and os.fstat(fd).st_size < 2 * COPY_BYTES:
                os.posix_fallocate(fd, 0, 2 * COPY_BYTES)
            if os.fstat(fd).st_size < 2 * COPY_BYTES:
                raise FileNotFoundError(errno.ENOENT, "the page is not laid out", str(path))
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            self._map = mmap.mmap(fd, 2 * COPY_BYTES, access=access)
        finally:
            os.close(fd)
        newest = self.read()
        self._sequence = newest[0] if newest else 0

    def write(self, payload: bytes) -> None:
        """Publishes the payload, at most `MAX_PAYLOAD` bytes, to every reader."""
        self._check_open()
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a page holds {MAX_PAYLOAD} bytes, not {len(payload)}")
        self._sequence += 1
        body = _BODY.pack(len(payload), self._sequence) + payload
        copy = _PREFIX.pack(MAGIC, zlib.crc32(body)) + body
        at = self._sequence % 2 * COPY_BYTES
        self._map[at : at + len(copy)] = copy

    def read(self) -> tuple[int, bytes] | None:
        """The newest whole copy as (sequence, payload); None when neither is whole.

        Two writes that fall into one reading can make both copies look torn, hence the repetitions.
        """
        self._check_open()
        for _ in range(_READ_TRIES):
            copies = [found for at in (0, COPY_BYTES) if (found := self._copy(at))]
            if copies:
                return max(copies)
        return None

    def _copy(self, at: int) -> tuple[int, bytes] | None:
        magic, crc = _PREFIX.unpack_from(self._map, at)
        length, _ = _BODY.unpack_from(self._map, at + _PREFIX.size)
        if magic != MAGIC or length > MAX_PAYLOAD:
            return None
        start = at + _PREFIX.size
        body = self._map[start : start + _BODY.size + length]
        if zlib.crc32(body) != crc:
            return None
        length_read, sequence = _BODY.unpack_from(body)
        return (sequence, body[_BODY.size :]) if length_read == length else None

    def _check_open(self) -> None:
        if self._map.closed:
            raise Closed

    def sync(self) -> None:
        """Waits until the file is on the disk."""
        self._map.flush()

    def close(self) -> None:
        """Unmaps the file."""
        self._map.close()
