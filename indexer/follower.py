"""One partition as another process sees it: the version that its writer last committed, without a lock on the writer.

The follower looks at the commit page; only when that moved does it let RocksDB's secondary instance catch up, map
segments that are new, and take the next version as a whole. The catalogue's own state row names that version, so that
codes and catalogue are of one commit; while page and catalogue do not agree, they are waited for briefly.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dotstream.clock import Clock
from dotstream.errors import DotstreamError, Misconfigured, Retryable
from indexer import arguments, commit_page, folder, layout
from indexer.catalogue import Catalogue
from indexer.commit_page import State
from indexer.disk import disk
from indexer.errors import Damaged, NotInView
from indexer.folder import CURRENT, Identity
from indexer.pages import PageFile
from indexer.scratch import Scratch
from indexer.segment_format import REBUILD, SegmentName, SegmentSpec
from indexer.segments import Segment
from indexer.view import View

_CACHE_BYTES = 8 << 20
_MEET_S = 0.02
_POLL_S = 0.0002
_MEET_TRIES = 1000
_GONE_TRIES = 25
_GONE_POLL_S = 0.02
"""What is missing for so long, in a folder that nobody replaces, does not come any more."""


@dataclass(frozen=True, slots=True)
class Followed:
    """A committed version of one partition, with what answers questions about it.

    Attributes:
        view: codes and columns.
        catalogue: at this version, or later once the follower was refreshed again.
        state: counts and offsets of this version.
        identity: what the folder was made for.
        path: the version folder.
    """

    view: View
    catalogue: Catalogue
    state: State
    identity: Identity
    path: Path


class _Version:
    """A version folder, followed."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self.path = path
        self._scratch = scratch
        self._opened = 0
        with ExitStack() as undo:
            self.page = PageFile(path / "commit", writable=False)
            undo.callback(self.page.close)
            self.catalogue = self._open()
            undo.callback(self.catalogue.close)
            self.identity = folder.read_identity(self.catalogue.get("meta", b"format"))
            undo.pop_all()
        identity = self.identity
        self.spec = SegmentSpec(
            identity.generation,
            identity.partition,
            identity.bits,
            identity.segment_slots,
            bytes.fromhex(identity.incarnation),
        )
        self._segments: dict[SegmentName, Segment] = {}
        self._layout = layout.Layout()
        self.sequence = -1

    def catch_up(self) -> bool:
        """Brings the catalogue up to what the writer wrote. False when a new one had to be opened for it.

        The one left behind stays open for queries that still hold it.
        """
        if self.catalogue.catch_up():
            return True
        self.catalogue = self._open()
        return False

    def _open(self) -> Catalogue:
        self._opened += 1
        self._scratch.mkdir(exist_ok=True)
        scratch = self._scratch / str(self._opened)
        opened = Catalogue(self.path / "catalogue", follow=scratch, cache_bytes=_CACHE_BYTES)
        shutil.rmtree(self._scratch / str(self._opened - 1), ignore_errors=True)
        return opened

    def view(self, state: State) -> View:
        """The codes of a state; maps segments that were not mapped yet, and forgets those that were replaced."""
        if state.layout != self._layout.number:
            self._layout = layout.unpack(self.catalogue.get("meta", b"layout"))
        named = list(self._layout.files(self.spec, state.head_segment))
        for name, spec in named:
            if name not in self._segments:
                self._segments[name] = Segment(self.path / "segments", spec, name, "read")
        if len(self._segments) > len(named):
            self._segments = {name: self._segments[name] for name, _ in named}
        mapped = tuple(
            (self._segments[name], state.head_length if name.number == state.head_segment else spec.capacity)
            for name, spec in named
        )
        return View(self.identity.partition, state.applied, mapped)


@contextmanager
def committed(home: Path, partition: int, clock: Clock) -> Iterator[Followed]:
    """The newest committed version of a partition, held open and still, without a lease: for looking, not for answers.

    Raises:
        BadArgument: an argument cannot be taken.
        Misconfigured: there is no shard in the folder.
        Retryable, Damaged, ForeignFormat: as `Follower.refresh`.
    """
    arguments.folder("home", home)
    arguments.whole("partition", partition, 0)
    with disk(), Scratch() as scratch:
        follower = Follower(home, partition, scratch, clock)
        try:
            follower.refresh()
            found = follower.committed()
            if found is None:
                raise Misconfigured(f"there is no shard in {home}")
            yield found
        finally:
            follower.close()


class Follower:
    """Follows one partition. `refresh` is for one thread at a time; `now` may be read by any.

    Args:
        home: the partition's folder; it need not exist yet.
        partition: its number.
        scratch: a folder for RocksDB's log files of this follower.
        clock: for the wait described above.
    """

    def __init__(self, home: Path, partition: int, scratch: Path, clock: Clock) -> None:
        self.partition = partition
        self._home = home
        self._scratch = scratch
        self._clock = clock
        self._opened = 0
        self._stamp: tuple[int, int] | None = None
        self._version: _Version | None = None
        self._mutex = threading.Lock()
        self.now: Followed | None = None

    def refresh(self) -> None:
        """Takes in what the writer committed since; nothing but a look at one file and one page when it did not.

        Raises:
            Retryable: the folder is being replaced, is gone, or its disk refuses; try again.
            Damaged, ForeignFormat: it cannot be read.
        """
        with self._mutex:
            found = folder.stamp(self._home / CURRENT)
            if found is None and self._version is not None:
                raise Retryable(f"the folder of partition {self.partition} is gone")  # which is not an empty index
            if found != self._stamp:
                self._stamp = None
                self._reopen(found)
                self._stamp = found
            if self._version is None:
                return
            try:
                self._follow(self._version)
            except DotstreamError:
                self._stamp = None  # opened anew by the next refresh
                raise

    def committed(self) -> Followed | None:
        """What the catalogue holds as last refreshed, without a look at the page: a commit ahead of it when the writer
        died in between. The version for those who look at a folder as a whole; None without a folder.

        Raises:
            NotInView: compaction replaced a segment meanwhile; refresh.
        """
        with self._mutex:
            version = self._version
            if version is None:
                return None
            state = commit_page.unpack(version.catalogue.get("meta", b"state") or b"")
            try:
                view = version.view(state)
            except FileNotFoundError as error:
                raise NotInView(f"a segment of partition {self.partition} was replaced: {error}") from error
            return Followed(view, version.catalogue, state, version.identity, version.path)

    def durable(self) -> int:
        """The writer's durable offset, as the commit page says now; -1 without a folder."""
        newest = None if self._version is None else self._version.page.read()
        return -1 if newest is None else commit_page.unpack(newest[1]).durable

    def close(self) -> None:
        """Lets go of the files."""
        self.now = None
        if self._version is not None:
            self._version.page.close()
            self._version.catalogue.close()
            self._version = None

    def _missing(self, error: FileNotFoundError, stamp: tuple[int, int] | None, path: Path, *, last: bool) -> None:
        """Waits a little for a file that is not there.

        Args:
            error: what says so.
            stamp: of CURRENT, as it was when it named the folder.
            path: the folder.
            last: whether it was waited for long enough.

        Raises:
            Retryable: the folder is being replaced.
            Damaged: it is not, and the file does not come.
        """
        if folder.stamp(self._home / CURRENT) != stamp or str(path) not in str(error):
            raise Retryable(f"the folder of partition {self.partition} is being replaced: {error}") from error
        if last:
            raise Damaged(f"a file of partition {self.partition} is missing: {error}; {REBUILD}") from error
        self._clock.sleep(_GONE_POLL_S)

    def _reopen(self, stamp: tuple[int, int] | None) -> None:
        """Follows what CURRENT names. The version left behind stays open for queries that still hold it."""
        for tried in range(_GONE_TRIES + 1):
            path = folder.named(self._home, CURRENT)
            if path is None:
                self._version = self.now = None
                return
            self._opened += 1
            scratch = self._scratch / f"{self.partition}-{self._opened}"
            try:
                self._version = _Version(path, scratch)
                break
            except FileNotFoundError as error:
                self._missing(error, stamp, path, last=tried == _GONE_TRIES)
        self.now = None

    def _follow(self, version: _Version) -> None:
        if self.now is not None and _read_page(version)[0] == version.sequence:
            return
        before = None
        for tried in range(_GONE_TRIES + 1):
            sequence, state, settled = self._meet(version)
            try:
                view = version.view(state)
                break
            except FileNotFoundError as error:  # compaction replaced it meanwhile
                if tried == _GONE_TRIES and state.layout != before:
                    raise Retryable(f"segments of partition {self.partition} are replaced fast: {error}") from error
                if state.layout == before:
                    self._missing(error, self._stamp, version.path, last=tried == _GONE_TRIES)
                before = state.layout
        self.now = Followed(view, version.catalogue, state, version.identity, version.path)
        version.sequence = sequence if settled else -1

    def _meet(self, version: _Version) -> tuple[int, State, bool]:
        """(the page's sequence, the version to take, whether page and catalogue agree that it is the newest).

        The sequence is that of the page before the catalogue caught up: a page that moved since is looked at by the
        next refresh. The catalogue may be a commit ahead of the page, which passes; when the writer died in between,
        its next start makes them agree, and until then the older of the two is the version to take.
        """
        deadline = self._clock.monotonic() + _MEET_S
        for _ in range(_MEET_TRIES):
            sequence, before = _read_page(version)
            if not version.catch_up():
                continue
            state = commit_page.unpack(version.catalogue.get("meta", b"state") or b"")
            _, after = _read_page(version)
            if _position(before) <= _position(state) <= _position(after):
                return sequence, state, True
            if self._clock.monotonic() >= deadline:
                return sequence, min(state, after, key=_position), False
            self._clock.sleep(_POLL_S)
        raise Retryable(f"the writer of partition {self.partition} begins new logs faster than they can be followed")


def _position(state: State) -> tuple[int, int]:
    return state.reached, state.applied


def _read_page(version: _Version) -> tuple[int, State]:
    newest = version.page.read()
    if newest is None:
        raise Damaged(f"{version.path / 'commit'} holds no whole commit page")
    return newest[0], commit_page.unpack(newest[1])
