"""The worker whose effect is local state: it applies the records of its partitions to one state each.

A state commits its content and the offset that it reflects in one atomic batch, so the group's committed offset is only
a hint for tools: reading starts where the state says. The order of steps for what one poll brings:

    1. Records are read under read_committed. A job plans what they do to the state of their partition; nothing is
       touched yet.
    2. What cannot be read goes to the dead letters, and what other topics must hear of goes to them, in one transaction
       that is committed before any of the states moves that it concerns. A crash in between repeats it: letters carry
       their coordinates, by which repeats are told apart, and a job's outputs must be such that their repetition
       changes nothing.
    3. Each state applies its plan with the offset in one atomic commit; one of which nobody hears does so before 2.
    4. States are synced in groups.
    5. Upkeep, about every second: a state that was read to its end is put in place if it was rebuilt, jobs publish
       what they owe, gauges are set.

The only writer of a partition's state is the worker that Kafka assigned it to and that holds the folder's lock. After a
failure everything is let go and opened again where the states stand: a failure is the same case as a crash.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from consumers.dead import dead_letter
from consumers.metrics import WorkerMetrics
from consumers.ports import Log, Message, Output, Partition
from consumers.window import Backoff
from dotstream.clock import Clock
from dotstream.errors import DotstreamError, Poison, Retryable

log = logging.getLogger(__name__)


class LocalState(Protocol):
    """What a partition's state can do: `indexer.shard.Shard` and `indexer.keyed_state.KeyedState`."""

    @property
    def applied_offset(self) -> int: ...

    @property
    def durable_offset(self) -> int: ...

    def advance(self, offset: int) -> None: ...

    def maybe_sync(self) -> bool: ...

    def promote(self) -> None: ...

    def close(self) -> None: ...


S = TypeVar("S", bound=LocalState)


@dataclass(frozen=True, slots=True)
class Plan:
    """What records of one partition do.

    Attributes:
        apply: commits it to the state, the offset of the last record included; called once the rest is committed.
        outputs: records for other topics, whose repetition changes nothing.
        poison: messages that cannot be applied, for the dead letters.
    """

    apply: Callable[[], None]
    outputs: Sequence[Output] = ()
    poison: Sequence[tuple[Message, Poison]] = ()


@dataclass(frozen=True, slots=True)
class Owed:
    """What a job publishes of its own accord; `confirm` is called once it is committed."""

    outputs: Sequence[Output] = ()
    confirm: Callable[[], None] = lambda: None


class Job(Protocol[S]):
    """What one kind of state worker does. All calls come from the worker's thread."""

    def open(self, source: Partition, end: int) -> S:
        """Opens the state of a partition, whose next record will get offset `end`, waiting for its lock with a limit.

        Raises:
            Retryable: the folder or its disk is not to be had now.
            Fatal: it cannot be used.
        """
        ...

    def plan(self, source: Partition, state: S, messages: Sequence[Message]) -> Plan:
        """Works out what messages of one partition, ascending by offset, do to its state."""
        ...

    def owed(self, caught_up: Mapping[Partition, S]) -> Owed:
        """What is to be published now for these states, which were read to their ends."""
        ...

    def report(self, source: Partition, state: S) -> None:
        """Sets the gauges of a state."""
        ...


@dataclass(frozen=True, slots=True)
class StateWorkerSettings:
    """How a state worker takes and publishes. Times are seconds.

    `settle_s`: what Kafka gets to mark a transaction's end in every partition before the next one begins: one that
    begins too early is refused, and the client asks again 20 ms later, 100 ms for one with offsets alone.
    `readable_s`: the same before reading, so that what was told, which can be read from then on, is taken along.
    """

    batch_max: int = 1_000
    idle_wait_s: float = 0.5
    sync_wait_s: float = 0.05  # while something is unsynced
    readable_s: float = 0.004
    settle_s: float = 0.008
    upkeep_every_s: float = 1.0
    hint_every_s: float = 10.0  # between commits of the group's offset, which only tools read
    dead_size_limit: int = 2 * 1_048_576 + 65_536
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(slots=True)
class Owned(Generic[S]):
    """A state of ours, and the end that must be reached before it counts as caught up."""

    state: S
    end: int
    caught_up: bool = False  # from then on it is put in place, publishes what it owes, and counts as ready


class StateWorker(Generic[S]):
    """Steps the states of the assigned partitions. One thread calls everything."""

    def __init__(
        self,
        log: Log,
        job: Job[S],
        clock: Clock,
        metrics: WorkerMetrics,
        *,
        settings: StateWorkerSettings | None = None,
    ) -> None:
        self._log = log
        self._job = job
        self._clock = clock
        self._metrics = metrics
        self._settings = settings or StateWorkerSettings()
        self._owned: dict[Partition, Owned[S]] = {}
        self._is_open = False
        self._joined = False
        self._attempts = 0
        self._retry_at = 0.0
        self._told_at = float("-inf")
        self._upkeep_at = 0.0
        self._hint_at = 0.0
        self._hinted: dict[Partition, int] = {}
        self._last_applied_ms = 0
        self._failure: Exception | None = None

    @property
    def ready(self) -> bool:
        """Whether the group has spoken, and every state is read to the end that its topic had when it was assigned."""
        return self._is_open and self._joined and all(owned.caught_up for owned in self._owned.values())

    def run(self, stop: Callable[[], bool]) -> None:
        """Steps until `stop` says so, then syncs and closes every state.

        Raises:
            Fatal: the worker must not go on; the message says why.
        """
        try:
            while not stop():
                self.step()
        finally:
            self._log.close()
            self._release(list(self._owned))

    def step(self) -> None:
        """One turn: open, take and apply a batch, sync, upkeep."""
        wait = self._retry_at - self._clock.monotonic()
        if wait > 0:
            self._clock.sleep(min(wait, 0.2))
            return
        try:
            self._turn()
        except Retryable as error:
            self._later(error)
        else:
            if self._joined and all(owned.caught_up for owned in self._owned.values()):
                self._attempts = 0  # nothing is left on which it could fail
                self._metrics.paused.set(0)

    def _turn(self) -> None:
        if not self._is_open:
            self._log.open(self)
            self._is_open = True
        self._apply(self._take())
        self._met_ends()
        for owned in self._owned.values():
            owned.state.maybe_sync()
        if self._clock.monotonic() >= self._upkeep_at:
            self._upkeep_at = self._clock.monotonic() + self._settings.upkeep_every_s
            self._upkeep()

    # Taking and applying.

    def _take(self) -> dict[Partition, list[Message]]:
        self._since_told(self._settings.readable_s)
        unsynced = any(o.state.durable_offset < o.state.applied_offset for o in self._owned.values())
        wait_s = self._settings.sync_wait_s if unsynced else self._settings.idle_wait_s
        messages = self._log.poll(self._settings.batch_max, wait_s)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if messages:
            self._metrics.batch_size.observe(len(messages))
        taken: dict[Partition, list[Message]] = {}
        for message in messages:
            if message.source in self._owned:
                taken.setdefault(message.source, []).append(message)
        return taken

    def _apply(self, taken: Mapping[Partition, Sequence[Message]]) -> None:
        """Plans what was read; moves the states of which nobody hears, commits what is told, moves the others."""
        if not taken:
            return
        plans = {
            source: self._job.plan(source, self._owned[source].state, messages) for source, messages in taken.items()
        }
        told = [source for source, plan in plans.items() if plan.outputs or plan.poison]
        for source, plan in plans.items():
            if source not in told:
                self._move(source, plan, taken[source])
        outputs = [output for source in told for output in plans[source].outputs]
        outputs += self._dead_letters(poison for source in told for poison in plans[source].poison)
        if outputs:
            self._commit(outputs, {source: messages[-1].offset + 1 for source, messages in taken.items()})
        for source in told:
            self._move(source, plans[source], taken[source])

    def _commit(self, outputs: Sequence[Output], positions: Mapping[Partition, int]) -> None:
        self._since_told(self._settings.settle_s)
        self._log.commit(outputs, positions)
        self._told_at = self._clock.monotonic()
        self._metrics.published.inc(len(outputs))

    def _since_told(self, seconds: float) -> None:
        """Waits until so much time has passed since the last transaction."""
        wait = self._told_at + seconds - self._clock.monotonic()
        if wait > 0:
            self._clock.sleep(wait)

    def _move(self, source: Partition, plan: Plan, messages: Sequence[Message]) -> None:
        started = self._clock.monotonic()
        plan.apply()
        self._metrics.stage("apply", self._clock.monotonic() - started)
        last = messages[-1]
        self._owned[source].state.advance(last.offset)  # past a last record that was poison
        self._last_applied_ms = last.timestamp_ms
        self._metrics.consumed.inc(len(messages))

    def _dead_letters(self, poison: Iterable[tuple[Message, Poison]]) -> list[Output]:
        letters = []
        for message, reason in poison:
            self._metrics.dead(reason.reason)
            limit = self._settings.dead_size_limit
            letters.append(dead_letter(message, reason, now_ms=self._clock.now_ms(), size_limit=limit))
        return letters

    def _met_ends(self) -> None:
        """Moves states past what holds nothing to apply (the marks of transactions), once all before it is applied."""
        for source, end in self._log.reached().items():
            owned = self._owned.get(source)
            if owned is not None:
                owned.state.advance(end - 1)
                owned.caught_up = owned.caught_up or end >= owned.end

    # Upkeep: what is owed, gauges, the hint for tools.

    def _upkeep(self) -> None:
        for owned in self._owned.values():
            owned.caught_up = owned.caught_up or owned.state.applied_offset + 1 >= owned.end
            if owned.caught_up:
                owned.state.promote()
        owed = self._job.owed({source: owned.state for source, owned in self._owned.items() if owned.caught_up})
        positions = {source: owned.state.applied_offset + 1 for source, owned in self._owned.items()}
        if owed.outputs or (positions != self._hinted and self._clock.monotonic() >= self._hint_at):
            self._commit(owed.outputs, positions)
            self._hinted, self._hint_at = positions, self._clock.monotonic() + self._settings.hint_every_s
        owed.confirm()
        self._gauges()

    def _gauges(self) -> None:
        lag = self._log.lag()
        for (topic, partition), records in lag.items():
            self._metrics.lag(topic, partition, records)
        behind_ms = self._clock.now_ms() - self._last_applied_ms if any(lag.values()) and self._last_applied_ms else 0
        self._metrics.oldest_seconds.set(max(0, behind_ms) / 1000)
        for source, owned in self._owned.items():
            self._job.report(source, owned.state)

    # Called by the log, on this thread.

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        starts: dict[Partition, int] = {}
        self._joined = True
        try:
            for source in partitions:
                end = self._log.end(source)
                state = self._job.open(source, end)
                self._owned[source] = Owned(state, end, caught_up=state.applied_offset + 1 >= end)
                starts[source] = state.applied_offset + 1
                log.info("%s[%d] opened at offset %d of %d", *source, state.applied_offset + 1, end)
        except Exception as error:  # noqa: BLE001  raised again outside the client's callback
            self._failure = error
            self._release(list(self._owned))
        return starts

    def revoked(self, partitions: Sequence[Partition]) -> None:
        self._metrics.forget_lag()
        self._release(partitions)

    def lost(self, partitions: Sequence[Partition]) -> None:
        self._release(partitions)

    def _release(self, partitions: Sequence[Partition]) -> None:
        for source in partitions:
            owned = self._owned.pop(source, None)
            if owned is None:
                continue
            try:
                owned.state.close()
            except DotstreamError as error:  # what was not synced will be read again
                log.warning("%s[%d] closed without its last sync: %s", *source, error)

    def _later(self, error: Retryable) -> None:
        """Lets go of everything, to start again where the states stand."""
        self._attempts += 1
        pause = self._settings.backoff.after(self._attempts)
        self._retry_at = self._clock.monotonic() + pause
        self._metrics.paused.set(1)
        self._metrics.error(type(error).__name__)
        log.warning("opening again in %.1f s (attempt %d): %s", pause, self._attempts, error)
        self._is_open = self._joined = False
        self._release(list(self._owned))
