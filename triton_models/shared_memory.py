"""Pictures to a Triton on the same machine through system shared memory: a bounded pool of regions, reused.

Stands between triton_models/client.py and the server's memory: a batch is copied once into a region that the server has
mapped, instead of being serialised, sent and parsed. Only inputs travel so. Answers are small and come by gRPC, since
a region would still hold the last answer's values where a faulty model wrote none.

A region is a POSIX shared-memory object: on Linux a file in /dev/shm, here `dotstream-pictures-<pid>-<random>-<n>`, and
locked (flock) for as long as its owner lives. The lock, unlike the pid in the name, also tells the truth after a pid
was given out again, and between containers that share /dev/shm but not their processes; `sweep` removes what nobody
holds.

A call that ran out of time may still be read by the server while its region already carries the next batch. The late
answer goes to nobody, so nothing wrong is returned; but a response cache inside the server would keep it under the
wrong key, which is why the client refuses shared memory for a model that has one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import math
import mmap
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dotstream.errors import DotstreamError, Fatal, Misconfigured, Unavailable
from triton_models.statuses import Closed, ModelFailed

FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared-memory objects, not a temporary file
PREFIX = "dotstream-pictures-"

_TRANSIENT = (errno.ENOSPC, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_NAMES_TRIED = 10


class _Swept(Unavailable):
    """Another process swept the object in the moment between its making and its locking."""


class Registrar(Protocol):
    """The server's side of regions; triton_models/connection.py has it."""

    @property
    def address(self) -> str: ...
    def regions(self) -> dict[str, str]: ...
    def register_region(self, name: str, key: str, size: int) -> None: ...
    def unregister_region(self, name: str) -> None: ...


class Region:
    """One shared-memory object, created, locked and mapped by this process.

    Args:
        folder: where the system keeps such objects.
        name: its file name there; the server opens it as "/" + name.
        size: bytes, all of them reserved at once: writing to a page that cannot be had would kill the process.

    Raises: Unavailable when there is no room or no file descriptor left.
    """

    def __init__(self, folder: Path, name: str, size: int) -> None:
        self.name = name
        self.key = f"/{name}"
        self.size = size
        self.registered = False
        self._path = folder / name
        descriptor = -1
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink == 0:
                raise BlockingIOError("removed before it was locked")
            os.posix_fallocate(descriptor, 0, size)
            self._memory = mmap.mmap(descriptor, size)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
                self._path.unlink(missing_ok=True)
            if isinstance(error, BlockingIOError):
                raise _Swept(f"shared memory {self._path}: {error}") from error
            kind = Unavailable if error.errno in _TRANSIENT else Fatal
            raise kind(f"shared memory {self._path}, {size} bytes: {error}") from error
        self._descriptor = descriptor

    def write(self, images: npt.NDArray[np.uint8]) -> int:
        """Copies `images` to the start of the region. Returns: its bytes."""
        count = math.prod(images.shape)
        np.frombuffer(self._memory, dtype=np.uint8, count=count).reshape(images.shape)[...] = images
        return count

    def close(self) -> None:
        """Removes the object; a server that has it mapped keeps its own view until it is told to let go."""
        self._path.unlink(missing_ok=True)
        self._memory.close()
        os.close(self._descriptor)


class RegionPool:
    """At most `limit` regions of one size, each lent to one call at a time.

    Args:
        server: where regions are registered.
        size: bytes of each region: the largest batch.
        limit: regions that may exist; more calls at once wait for one. Bounds memory to limit x size.
        folder: where the system keeps shared-memory objects.
    """

    def __init__(self, server: Registrar, *, size: int, limit: int, folder: Path = FOLDER) -> None:
        self._server = server
        self._size = size
        self._limit = limit
        self._folder = folder
        self._owner = f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self._changed = threading.Condition()
        self._idle: list[Region] = []
        self._numbers = itertools.count(1)
        self._lent = 0
        self._closed = False

    @contextlib.contextmanager
    def lend(self, limit_s: float) -> Iterator[Region]:
        """A region that the server has mapped, for one call.

        After a call that failed the server may be another process that knows no regions: the region is then looked up,
        and registered again where needed, before its next use.

        Raises: Unavailable when none is free within `limit_s` seconds or no memory can be had; Misconfigured when the
            server cannot open the region, as it cannot on another machine; Closed.
        """
        region = self._take(limit_s)
        try:
            if not region.registered:
                self._register(region)
            yield region
        except DotstreamError:
            region.registered = False
            raise
        finally:
            self._give_back(region)

    def close(self) -> None:
        """Unregisters and removes every idle region; one that is lent is removed when it comes back.

        Never raises: a server that is gone has forgotten its regions by itself.
        """
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        with contextlib.suppress(DotstreamError):
            for region in idle:
                _let_go(self._server, region.name)
        for region in idle:
            region.close()

    def _take(self, limit_s: float) -> Region:
        with self._changed:
            free = self._changed.wait_for(lambda: self._closed or self._idle or self._lent < self._limit, limit_s)
            if self._closed:
                raise Closed("the shared-memory regions are closed")
            if not free:
                raise Unavailable(f"all {self._limit} shared-memory regions were in use for {limit_s} s")
            self._lent += 1
            if self._idle:
                return self._idle.pop()  # the one used last: its pages are still in the processor's caches
        try:
            return self._make()
        except BaseException:
            self._give_back(None)
            raise

    def _make(self) -> Region:
        for place in range(_NAMES_TRIED):
            try:
                return Region(self._folder, f"{self._owner}-{next(self._numbers)}", self._size)
            except _Swept:
                if place == _NAMES_TRIED - 1:
                    raise
        raise AssertionError("the loop returns or raises")

    def _give_back(self, region: Region | None) -> None:
        with self._changed:
            self._lent -= 1
            if region is not None and not self._closed:
                self._idle.append(region)
                region = None
            self._changed.notify()
        if region is not None:
            region.close()

    def _register(self, region: Region) -> None:
        if self._server.regions().get(region.name) != region.key:
            try:
                self._server.register_region(region.name, region.key, region.size)
            except Unavailable:
                raise
            except DotstreamError as error:
                raise Misconfigured(
                    f"Triton at {self._server.address} cannot map {self._folder / region.name}: it must run on this "
                    f"machine as a user that may open the file, and see the same {self._folder}; else turn shared "
                    f"memory off ({error})"
                ) from error
        region.registered = True


def sweep(server: Registrar, folder: Path = FOLDER) -> list[str]:
    """Removes what dead owners left behind: unlocked region files, and the server's mappings of files that are gone.

    Returns: the names of the files removed.
    Raises: the errors of `server` when it is away; the files are removed before it is asked.
    """
    removed = [path.name for path in sorted(folder.glob(f"{PREFIX}*")) if _remove_if_dead(path)]
    for name, key in server.regions().items():
        if name.startswith(PREFIX) and not (folder / key.lstrip("/")).exists():
            _let_go(server, name)
    return removed


def _let_go(server: Registrar, name: str) -> None:
    """Has the server unmap a region; one that a call still uses, though its answer may be out, is the next sweep's."""
    with contextlib.suppress(ModelFailed):
        server.unregister_region(name)


def _remove_if_dead(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False  # gone since it was listed, or another user's
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except OSError:
        return False  # its owner lives
    finally:
        os.close(descriptor)
    return True
