"""What a reader answers from: the newest committed version of every partition, and the lease that says so.

`refresh` moves to the newest versions and renews the lease. Questions take a version by `asking`, which keeps it in the
lease for as long as an answer takes; a takedown waits for the lowest version that a lease holds. `still` stops all
refreshing meanwhile, so that catalogues, which move on in place, stay at one version.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dotstream.clock import Clock
from indexer import arguments
from indexer.disk import disk
from indexer.errors import Closed, ForeignFormat, LeaseExpired
from indexer.follower import Followed, Follower
from indexer.leases import MAX_PARTITIONS, LeaseFile, Positions, boot_id, read_leases

Version = tuple[Followed, ...]
"""A committed version of each partition that has a folder."""
_RENEWED = 0.25
"""Share of a lease that is gone when it is written again."""


@dataclass(slots=True)
class _Held:
    """What a lease says: the lowest watermark and the oldest layout of each partition."""

    positions: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    layouts: dict[int, int] = field(default_factory=dict)

    def add(self, one: Followed) -> None:
        """Takes in a version that may be answered from. Two folders of one partition have no common watermark."""
        number, position = one.view.partition, (one.state.incarnation, one.view.watermark)
        known = self.positions.setdefault(number, position)
        if known[0] != position[0]:
            self.positions[number] = (bytes(16), -1)
        elif position < known:
            self.positions[number] = position
        self.layouts[number] = min(one.state.layout, self.layouts.get(number, one.state.layout))


class Versions:
    """The versions of one reader. Thread-safe.

    Args:
        folder: of the generation; it need not exist yet.
        partitions: of objects.<generation>.
        clock: monotonic time for the lease.
        lease_s: how long answers may be given after a refresh.
        name: of the reader, unique on the machine.

    Attributes:
        partitions: as given.
        now: as last refreshed.

    Raises:
        LockHeld: a living reader has this name.
        BadArgument: an argument cannot be taken.
    """

    def __init__(self, folder: Path, partitions: int, *, clock: Clock, lease_s: float, name: str) -> None:
        self._folder = arguments.folder("folder", folder)
        self.partitions = arguments.whole("partitions", partitions, 1, MAX_PARTITIONS)
        self._clock = clock
        self._lease_s = arguments.seconds("lease_s", lease_s)
        with disk():
            self._lease = LeaseFile(folder, name, clock)
        scratch = self._lease.scratch
        self._followers = [Follower(folder / str(n), n, scratch, clock) for n in range(self.partitions)]
        self._refreshing = threading.Lock()
        self._state = threading.Lock()
        self.now: Version = ()
        self._valid_until = float("-inf")
        self._closed = False
        self._active: dict[int, Version] = {}
        self._asked = 0
        self._leased: tuple[float, _Held] = (float("-inf"), _Held())

    @property
    def generation(self) -> str:
        """The generation's name."""
        return self._folder.name

    @property
    def watermark(self) -> dict[int, int]:
        """Partition -> last applied offset, inclusive, as last refreshed; -1 for an empty one."""
        found = dict.fromkeys(range(self.partitions), -1)
        found.update((one.view.partition, one.view.watermark) for one in self.now)
        return found

    def refresh(self) -> dict[int, int]:
        """As `indexer.reader.IndexReader.refresh`."""
        with self._refreshing, disk():
            self._check_open()
            started = self._clock.monotonic()
            if started >= self._valid_until:
                # The lease stands before the pages are read: a takedown that completes from here on waits for it.
                self._renew(started, self._held(()))
            for follower in self._followers:
                follower.refresh()
            version = tuple(follower.now for follower in self._followers if follower.now is not None)
            self._check(version)
            with self._state:
                self.now = version
            self._renew(started, self._held(version))
            self._valid_until = self._leased[0] + self._lease_s
            return self.watermark

    def keep(self) -> None:
        """Refreshes once a quarter of the lease is gone. Raises as `refresh`."""
        if self._clock.monotonic() > self._valid_until - self._lease_s * (1 - _RENEWED):
            self.refresh()

    @contextmanager
    def asking(self, other: Version | None = None) -> Iterator[Version]:
        """The version to answer from, or another one, kept in the lease for as long as the answer takes.

        Raises:
            LeaseExpired: it was not refreshed in time, at the beginning or at the end.
            Closed: the reader was closed.
        """
        with self._state:
            version = self.now if other is None else other
            self._asked += 1
            asked = self._asked
            self._active[asked] = version
        try:
            self._check_lease()
            yield version
            self._check_lease()
        finally:
            with self._state:
                del self._active[asked]

    @contextmanager
    def still(self) -> Iterator[Version]:
        """The version that the catalogues hold, which do not move meanwhile, as nobody can refresh.

        Raises: as `asking`; NotInView when compaction was faster, refresh first.
        """
        with self._refreshing, disk():
            version = tuple(found for one in self._followers if (found := one.committed()) is not None)
            with self.asking(version):
                yield version

    def all_behind(self, wanted: Positions) -> bool:
        """Whether a power loss could not take back any of these positions, and every leased reader is behind them."""
        if any(self._followers[number].durable() < offset for number, (_, offset) in wanted.items()):
            return False
        now, boot = self._clock.monotonic(), boot_id()
        return all(
            lease.passed(number, incarnation, offset, now, boot)
            for lease in read_leases(self._folder)
            for number, (incarnation, offset) in wanted.items()
        )

    def rest(self) -> None:
        """Gives up the lease until the next `refresh`. Not while a question is in progress."""
        with self._refreshing:
            self._valid_until = float("-inf")
            self._leased = (float("-inf"), _Held())
            self._lease.renew(self._clock.monotonic() - 1.0, {})

    def close(self) -> None:
        """Ends the lease and lets go of the files. Not while a question is in progress."""
        with self._refreshing:
            self._closed, self._valid_until = True, float("-inf")
            for follower in self._followers:
                follower.close()
            self.now = ()
            self._lease.close()

    def _check(self, version: Version) -> None:
        for one in version:
            found = (one.identity.generation, one.identity.bits)
            if found != (self.generation, version[0].identity.bits):
                raise ForeignFormat(f"partition {one.identity.partition} holds {found[1]}-bit codes of {found[0]!r}")

    def _held(self, version: Version) -> _Held:
        """What may still be answered from: this version and those of questions in progress, the lowest of each."""
        with self._state:
            versions = [version, *self._active.values()]
        held = _Held()
        for one in (one for each in versions for one in each):
            held.add(one)
        return held

    def _renew(self, started: float, held: _Held) -> None:
        """Writes the lease when what it holds moved or a share of its time is gone."""
        written, known = self._leased
        if held != known or started > written + self._lease_s * _RENEWED:
            self._lease.renew(started + self._lease_s, held.positions, held.layouts)
            self._leased = (started, held)

    def _check_open(self) -> None:
        if self._closed:
            raise Closed

    def _check_lease(self) -> None:
        self._check_open()
        if self._clock.monotonic() >= self._valid_until:
            raise LeaseExpired(f"the reader was not refreshed within its lease of {self._lease_s} s")
