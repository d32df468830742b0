"""The narrow ports through which the runtime is stepped: the log, the processor of a worker, and what passes between.

The real log is consumers/kafka_log.py; tests and the simulator drive the same runtime over a log in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from dotstream.errors import Poison, Retryable

Partition = tuple[str, int]
"""Topic and partition number."""

Headers = Sequence[tuple[str, bytes]]


class Message(NamedTuple):
    """One record as it was read, with the coordinates that a dead letter keeps. Times are Unix milliseconds.

    A tuple, as is `Output`: a worker makes tens of thousands of them a second.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def source(self) -> Partition:
        return (self.topic, self.partition)


class Output(NamedTuple):
    """One record to be written. `partition` None: chosen by murmur2 of the key, as Java clients do."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message: its outputs, or the poison that sends it to the dead letters."""

    outputs: tuple[Output, ...] = ()
    poison: Poison | None = None


class LogBroken(Retryable):
    """The transaction was aborted or its fate is unknown: rebuild the log and read again from what was committed."""


class Listener(Protocol):
    """Told of partitions by the log, on the polling thread, inside `Log.poll` and `Log.idle`."""

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Partitions that are ours now. Returns where to start; one left out starts at its committed offset."""
        ...

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Partitions that are about to go: finish and commit, or give up, within 0.8 s."""
        ...

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Partitions that are gone already: nothing may be committed for them."""
        ...


class Log(Protocol):
    """A consumer and a transactional producer seen as one thing. One thread calls it, always the same."""

    def open(self, listener: Listener) -> None:
        """Joins the group and ends any transaction that a predecessor of this slot left open.

        Called again after `LogBroken`: the old clients are given up and reading restarts at the committed offsets.

        Raises:
            Retryable: the broker is away; call again later.
            Fatal: another process took this slot, or the configuration is refused.
        """
        ...

    def poll(self, limit: int, wait_s: float) -> list[Message]:
        """Up to `limit` messages; waits at most `wait_s` for the first, never for more. Resumes after `idle`.

        Raises:
            Retryable: the group cannot be served at present.
            Fatal: another process took this slot.
        """
        ...

    def idle(self) -> None:
        """Keeps the membership alive while nothing can be taken; what comes meanwhile is kept for `poll`."""
        ...

    def commit(
        self, outputs: Sequence[Output], positions: Mapping[Partition, int], limit_s: float | None = None
    ) -> None:
        """Writes outputs and next positions in one transaction, within `limit_s` or the log's own limit.

        Raises:
            LogBroken: nothing may be assumed; call `open` again.
            Fatal: another process took this slot.
        """
        ...

    def end(self, partition: Partition) -> int:
        """The offset that the next record of a partition will get, asked from the broker.

        Raises:
            Retryable: the broker did not answer in time.
        """
        ...

    def positions(self) -> Mapping[Partition, int]:
        """The next offset of each partition of which something has been read, or its end met.

        Only right to commit when every message that `poll` returned is settled and the last `poll` returned none.
        """
        ...

    def reached(self) -> Mapping[Partition, int]:
        """Ends that reading has met since the last call: every record below has been returned by `poll`."""
        ...

    def lag(self) -> Mapping[Partition, int]:
        """Records behind the end, for each assigned partition whose end is known."""
        ...

    def close(self) -> None:
        """Leaves; bounded in time."""
        ...


class Spare(Protocol):
    """What a worker does when no record waits: called on the thread that steps it, while nothing is in flight."""

    def due_in(self) -> float:
        """Seconds until it wants a turn; 0 when it has waited long enough."""
        ...

    def turn(self, partitions: Collection[int]) -> Sequence[Output]:
        """A short piece of work for the partitions that the worker owns; its outputs go in one transaction.

        Raises:
            Fatal: the worker stops.
        """
        ...


class Processor(Protocol):
    """What one kind of worker does to a batch. Called on pool threads, several batches at once."""

    def process(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        """One outcome for each message, in order.

        Raises:
            Retryable: the whole batch is tried again later, unchanged.
            Fatal: the worker stops.
        """
        ...
