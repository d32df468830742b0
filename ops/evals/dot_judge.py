"""Which detections deserve a dot, judged by what is known, beside the signals by which the stream decides.

With labelled scenes a detection is right when both of the paper's errors (section 7, Figure 11) are absent:

    located   its box overlaps a known object by at least `SEEN_IOU` (else: bad localisation, hallucination). Its label
              is not asked for: detectors and catalogues name things differently, and a dot leads on by looks
    relevant  of the first `TOP` pins that visual search answers, at least `RELEVANT_MIN` show an object of the same
              label: the box that was found there overlaps a known object of that label

In a catalogue without boxes a detection is right when at least `RELEVANT_MIN` of the first `TOP` pins share an
annotation with its own pin, whose annotations take no part in its own signals; `located` is not known there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from consumers.dot_decider import DotDecider
from discovery.boxes import of_message
from indexer.answers import Hit
from indexer.reader import Entry, IndexReader
from indexer.records_pb2 import DetectedObject
from indexer.signals import Signals, by_pin, flashlight_signals
from ops.evals.scenes import Scene

TOP = 5
RELEVANT_MIN = 0.6
PAGE = 500


@dataclass(frozen=True, slots=True)
class Judged:
    """One detection.

    Attributes:
        pin_id: of its pin.
        score: the detector's.
        signals: as the dots worker computes them.
        located: whether there is something where it says; None where that is not known.
        relevant: share of the first results that show the same, 0..1.
    """

    pin_id: str
    score: float
    signals: Signals
    located: bool | None
    relevant: float

    @property
    def right(self) -> bool:
        """Whether its dot would be right to show."""
        return self.located is not False and self.relevant >= RELEVANT_MIN


def judge_scenes(reader: IndexReader, decider: DotDecider, scenes: Sequence[Scene]) -> list[Judged]:
    """Every detection on these scenes, which the index holds."""
    known = {scene.pin_id: scene for scene in scenes}
    judged = []
    for entry in entries(reader):
        scene = known[entry.record.pin_id]
        for found in entry.record.objects:
            thing = scene.shown(of_message(found.box))
            hits = decider.neighbours(entry.record, found).hits
            alike = [thing is not None and _label_of(hit, known) == thing.label for hit in by_pin(hits)[:TOP]]
            relevant = _share(alike)
            signals = flashlight_signals(hits, reader.document_frequency)
            judged.append(Judged(scene.pin_id, found.score, signals, thing is not None, relevant))
    return judged


def judge_catalogue(reader: IndexReader, decider: DotDecider, most: int) -> list[Judged]:
    """The detections on the newest pins of a catalogue that carry annotations, `most` pins at most."""
    judged = []
    pins = 0
    for entry in entries(reader):
        own = set(entry.record.annotations)
        if not own:
            continue
        pins += 1
        if pins > most:
            break
        for found in entry.record.objects:
            hits = decider.neighbours(entry.record, found).hits
            relevant = _share([bool(own & set(hit.record.annotations)) for hit in by_pin(hits)[:TOP]])
            signals = flashlight_signals(hits, reader.document_frequency)
            judged.append(Judged(entry.record.pin_id, found.score, signals, None, relevant))
    return judged


def entries(reader: IndexReader) -> Iterator[Entry]:
    """Every live pin, the newest first."""
    before: tuple[int, str] | None = None
    while True:
        reader.refresh()
        page = reader.newest(PAGE, before)
        yield from page
        if len(page) < PAGE:
            return
        before = (page[-1].record.recorded_at, page[-1].record.pin_id)


def _label_of(hit: Hit, known: Mapping[str, Scene]) -> str | None:
    """What is known of the box that was found."""
    found: DetectedObject = next(item for item in hit.record.objects if item.index == hit.object_index)
    thing = known[hit.pin_id].shown(of_message(found.box))
    return None if thing is None else thing.label


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 0.0
