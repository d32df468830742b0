"""The edge to the file system: its errors by name. RocksDB's are translated in indexer/database.py."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from dotstream.errors import DotstreamError, Retryable
from indexer.errors import Damaged, DiskFull


@contextmanager
def disk() -> Iterator[None]:
    """Translates what the file system raises inside.

    Raises:
        DiskFull: no space, or over quota.
        Damaged: a file that must be there is not.
        Retryable: everything else: input/output errors, too many open files, a read-only file system, no permission.
    """
    try:
        yield
    except OSError as error:
        raise translate(error) from error


def translate(error: OSError) -> DotstreamError:
    """The named error for one of the file system's."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull(f"no space for the index: {error}")
    if isinstance(error, FileNotFoundError):
        return Damaged(f"a file of the index is missing: {error}")
    return Retryable(f"the index could not be read or written: {error}")
