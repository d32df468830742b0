"""The window of batches in flight: ordered as read, worked on side by side, settled from the head.

A batch that fails with `Retryable` is tried again with growing pauses; one that fails with anything unexpected is
worked item by item, so that a bad item never fails its batch.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field

from consumers.metrics import WorkerMetrics
from consumers.ports import Message, Outcome, Partition, Processor
from dotstream.clock import Clock
from dotstream.errors import Fatal, Poison, Retryable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double from `first_s` to `longest_s`."""

    first_s: float = 0.1
    longest_s: float = 5.0

    def after(self, attempts: int) -> float:
        """Seconds to wait after so many failed attempts (at least 1)."""
        return float(min(self.longest_s, self.first_s * 2 ** min(attempts - 1, 16)))


@dataclass(slots=True)
class Batch:
    """One batch in flight."""

    messages: Sequence[Message]
    started: float
    future: Future[Sequence[Outcome]]
    attempts: int = 0
    retry_at: float | None = None
    item_by_item: bool = False
    outcomes: Sequence[Outcome] | None = field(default=None)


def positions_after(batches: Sequence[Batch]) -> dict[Partition, int]:
    """The next offset to read of each partition once these batches are settled."""
    positions: dict[Partition, int] = {}
    for batch in batches:
        for message in batch.messages:
            positions[message.source] = message.offset + 1
    return positions


class Window:
    """At most `size` batches in flight. One thread owns it; only `Processor.process` runs on the executor."""

    def __init__(
        self,
        processor: Processor,
        executor: Executor,
        clock: Clock,
        metrics: WorkerMetrics,
        *,
        size: int,
        backoff: Backoff,
    ) -> None:
        self._processor = processor
        self._executor = executor
        self._clock = clock
        self._metrics = metrics
        self._size = size
        self._backoff = backoff
        self._batches: deque[Batch] = deque()

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def full(self) -> bool:
        return len(self._batches) >= self._size

    @property
    def waiting(self) -> bool:
        """Whether the head failed and waits for its next attempt."""
        return bool(self._batches) and self._batches[0].retry_at is not None

    def oldest_ms(self) -> int | None:
        """Timestamp of the oldest message in flight, Unix milliseconds."""
        return min((m.timestamp_ms for b in self._batches for m in b.messages), default=None)

    def add(self, messages: Sequence[Message]) -> None:
        future = self._executor.submit(self._processor.process, messages)
        self._batches.append(Batch(messages, self._clock.monotonic(), future))

    def wait(self, limit_s: float) -> None:
        """Blocks until the head may have something new to say, at most `limit_s`."""
        if not self._batches:
            return
        head = self._batches[0]
        if head.retry_at is not None:
            self._clock.sleep(max(0.0, min(limit_s, head.retry_at - self._clock.monotonic())))
        else:
            wait([head.future], timeout=limit_s)

    def settled(self, most: int) -> list[Batch]:
        """Takes up to `most` finished batches from the head, in order.

        Raises:
            Fatal: a batch met an error after which the worker must stop.
        """
        done: list[Batch] = []
        while self._batches and len(done) < most and self._advance(self._batches[0]):
            batch = self._batches.popleft()
            self._metrics.stage("process", self._clock.monotonic() - batch.started)
            done.append(batch)
        return done

    def clear(self) -> None:
        """Forgets every batch. What was not committed will be read again."""
        for batch in self._batches:
            batch.future.cancel()
        self._batches.clear()

    def _advance(self, batch: Batch) -> bool:
        """Moves one batch on; True when its outcomes are there."""
        if batch.retry_at is not None:
            if self._clock.monotonic() >= batch.retry_at:
                self._resubmit(batch)
            return False
        if not batch.future.done():
            return False
        try:
            batch.outcomes = batch.future.result()
        except Retryable as error:
            self._try_later(batch, error)
            return False
        except Fatal:
            raise
        except Exception as error:  # noqa: BLE001  anything else is isolated to the item that causes it
            self._isolate(batch, error)
            return False
        return True

    def _try_later(self, batch: Batch, error: Retryable) -> None:
        batch.attempts += 1
        pause = self._backoff.after(batch.attempts)
        batch.retry_at = self._clock.monotonic() + pause
        self._metrics.error(type(error).__name__)
        level = logging.WARNING if batch.attempts > 3 else logging.INFO
        log.log(level, "batch of %d waits %.1f s (attempt %d): %s", len(batch.messages), pause, batch.attempts, error)

    def _isolate(self, batch: Batch, error: Exception) -> None:
        log.error("a batch of %d failed unexpectedly; going item by item", len(batch.messages), exc_info=error)
        self._metrics.error("unexpected")
        batch.item_by_item = True
        self._resubmit(batch)

    def _resubmit(self, batch: Batch) -> None:
        batch.retry_at = None
        work = self._each if batch.item_by_item else self._processor.process
        batch.future = self._executor.submit(work, batch.messages)

    def _each(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        return [self._alone(message) for message in messages]

    def _alone(self, message: Message) -> Outcome:
        try:
            (outcome,) = self._processor.process([message])
        except (Retryable, Fatal):
            raise
        except Poison as poison:
            return Outcome(poison=poison.bare())
        except Exception as error:
            log.exception("item %s[%d]@%d failed unexpectedly", message.topic, message.partition, message.offset)
            return Outcome(poison=Poison("internal_error", f"{type(error).__name__}: {error}"))
        return outcome


def merge(batches: Sequence[Batch]) -> list[tuple[Message, Outcome]]:
    """Messages of settled batches beside their outcomes, in reading order."""
    pairs: list[tuple[Message, Outcome]] = []
    for batch in batches:
        if batch.outcomes is None or len(batch.outcomes) != len(batch.messages):
            found = "none" if batch.outcomes is None else len(batch.outcomes)
            raise Fatal(f"a processor gave {found} outcomes for {len(batch.messages)} messages")
        pairs.extend(zip(batch.messages, batch.outcomes, strict=True))
    return pairs


__all__ = ["Backoff", "Batch", "Window", "merge", "positions_after"]
