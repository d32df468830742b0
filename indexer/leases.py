"""Leases of readers: what each follower still answers from, so that a takedown knows when nobody answers the old.

A reader holds one page file per generation, `<generation>/readers/<name>.lease` (indexer/pages.py), and renews it in
`refresh()`. Payload, little endian, version 2:

    version u32 | partitions u32 | boot id 16 bytes | expires f64 | partitions x (partition i32, incarnation 16 bytes,
    watermark i64, layout u64)

`expires` is monotonic time, which all processes of one boot share; a lease of another boot is void. The watermark is
the lowest, and the layout (indexer/layout.py) the oldest, that any query of the reader still in progress may answer
from.
"""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotstream.clock import Clock
from indexer.arguments import refused
from indexer.errors import LockHeld
from indexer.folder import Lock
from indexer.pages import MAX_PAYLOAD, PageFile

VERSION = 2
FOLDER = "readers"
_HEAD = struct.Struct("<II16sd")
_EACH = struct.Struct("<i16sqQ")
MAX_PARTITIONS = (MAX_PAYLOAD - _HEAD.size) // _EACH.size
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SUFFIX = ".lease"
_LOCK = ".lock"
_SCRATCH = ".scratch"
_SETUP_LIMIT_S = 10.0

Positions = Mapping[int, tuple[bytes, int]]
"""Partition -> (incarnation of its folder, watermark)."""


def boot_id() -> bytes:
    """16 bytes that differ from boot to boot; zeros where the system does not tell."""
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


@dataclass(frozen=True, slots=True)
class Lease:
    """One reader's promise not to answer from anything older than this, once it has run out not to answer at all.

    Attributes:
        name: the reader's.
        expires: monotonic seconds.
        boot: of the machine's boot in which that counts.
        positions: partition -> (incarnation, watermark).
        layouts: partition -> number of the layout.
    """

    name: str
    expires: float
    boot: bytes
    positions: Positions
    layouts: Mapping[int, int] = field(default_factory=dict)

    def passed(self, partition: int, incarnation: bytes, offset: int, now: float, boot: bytes) -> bool:
        """Whether this reader can no longer answer from before `offset` of the partition."""
        if self.boot != boot or now >= self.expires:
            return True
        position = self.positions.get(partition)
        return position is not None and position[0] == incarnation and position[1] >= offset


class LeaseFile:
    """A reader's own lease.

    Args:
        generation: folder of the generation.
        name: unique among the readers of this machine: role and slot.
        clock: monotonic time.

    Attributes:
        scratch: an empty folder of the reader's own, for as long as it is open.

    Raises:
        LockHeld: a living reader has this name.
        BadArgument: the name is no file name.
    """

    def __init__(self, generation: Path, name: str, clock: Clock) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise refused("a reader's name", name, "1 to 100 letters, digits, dots, dashes, a letter or digit first")
        folder = generation / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(folder / f"{name}{_LOCK}")
        self._path = folder / f"{name}{_SUFFIX}"
        self.scratch = folder / f"{name}{_SCRATCH}"
        setup = Lock(folder / "LOCK")
        setup.take(clock, _SETUP_LIMIT_S)
        try:
            _clear_left_overs(folder, clock)
            self._lock.take(clock, 0)
            self.scratch.mkdir()
            self._page = PageFile(self._path, writable=True)
        finally:
            setup.release()
        self._boot = boot_id()

    def renew(self, expires: float, positions: Positions, layouts: Mapping[int, int] | None = None) -> None:
        """Publishes what the reader answers from until then; a partition without a layout has the first one."""
        known = layouts or {}
        parts = [_HEAD.pack(VERSION, len(positions), self._boot, expires)]
        parts += [_EACH.pack(number, *position, known.get(number, 0)) for number, position in positions.items()]
        self._page.write(b"".join(parts))

    def close(self) -> None:
        """Ends the lease and removes its files."""
        self._page.close()
        _remove(self._path.parent, self._path.name.removesuffix(_SUFFIX))
        self._lock.release()


def _clear_left_overs(folder: Path, clock: Clock) -> None:
    """Removes the files of readers that ended without closing; their locks are free."""
    for path in folder.glob(f"*{_LOCK}"):
        lock = Lock(path)
        try:
            lock.take(clock, 0)
        except LockHeld:
            continue
        _remove(folder, path.name.removesuffix(_LOCK))
        lock.release()


def _remove(folder: Path, name: str) -> None:
    (folder / f"{name}{_SUFFIX}").unlink(missing_ok=True)
    shutil.rmtree(folder / f"{name}{_SCRATCH}", ignore_errors=True)
    (folder / f"{name}{_LOCK}").unlink(missing_ok=True)


def read_leases(generation: Path) -> list[Lease]:
    """The leases in a generation's folder, run out or not. A page that is not whole counts as not yet taken."""
    leases: list[Lease] = []
    for path in sorted((generation / FOLDER).glob(f"*{_SUFFIX}")):
        try:
            page = PageFile(path, writable=False)
        except FileNotFoundError:
            continue
        try:
            found = page.read()
        finally:
            page.close()
        if found is not None:
            leases.append(_unpack(path.name.removesuffix(_SUFFIX), found[1]))
    return leases


def _unpack(name: str, payload: bytes) -> Lease:
    version, count, boot, expires = _HEAD.unpack_from(payload)
    if version != VERSION:
        return Lease(name, expires, boot, {})  # of other software beside this one: it is waited for until it runs out
    positions: dict[int, tuple[bytes, int]] = {}
    layouts: dict[int, int] = {}
    for at in range(count):
        partition, incarnation, watermark, layout = _EACH.unpack_from(payload, _HEAD.size + at * _EACH.size)
        positions[partition] = (incarnation, watermark)
        layouts[partition] = layout
    return Lease(name, expires, boot, positions, layouts)
