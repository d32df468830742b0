"""The dots worker: decides for each detected object whether a clickable dot is shown (paper section 7, Table 5).

A group of its own on `objects.<generation>`. Once the index has applied a record, it asks the whole index, all
partitions, about each object and publishes one `DotRecord` with its offsets in the same transaction
(consumers/dot_decider.py). It decides from the catalogue's record: a record that lost to a newer one is passed over,
because the newer one is in the log too and brings its own decision. Only the active generation's worker decides;
another waits with its positions unmoved, and works through what it missed once a cut-over makes its generation active.
What may have changed since is decided again in the background (consumers/dots_again.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from consumers.dot_decider import DotDecider, dot_output
from consumers.metrics import WorkerMetrics
from consumers.ports import Headers, Message, Outcome, Output
from dotstream.clock import Clock
from dotstream.errors import Poison, Retryable
from indexer.reader import IndexReader
from indexer.records import decode, order_of
from indexer.records_pb2 import DotRecord


class NotYetApplied(Retryable):
    """The index has not applied a record that this worker has read; it will."""


class NotActive(Retryable):
    """Another generation is active: its dots are the ones that count."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a generation stands: whether it is the active one, and the epoch of its last cut-over or roll-back."""

    active: bool
    epoch: int


@dataclass(frozen=True, slots=True)
class Deciding:
    """What live decisions and those made again have in common.

    Attributes:
        reader: of the whole index; one decision at a time uses it.
        decider: decides over the reader.
        standing: of the generation, asked before each batch.
        generation: its name.
        topic: `dots`.
        source: who emits, a URI reference.
        clock: for limits and times.
        metrics: of the worker.
    """

    reader: IndexReader
    decider: DotDecider
    standing: Callable[[], Standing]
    generation: str
    topic: str
    source: str
    clock: Clock
    metrics: WorkerMetrics

    def output(self, decided: DotRecord, headers: Headers = ()) -> Output:
        """The output that carries a decision; `headers` of the record that brought it about."""
        return dot_output(decided, topic=self.topic, source=self.source, headers=headers)


class DotsProcessor:
    """See `consumers.ports.Processor`. Batches of a partition are decided one after the other.

    Args:
        deciding: what decisions are made with.
        bits: of a code.
        apply_limit_s: how long one attempt waits for the index, which is asked every `apply_poll_s`.
    """

    def __init__(
        self, deciding: Deciding, *, bits: int, apply_limit_s: float = 2.0, apply_poll_s: float = 0.001
    ) -> None:
        self._with = deciding
        self._bits = bits
        self._apply_limit_s = apply_limit_s
        self._apply_poll_s = apply_poll_s

    def process(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        standing = self._with.standing()
        if not standing.active:
            raise NotActive(f"generation {self._with.generation} is not the active one")
        try:
            self._wait_until_applied(batch)
            return [Outcome(self._outputs(message, standing.epoch)) for message in batch]
        finally:
            self._with.reader.rest()

    def _wait_until_applied(self, batch: Sequence[Message]) -> None:
        needed: dict[int, int] = {}
        for message in batch:
            needed[message.partition] = max(message.offset, needed.get(message.partition, -1))
        started = self._with.clock.monotonic()
        while behind := _behind(self._with.reader.refresh(), needed):
            if self._with.clock.monotonic() - started > self._apply_limit_s:
                raise NotYetApplied(f"the index has still to apply offsets {behind}")
            self._with.clock.sleep(self._apply_poll_s)
        self._with.metrics.stage("wait_for_index", self._with.clock.monotonic() - started)

    def _outputs(self, message: Message, epoch: int) -> tuple[Output, ...]:
        if message.value is None:
            return ()
        try:
            record = decode(message.key, message.value, generation=self._with.generation, bits=self._bits)
        except Poison:
            return ()  # the index worker dead-letters what cannot be read
        entry = self._with.reader.pin(record.pin_id)
        if entry is None or order_of(entry.record) > order_of(record):
            return ()
        decided = self._with.decider.decide(entry, epoch=epoch)
        if not decided.deleted:
            self._with.metrics.freshness("dot", decided.decided_at - entry.record.event_time)
        return (self._with.output(decided, message.headers),)


def _behind(watermark: Mapping[int, int], needed: Mapping[int, int]) -> dict[int, int]:
    return {number: offset for number, offset in needed.items() if watermark.get(number, -1) < offset}
