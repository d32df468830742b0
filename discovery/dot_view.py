"""Follows the compacted topic `dots` into a local store, so that a pin's dots are answered without a broker.

One thread steps the view: read, fold into the store, remember what changed for the event stream. It follows without a
group: every API process holds the dots of all partitions. What a step does, in this order:

    1. read some records and the positions that reading has reached (behind transaction markers as well)
    2. keep of each pin the record that wins by (version, deleted, epoch, decision); a null forgets the pin
    3. write the winners and the positions in one batch
    4. only then offer the changed pins to the event stream

A crash after 1 or 2 reads the same records again; after 3 the event stream lacks them, which its clients know from
the stream's new id. A topic with another id, or a stored position outside of the log, empties the store and starts
over.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from google.protobuf.message import DecodeError

from discovery.dot_store import Change, DotStore
from dotstream.errors import Retryable
from indexer.dot_order import order_of
from indexer.records_pb2 import DotRecord
from producers.whole_topic import Logged, WholeTopic

log = logging.getLogger(__name__)

BATCH = 1000
POLL_S = 0.5
BACKOFF_S = 1.0
PENDING_LIMIT = 4096


class DotView:
    """The dots of each pin, kept up to date by one thread.

    Args:
        store: where dots and offsets live; closed with the view.
        log: the topic.
        wake: called after changes became visible, from the view's thread; must return at once.
        only: the generation whose decisions are answered, for an API beside the active one; None: whatever is newest.
    """

    def __init__(
        self, store: DotStore, log: WholeTopic, *, wake: Callable[[], None] = lambda: None, only: str | None = None
    ) -> None:
        self._store = store
        self.only = only
        self._log = log
        self.wake = wake
        self._target: dict[int, int] | None = None
        self._positions: dict[int, int] = {}
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pending: OrderedDict[str, None] = OrderedDict()
        self._pending_lock = threading.Lock()
        self._open = False
        self.applied = 0
        self.stale = 0
        self.undecodable = 0
        self.rebuilds = 0
        self.unnoticed = 0

    # What the API asks.

    def get(self, pin_id: str) -> DotRecord | None:
        """The pin's dots, a record with `deleted` for one that was taken out, None for one never seen.

        With `only`, None for dots that another generation decided: their objects are others.
        """
        found = self._store.get(pin_id)
        return found if found is None or self.only in {None, found.generation} else None

    @property
    def ready(self) -> bool:
        """Whether everything that the topic held at the start has been taken in."""
        return self._ready.is_set()

    def wait_ready(self, limit_s: float) -> bool:
        """Waits until `ready`; False when the time ran out."""
        return self._ready.wait(limit_s)

    @property
    def behind(self) -> int:
        """Offsets between what was read and the end seen at the last start; 0 once caught up."""
        target = self._target
        if target is None:
            return 0
        return sum(max(0, end - self._positions.get(partition, 0)) for partition, end in target.items())

    def changed(self) -> list[str]:
        """Pins whose dots changed since the last call, oldest first. At most the latest `PENDING_LIMIT` are kept."""
        with self._pending_lock:
            pins = list(self._pending)
            self._pending.clear()
        return pins

    # The thread.

    def start(self) -> None:
        """Starts following."""
        self._thread = threading.Thread(target=self._run, name="dot-view", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops following and releases folder and broker; returns when the thread has ended."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._log.close()
        self._store.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.step(POLL_S)
            except Retryable as error:
                log.warning("the dots wait: %s", error)
                self._stop.wait(BACKOFF_S)
            except Exception:
                self._ready.clear()
                log.exception("the dot view has ended; the API is not ready any more")
                return

    # One step at a time, for the thread above and for tests.

    def step(self, wait_s: float) -> None:
        """Opens the log when need be, then reads, folds, writes and offers one batch.

        Raises:
            Retryable: log or store are away; the next step opens the log again.
            Fatal: the store is damaged.
        """
        try:
            if not self._open:
                self._begin()
            records, moved = self._log.read(BATCH, wait_s)
            if records or moved:
                self._take(records, moved)
        except Retryable:
            self._open = False
            raise

    def _begin(self) -> None:
        extent = self._log.open()
        positions = self._store.positions()
        if self._store.topic_id != extent.topic_id or not extent.holds(positions):
            if self._store.topic_id is not None:
                log.warning("the dots on disk are of another log; they are rebuilt from the topic")
                self.rebuilds += 1
            self._ready.clear()
            self._store.restart(extent.topic_id)
            positions = {}
        starts = {partition: positions.get(partition, first) for partition, first in extent.first.items()}
        self._log.start(starts)
        self._positions = starts
        self._target = dict(extent.end)
        self._open = True
        self._check_ready()

    def _take(self, records: Sequence[Logged], moved: Mapping[int, int]) -> None:
        changes = self._fold(records)
        self._store.commit(changes, moved)
        self._positions.update(moved)
        self.applied += len(changes)
        self._offer([pin_id for pin_id, _ in changes])
        self._check_ready()

    def _fold(self, records: Sequence[Logged]) -> list[Change]:
        """Of each pin the winner among these records and the stored one; unchanged pins are left out."""
        winners: dict[str, DotRecord | None] = {}
        for record in records:
            read = self._read(record)
            if read is None:
                continue
            pin_id, dots = read
            current = winners[pin_id] if pin_id in winners else self._store.get(pin_id)
            if dots is None or current is None or order_of(dots) > order_of(current):
                winners.pop(pin_id, None)
                winners[pin_id] = dots
            elif order_of(dots) < order_of(current):
                self.stale += 1
        return list(winners.items())

    def _read(self, record: Logged) -> Change | None:
        try:
            return _parse(record)
        except (ValueError, DecodeError) as error:
            # The dots worker is the only writer; a stranger's record must not stop the view of all others.
            self.undecodable += 1
            log.warning("record %d of partition %d of the dots is left out: %s", record.offset, record.partition, error)
            return None

    def _offer(self, pins: Sequence[str]) -> None:
        if not pins:
            return
        with self._pending_lock:
            for pin_id in pins:
                self._pending.pop(pin_id, None)
                self._pending[pin_id] = None
            while len(self._pending) > PENDING_LIMIT:
                self._pending.popitem(last=False)
                self.unnoticed += 1
        self.wake()

    def _check_ready(self) -> None:
        if not self.behind:
            self._ready.set()


def _parse(record: Logged) -> Change:
    """Raises ValueError or DecodeError for what is no record of ours."""
    if record.key is None:
        raise ValueError("it has no key")
    pin_id = record.key.decode()
    dots = None if record.value is None else DotRecord.FromString(record.value)
    if dots is not None and dots.pin_id != pin_id:
        raise ValueError(f"its pin_id {dots.pin_id!r} is not its key")
    return pin_id, dots
