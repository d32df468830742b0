"""The folder of one partition's state: which version of it is in place, who holds it, what a shard's was made for.

Shards (indexer/shard.py) and the keyed states of other workers (indexer/keyed_state.py) lie in such folders.

    <partition>/
        CURRENT          text: name of the version folder that readers and the writer use
        NEXT             text: name of the version folder that a rebuild fills; renamed to CURRENT once caught up
        v-<12 hex>/      LOCK, commit (the commit page), RocksDB, and what else the state has

A pointer is replaced by rename, so that it names a whole folder or another. Folders that no pointer names and nobody
holds are left-overs of this software and are removed; folders of other formats and damaged ones never are.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dotstream.clock import Clock
from indexer.errors import Damaged, ForeignFormat, LockHeld, NeedsRebuild, Superseded
from indexer.segment_format import REBUILD, sync_folder

FORMAT = 2
CURRENT = "CURRENT"
NEXT = "NEXT"
_PREFIX = "v-"
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Identity:
    """What a shard's folder was made for; kept in its catalogue.

    Attributes:
        generation, partition: of the objects topic.
        topic_id: the topic's id in the cluster; a topic made anew under the same name has another.
        feature: name of the searched codes.
        bits: their width.
        segment_slots: capacity of a segment; fixed when the folder is made.
        incarnation: 16 random bytes as hex, the folder's own.
    """

    generation: str
    partition: int
    topic_id: str
    feature: str
    bits: int
    segment_slots: int
    incarnation: str

    def pack(self) -> bytes:
        """JSON, for the catalogue's key `format`."""
        names = ("generation", "partition", "topic_id", "feature", "bits", "segment_slots", "incarnation")
        return json.dumps({"format": FORMAT} | {name: getattr(self, name) for name in names}).encode()

    def hold_against(self, wanted: Identity) -> None:
        """Checks that this folder serves what is wanted; segment size and incarnation are the folder's own.

        Raises:
            ForeignFormat: of another generation, partition, feature or width.
            NeedsRebuild: it reflects another topic.
        """
        for name in ("generation", "partition", "feature", "bits"):
            if getattr(self, name) != getattr(wanted, name):
                raise ForeignFormat(
                    f"the shard was made for {name} {getattr(self, name)!r}, not {getattr(wanted, name)!r}"
                )
        if self.topic_id != wanted.topic_id:
            raise NeedsRebuild(f"the shard reflects topic {self.topic_id}, not {wanted.topic_id}")


def read_identity(value: bytes | None) -> Identity:
    """The identity that a catalogue holds.

    Raises:
        ForeignFormat: none, or one of another format.
    """
    try:
        fields = json.loads(value or b"")
        found = fields.pop("format")
        if found != FORMAT:
            raise ForeignFormat(f"the shard has format {found}; this software reads format {FORMAT}: {REBUILD}")
        return Identity(**fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ForeignFormat(f"the catalogue does not say what it was made for: {error}") from None


def named(folder: Path, pointer: str) -> Path | None:
    """The version folder that a pointer names; None when there is no such pointer.

    Raises:
        Damaged: the pointer names nothing that is there.
    """
    try:
        name = (folder / pointer).read_text("ascii").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise Damaged(f"{folder / pointer} is no pointer") from None
    if not name.startswith(_PREFIX) or "/" in name or not (folder / name).is_dir():
        raise Damaged(f"{folder / pointer} names {name!r}, which is not there")
    return folder / name


def new_version(folder: Path) -> Path:
    """Makes an empty version folder that no pointer names yet."""
    version = folder / f"{_PREFIX}{secrets.token_hex(6)}"
    version.mkdir(parents=True)
    sync_folder(version)
    sync_folder(folder)
    return version


def point(folder: Path, pointer: str, version: Path) -> None:
    """Makes a pointer name this version folder, durably."""
    draft = folder / f"{pointer}.{secrets.token_hex(4)}.tmp"
    with draft.open("w", encoding="ascii") as file:
        file.write(version.name + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / pointer)
    sync_folder(folder)


def promote(folder: Path) -> None:
    """Puts what NEXT names in CURRENT's place."""
    (folder / NEXT).replace(folder / CURRENT)
    sync_folder(folder)


class Place:
    """A version folder in use, and the pointer that must go on naming it.

    Attributes:
        home: the partition's folder.
        pointer: CURRENT, or NEXT while a rebuild fills the version folder.
        version: the version folder.
    """

    def __init__(self, home: Path, pointer: str, version: Path) -> None:
        self.home = home
        self.pointer = pointer
        self.version = version
        self._stamp = stamp(home / pointer)

    def check(self) -> None:
        """Looks whether the pointer was changed, and if so whether it names the folder still.

        Raises:
            Superseded: it names another.
        """
        found = stamp(self.home / self.pointer)
        if found != self._stamp:
            if named(self.home, self.pointer) != self.version:
                raise Superseded(f"{self.version} is no longer the state of {self.home}")
            self._stamp = found

    def promote(self) -> None:
        """Puts NEXT in the place of CURRENT."""
        promote(self.home)
        self.pointer = CURRENT
        self._stamp = stamp(self.home / CURRENT)


def stamp(pointer: Path) -> tuple[int, int] | None:
    """What changes when a pointer is replaced; None when there is none."""
    try:
        found = pointer.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


class Lock:
    """The right to write one version folder, held by an open file; the system lets go when the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def take(self, clock: Clock, limit_s: float) -> None:
        """Takes the lock, waiting for at most so many seconds.

        Raises:
            LockHeld: another process has it still.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = clock.monotonic() + limit_s
        held = False
        try:
            while not (held := try_lock(fd)) and clock.monotonic() < deadline:
                clock.sleep(_POLL_S)
        finally:
            if not held:
                os.close(fd)
        if not held:
            raise LockHeld(f"{self._path} is held by another process, waited {limit_s} s")
        self._fd = fd

    def release(self) -> None:
        """Lets go of the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def try_lock(fd: int) -> bool:
    """Takes the lock (flock) on an open file; False when another has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


def clear_left_overs(folder: Path) -> None:
    """Removes version folders that no pointer names and nobody holds: replaced ones and unfinished beginnings."""
    kept = {version.name for pointer in (CURRENT, NEXT) if (version := named(folder, pointer))}
    for version in folder.glob(f"{_PREFIX}*"):
        if version.name in kept:
            continue
        fd = os.open(version / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if try_lock(fd):
                shutil.rmtree(version)
        finally:
            os.close(fd)


@contextmanager
def held(home: Path, clock: Clock, limit_s: float) -> Iterator[None]:
    """The partition's own lock, for as long as pointers and folders are made or cleared away."""
    lock = Lock(home / "LOCK")
    lock.take(clock, limit_s)
    try:
        yield
    finally:
        lock.release()


def take_version(
    home: Path, pointer: str, make: Callable[[], Path], *, clock: Clock, lock_limit_s: float
) -> tuple[Path, Lock]:
    """The version folder that a pointer names, and its lock.

    Args:
        home: the partition's folder; made where it is missing.
        pointer: CURRENT or NEXT.
        make: makes a version folder and points to it; called where there is none, while `home` is held.
        clock: for waiting.
        lock_limit_s: how long to wait for another holder.

    Raises:
        LockHeld: another process has the folder still.
        Damaged: the pointer names nothing that is there.
    """
    home.mkdir(parents=True, exist_ok=True)
    while True:
        with held(home, clock, lock_limit_s):
            clear_left_overs(home)
            version = named(home, pointer) or make()
        lock = Lock(version / "LOCK")
        lock.take(clock, lock_limit_s)
        try:
            if named(home, pointer) == version:
                return version, lock
        except BaseException:
            lock.release()
            raise
        lock.release()  # another holder put a new folder in place while we waited
