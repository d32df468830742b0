"""The runtime of every worker that turns records into records: a state machine that one thread steps.

The commit protocol. Correctness rests on the order of these steps and on nothing else:

    1. Messages are read under read_committed, in batches, and enter the window in reading order.
    2. Each batch is worked on; its outcomes are kept in memory and touch nothing outside
       (the picture store and the result cache are content-addressed: writing them twice is harmless).
    3. Settled batches are taken from the head of the window only, so positions never skip an unsettled message.
    4. One Kafka transaction holds the outputs, the dead letters and the next positions. It is flushed before the
       positions are sent, and committed.
    5. Whatever fails in 4 throws the window away, rebuilds both clients, which ends the open transaction, and reads
       again from the committed positions. A crash at any point is the same as a failure in 4.
    6. When partitions are revoked, what can be settled within 0.8 s is committed; the rest is forgotten and belongs to
       the next owner.

States: opening -> running -> (opening after LogBroken) -> draining -> closed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from consumers.dead import dead_letter
from consumers.metrics import WorkerMetrics
from consumers.ports import Log, LogBroken, Message, Outcome, Output, Partition, Processor, Spare
from consumers.window import Backoff, Batch, Window, merge, positions_after
from dotstream.clock import Clock
from dotstream.errors import Retryable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """How a worker takes, works and commits. Times are seconds."""

    batch_max: int = 16
    window: int = 4  # batches in flight
    commit_max: int = 8  # batches in one transaction
    idle_wait_s: float = 0.5
    revoke_limit_s: float = 0.8
    drain_limit_s: float = 7.0
    idle_after_s: float = 0.2  # without a poll, before fetching pauses and only the membership is kept alive
    gauge_every_s: float = 1.0
    dead_letters: bool = True  # only one group dead-letters a topic's events; the others pass over poison
    dead_size_limit: int = 1_048_576 + 65_536
    backoff: Backoff = field(default_factory=Backoff)


class Worker:
    """Steps a processor over a log. Everything but `Processor.process` runs on the thread that calls `run`."""

    def __init__(
        self,
        log: Log,
        processor: Processor,
        executor: Executor,
        clock: Clock,
        metrics: WorkerMetrics,
        *,
        settings: RuntimeSettings | None = None,
        spare: Spare | None = None,
        rested: Callable[[], None] = lambda: None,
    ) -> None:
        """Takes its parts.

        Args:
            log: opened and closed by the worker.
            processor: called on the executor.
            executor: runs batches side by side; its owner shuts it down.
            clock: time for waits and gauges.
            metrics: counts what happens.
            settings: limits.
            spare: what to do when no record waits.
            rested: called once each time that all work is done and none has come for a whole wait.
        """
        self._spare = spare
        self._log = log
        self._clock = clock
        self._metrics = metrics
        self._settings = settings or RuntimeSettings()
        self._window = Window(
            processor, executor, clock, metrics, size=self._settings.window, backoff=self._settings.backoff
        )
        self._is_open = False
        self._is_assigned = False
        self._failures = 0  # in a row: of opening and of committing, as what is refused is met again after opening
        self._open_at = 0.0
        self._partitions: int | None = None  # that it was given; None before the group has spoken
        self._gauges_at = 0.0
        self._polled_at = 0.0
        self._broken_in_callback = False
        self._rested = rested
        self._has_worked = False

    @property
    def ready(self) -> bool:
        """Whether the worker is in its group and has been told its partitions."""
        return self._is_open and self._is_assigned

    def run(self, stop: Callable[[], bool]) -> None:
        """Steps until `stop` says so, then drains and closes.

        Raises:
            Fatal: the worker must not go on; the message says why.
        """
        try:
            while not stop():
                self.step()
            self.drain()
        finally:
            self._log.close()

    def step(self) -> None:
        """One turn: open if needed, take a batch if there is room, settle what is finished."""
        if not self._is_open and not self._opened():
            return
        try:
            self._take()
            if self._broken_in_callback:
                self._broken_in_callback = False
                raise LogBroken("a commit failed while partitions were revoked")
            self._settle(self._settings.commit_max)
        except Retryable as error:
            self._broken(error)
        self._gauges()

    def drain(self) -> None:
        """Takes nothing more, commits what is finished within the limit, forgets the rest."""
        if self._is_open:
            try:
                self._finish(self._settings.drain_limit_s)
            except Retryable as error:
                log.warning("drained without a last commit: %s", error)
        self._window.clear()

    # Called by the log, on this thread.

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        log.info("assigned %s", _names(partitions))
        self._is_assigned = True
        return {}

    def revoked(self, partitions: Sequence[Partition]) -> None:
        started = self._clock.monotonic()
        try:
            self._finish(self._settings.revoke_limit_s)
        except Retryable as error:
            log.warning("revoked without a last commit: %s", error)
            self._broken_in_callback = True
        self._metrics.forget_lag()
        given_up = len(self._window)
        self._window.clear()
        self._metrics.stage("revoke", self._clock.monotonic() - started)
        log.info("revoked %s, %d batches given up", _names(partitions), given_up)

    def lost(self, partitions: Sequence[Partition]) -> None:
        log.warning("lost %s, %d batches given up", _names(partitions), len(self._window))
        self._window.clear()

    # The turns.

    def _opened(self) -> bool:
        wait = self._open_at - self._clock.monotonic()
        if wait > 0:
            self._clock.sleep(min(wait, 0.2))
            return False
        try:
            self._log.open(self)
        except Retryable as error:
            self._broken(error)
            return False
        self._is_open = True
        return True

    def _take(self) -> None:
        self._metrics.paused.set(1 if self._window.waiting or self._failures else 0)
        if self._window.full or self._window.waiting:
            self._window.wait(0.2)
            if self._clock.monotonic() - self._polled_at >= self._settings.idle_after_s:
                self._log.idle()
                self._polled_at = self._clock.monotonic()
            return
        wait_s = 0.0 if len(self._window) else self._idle_wait_s()
        messages = self._log.poll(self._settings.batch_max, wait_s)
        self._polled_at = self._clock.monotonic()
        if messages:
            self._metrics.batch_size.observe(len(messages))
            self._window.add(messages)
            self._has_worked = True
        elif len(self._window):
            self._window.wait(0.005)
        elif self._spare is not None and not self._broken_in_callback and self._spare.due_in() <= 0:
            self._spare_turn(self._spare)
        elif self._has_worked:
            self._has_worked = False
            self._rested()

    def _idle_wait_s(self) -> float:
        """How long to wait for a record while nothing is in flight."""
        longest = self._settings.idle_wait_s
        return longest if self._spare is None else min(longest, self._spare.due_in())

    def _spare_turn(self, spare: Spare) -> None:
        """Everything read is settled and nothing waits. The positions go into the transaction as they are, so that
        a group that has given a partition to another worker refuses it.
        """
        positions = self._log.positions()
        outputs = spare.turn([number for _, number in positions])
        if outputs:
            self._log.commit(outputs, positions)
            self._metrics.published.inc(len(outputs))

    def _settle(self, most: int, limit_s: float | None = None) -> None:
        batches = self._window.settled(most)
        if batches:
            self._commit(batches, limit_s)

    def _commit(self, batches: Sequence[Batch], limit_s: float | None) -> None:
        pairs = merge(batches)
        started = self._clock.monotonic()
        outputs = [output for message, outcome in pairs for output in self._outputs(message, outcome)]
        self._log.commit(outputs, positions_after(batches), limit_s)
        self._failures = 0
        self._metrics.stage("commit", self._clock.monotonic() - started)
        self._metrics.consumed.inc(len(pairs))
        self._metrics.published.inc(len(outputs))
        for message, outcome in pairs:
            if outcome.poison is not None and self._settings.dead_letters:
                self._metrics.dead(outcome.poison.reason)
                where = f"{message.topic}[{message.partition}]@{message.offset}"
                log.warning("dead letter of %s: %s", where, outcome.poison)

    def _outputs(self, message: Message, outcome: Outcome) -> tuple[Output, ...]:
        if outcome.poison is None:
            return outcome.outputs
        if not self._settings.dead_letters:
            return ()
        limit = self._settings.dead_size_limit
        return (dead_letter(message, outcome.poison, now_ms=self._clock.now_ms(), size_limit=limit),)

    def _finish(self, limit_s: float) -> None:
        deadline = self._clock.monotonic() + limit_s
        while len(self._window) and self._clock.monotonic() < deadline:
            self._window.wait(min(0.05, max(0.0, deadline - self._clock.monotonic())))
            self._settle(self._settings.window, max(0.1, deadline - self._clock.monotonic()))

    def _broken(self, error: Retryable) -> None:
        self._window.clear()
        self._is_open = self._is_assigned = False
        self._failures += 1
        pause = self._settings.backoff.after(self._failures)
        self._open_at = self._clock.monotonic() + pause
        self._metrics.rebuilds.inc()
        self._metrics.paused.set(1)
        self._metrics.error(type(error).__name__)
        log.warning("reading again from the committed positions in %.1f s: %s", pause, error)

    def _gauges(self) -> None:
        now = self._clock.monotonic()
        if now < self._gauges_at:
            return
        self._gauges_at = now + self._settings.gauge_every_s
        lag = self._log.lag()
        for (topic, partition), records in lag.items():
            self._metrics.lag(topic, partition, records)
        at_end = self._partitions == 0 or (lag and not any(lag.values()))
        if self._is_open and at_end and not len(self._window):
            self._failures = 0  # nothing is left on which it could fail
        oldest = self._window.oldest_ms()
        age = 0.0 if oldest is None else (self._clock.now_ms() - oldest) / 1000
        self._metrics.oldest_seconds.set(max(0.0, age))


def _names(partitions: Sequence[Partition]) -> str:
    return " ".join(f"{topic}[{number}]" for topic, number in partitions) or "nothing"
