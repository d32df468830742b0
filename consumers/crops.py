"""The crops worker: boxes that many people crop become objects of their pin (paper section 1, P47).

On `engagements`, as a job of consumers/state_worker.py. Its state, one for each partition, holds the votes of each pin
(consumers/crop_rows.py): a function of the log alone, until by the worker's own clock they are older than the window.
What it publishes follows from that state and the index:

    1. A pin is ripe when enough people agree on a box of it.
    2. About every second some ripe pins are looked at, those that just changed first, then the others in turn: their
       agreed boxes are held against the objects of the pin's record in the index. A box that no object covers is cut
       from the stored picture and embedded.
    3. The record is published again with these objects, source `crops`, and revision + 1. Index and dots follow as they
       do with every record.

So nothing has to be remembered of what was published: an object is missing until the index has it. A new version of the
pin comes without the objects from crops and gets them again in its turn, as long as its picture is the same; with
another picture than at the last look, crops made before that version count no more. (A pin is first looked at when it
is ripe: of a picture that it had before that, nothing is known.) What a crash repeats is a record with the same boxes
at the same revision, of which the index keeps one.

A vote ends three times: one older than the window when it is logged is not taken; one that has become so counts no more
when its pin is looked at; and every row is swept in its turn and let go once all its votes are such, whether the index
knows the pin or not.
"""

from __future__ import annotations

import itertools
import logging
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from consumers.crop_rows import Agreed, Box, Vote, agreed, joined, overlaps, pack, recent, unpack, vote_of
from consumers.metrics import WorkerMetrics
from consumers.ports import Message, Output, Partition
from consumers.records import RecordWriter
from consumers.state_worker import Owed, Plan
from consumers.window import Backoff
from dotstream.clock import Clock
from dotstream.errors import Poison, Retryable
from indexer.keyed_layout import Store
from indexer.keyed_state import KeyedState
from indexer.reader import IndexReader
from indexer.records import SHA256_BYTES
from indexer.records_pb2 import Box as BoxMessage
from indexer.records_pb2 import DetectedObject, ObjectRecord
from producers.events import TAKEDOWN_VERSION, check_engagement
from producers.events_pb2 import EngagementEvent

log = logging.getLogger(__name__)

FAMILIES = ("votes", "ripe", "pictures")
LAYOUT = 1
_PICTURE = struct.Struct(f">{SHA256_BYTES}sq")
CHANGED_MAX = 10_000
SWEPT_MAX = 200
"""Rows of a partition that one turn of about a second holds against the window."""
LABEL = "Object"


def crop_store(generation: str) -> Store:
    """The states of the worker of a generation.

    Rows: `votes` pin -> see consumers/crop_rows.py; `ripe` pin -> b"" where enough people agree; `pictures` pin ->
    sha256 of the picture last seen, and the time in ms from which on crops count for it.
    """
    return Store(f"crops-{generation}", LAYOUT, FAMILIES)


class Embeds(Protocol):
    """Cuts boxes out of a stored picture and embeds them (ops/models.py puts it together)."""

    def __call__(self, image_ref: str, boxes: Sequence[Box]) -> Sequence[Sequence[bytes]]:
        """The codes of each box: the searched one, then the extra ones.

        Raises Poison for a picture that cannot be had, Retryable while a part is away.
        """
        ...


@dataclass(frozen=True, slots=True)
class CropSettings:
    """When crops become objects, and how much of it is done at once. Times are seconds.

    Attributes:
        people_min: distinct people who must agree on a box.
        iou_min: overlap from which two crops are of the same thing.
        covered_iou: overlap with an object of the pin from which the box is nothing new.
        objects_max: objects from crops on one pin.
        min_side: least width and height of a box, in pixels.
        looks_max: ripe pins held against the index in one turn.
        records_max: records published in one turn, each of which takes a call to Triton.
        apply_limit_s: how long the index may take to apply a record before its pin is looked at again.
    """

    people_min: int = 5
    iou_min: float = 0.6
    covered_iou: float = 0.5
    objects_max: int = 4
    min_side: float = 16.0
    looks_max: int = 200
    records_max: int = 8
    apply_limit_s: float = 30.0
    backoff: Backoff = field(default_factory=Backoff)


class CropsJob:
    """See `consumers.state_worker.Job`.

    Args:
        open_state: opens the state of a partition, given the topic's end.
        reader: of the whole index.
        embed: cuts and embeds.
        records: writes records of the generation.
    """

    def __init__(
        self,
        open_state: Callable[[Partition, int], KeyedState],
        *,
        reader: IndexReader,
        embed: Embeds,
        records: RecordWriter,
        clock: Clock,
        metrics: WorkerMetrics,
        settings: CropSettings | None = None,
    ) -> None:
        self._open_state = open_state
        self._reader = reader
        self._embed = embed
        self._records = records
        self._clock = clock
        self._metrics = metrics
        self._settings = settings or CropSettings()
        self._changed: dict[tuple[Partition, str], None] = {}  # ripe pins with new votes; the turn finds them as well
        self._turn_at: dict[Partition, str | None] = {}
        self._sweep_at: dict[Partition, bytes] = {}
        self._sent: dict[str, tuple[int, int, float]] = {}  # pin -> version, revision, when to give it up
        self._failures = 0
        self._rest_until = clock.monotonic()

    def open(self, source: Partition, end: int) -> KeyedState:
        self._turn_at.pop(source, None)
        self._sweep_at.pop(source, None)
        self._sent.clear()  # after a broken transaction nothing of it comes; what does come is the same record twice
        return self._open_state(source, end)

    # What events do to the state.

    def plan(self, source: Partition, state: KeyedState, messages: Sequence[Message]) -> Plan:
        rows: dict[str, list[Vote]] = {}
        for message in messages:
            try:
                event = check_engagement(message.key, message.value, message.timestamp_ms)
            except Poison:
                continue  # the engagements worker dead-letters what cannot be read
            if event.kind == EngagementEvent.KIND_CROP:
                pin_id, logged_ms = event.pin_id, message.timestamp_ms
                if pin_id not in rows:
                    rows[pin_id] = unpack(state.database.get("votes", pin_id.encode()))
                rows[pin_id] = joined([*rows[pin_id], vote_of(event, logged_ms)], logged_ms)
        batch = state.database.batch()
        ripe: list[str] = []
        for pin_id, row in rows.items():
            key = pin_id.encode()
            if row:
                batch.put("votes", key, pack(row))
            else:
                batch.delete("votes", key)
            if self._agreed(row):
                batch.put("ripe", key, b"")
                ripe.append(pin_id)
            else:
                batch.delete("ripe", key)

        def apply() -> None:
            state.commit(batch, messages[-1].offset)
            for pin_id in ripe[: CHANGED_MAX - len(self._changed)]:
                self._changed[source, pin_id] = None

        return Plan(apply)

    def _agreed(self, votes: Sequence[Vote]) -> list[Agreed]:
        return agreed(votes, people_min=self._settings.people_min, iou_min=self._settings.iou_min)

    # What is owed to the index.

    def owed(self, caught_up: Mapping[Partition, KeyedState]) -> Owed:
        for source, state in caught_up.items():
            self._sweep(source, state)
        if self._clock.monotonic() < self._rest_until:
            return Owed()
        try:
            self._reader.refresh()
            outputs = self._missing(caught_up)
        except Retryable as error:
            self._failures += 1
            self._rest_until = self._clock.monotonic() + self._settings.backoff.after(self._failures)
            self._metrics.error(type(error).__name__)
            log.warning("objects from crops wait: %s", error)
            return Owed()
        finally:
            self._reader.rest()
        self._failures = 0
        return Owed(outputs)

    def _missing(self, states: Mapping[Partition, KeyedState]) -> list[Output]:
        """The records that lack agreed boxes, among the pins whose turn it is."""
        now = self._clock.monotonic()
        self._sent = {pin_id: sent for pin_id, sent in self._sent.items() if now < sent[2]}
        outputs: list[Output] = []
        for source, pin_id in self._turn(states):
            try:
                self._reader.keep()  # calls to Triton may take longer than a lease
                output = self._looked(states[source], pin_id)
            except Retryable as error:
                if not outputs:
                    raise
                log.warning("objects from crops wait, but for %d records: %s", len(outputs), error)
                break  # the next turn meets it again
            self._changed.pop((source, pin_id), None)
            if output is not None:
                outputs.append(output)
                if len(outputs) == self._settings.records_max:
                    break
        return outputs

    def _turn(self, states: Mapping[Partition, KeyedState]) -> list[tuple[Partition, str]]:
        """Ripe pins: those that changed, then of each state the next ones in order."""
        self._changed = {key: None for key in self._changed if key[0] in states}
        most = self._settings.looks_max
        turn = list(itertools.islice(self._changed, most))
        share = max(1, (most - len(turn)) // max(1, len(states)))
        for source, state in states.items():
            after = self._turn_at.get(source)
            start = b"" if after is None else after.encode() + b"\0"
            with state.database.scan("ripe", start) as rows:
                pins = [key.decode() for key, _ in itertools.islice(rows, share)]
            self._turn_at[source] = pins[-1] if len(pins) == share else None
            turn += [(source, pin_id) for pin_id in pins]
        return list(dict.fromkeys(turn))

    def _looked(self, state: KeyedState, pin_id: str) -> Output | None:
        """The record of one pin with the boxes that it lacks, or None."""
        entry = self._reader.pin(pin_id)
        if entry is None or self._is_under_way(entry.record):
            return None
        if entry.record.deleted:
            if entry.record.version == TAKEDOWN_VERSION:
                self._forget(state, pin_id)
            return None
        votes = recent(unpack(state.database.get("votes", pin_id.encode())), self._clock.now_ms())
        since = self._since(state, entry.record)
        boxes = self._uncovered(self._agreed([vote for vote in votes if vote.time >= since]), entry.record)
        if not boxes:
            return None
        try:
            codes = self._embed(entry.record.image_ref, [one.box for one in boxes])
            output = self._records.again(self._with(entry.record, boxes, codes))
        except Poison as error:
            self._metrics.crop_objects(error.reason, len(boxes))
            log.warning("pin %s gets no objects from crops: %s", pin_id, error)
            return None
        deadline = self._clock.monotonic() + self._settings.apply_limit_s
        self._sent[pin_id] = (entry.record.version, entry.record.revision + 1, deadline)
        self._metrics.crop_objects("added", len(boxes))
        return output

    def _sweep(self, source: Partition, state: KeyedState) -> None:
        """Lets go of the next pins of which all votes are older than the window."""
        now_ms, start = self._clock.now_ms(), self._sweep_at.get(source, b"")
        with state.database.scan("votes", start) as rows:
            swept = list(itertools.islice(rows, SWEPT_MAX))
        self._sweep_at[source] = swept[-1][0] + b"\0" if len(swept) == SWEPT_MAX else b""
        for key, row in swept:
            if not recent(unpack(row), now_ms):
                self._forget(state, key.decode())

    def _forget(self, state: KeyedState, pin_id: str) -> None:
        """Lets go of all that is known of a pin: one that was taken down and never comes back, or whose votes ended."""
        batch = state.database.batch()
        for family in FAMILIES:
            batch.delete(family, pin_id.encode())
        state.database.write(batch)

    def _is_under_way(self, record: ObjectRecord) -> bool:
        """Whether a record was sent that the index has still to apply."""
        sent = self._sent.get(record.pin_id)
        return sent is not None and (record.version, record.revision) < sent[:2]

    def _since(self, state: KeyedState, record: ObjectRecord) -> int:
        """From when on crops of the pin are of its present picture, Unix ms; notes a change of picture."""
        key = record.pin_id.encode()
        row = state.database.get("pictures", key)
        sha256, since = (record.image_sha256, 0) if row is None else _PICTURE.unpack(row)
        if row is None or sha256 != record.image_sha256:
            since = 0 if row is None else record.event_time
            batch = state.database.batch()
            batch.put("pictures", key, _PICTURE.pack(record.image_sha256, since))
            state.database.write(batch)
        return int(since)

    def _uncovered(self, boxes: Sequence[Agreed], record: ObjectRecord) -> list[Agreed]:
        """The agreed boxes that are large enough and overlap no object, as many as the pin may still have."""
        own = sum(item.source == DetectedObject.SOURCE_CROPS for item in record.objects)
        known = np.array([[i.box.x0, i.box.y0, i.box.x1, i.box.y1] for i in record.objects], np.float64).reshape(-1, 4)
        found: list[Agreed] = []
        for one in boxes:
            if own + len(found) >= self._settings.objects_max:
                break
            x0, y0, x1, y1 = one.box
            wide, high = (x1 - x0) * record.image_width, (y1 - y0) * record.image_height
            covered = overlaps(np.array([one.box]), known) >= self._settings.covered_iou
            if min(wide, high) >= self._settings.min_side and not covered.any():
                found.append(one)
                known = np.concatenate([known, [one.box]])
        return found

    def _with(self, record: ObjectRecord, boxes: Sequence[Agreed], codes: Sequence[Sequence[bytes]]) -> ObjectRecord:
        """The record with these objects behind its own.

        An object from crops has the score n / (n + 1) for n people, and the label `LABEL`: nobody said what it is.
        """
        again = ObjectRecord()
        again.CopyFrom(record)
        again.revision += 1
        first = max((item.index for item in record.objects), default=-1) + 1
        for number, (one, bits) in enumerate(zip(boxes, codes, strict=True), first):
            x0, y0, x1, y1 = one.box
            item = again.objects.add(
                index=number, label=LABEL, score=one.people / (one.people + 1), source=DetectedObject.SOURCE_CROPS
            )
            item.box.CopyFrom(BoxMessage(x0=x0, y0=y0, x1=x1, y1=y1))
            item.codes.extend(self._records.codes(bits))
        return again

    def report(self, source: Partition, state: KeyedState) -> None:
        self._metrics.state(*source, applied=state.applied_offset, durable=state.durable_offset)
