"""`dotstream eval dots`, `dotstream dots calibrate`: how right shown dots are, and thresholds for a wanted precision.

The scenes go through a private stack as pins do (real broker, real detector and embedder, the index as the stream fills
it); then every detection is searched for over the whole index, as the dots worker does when it decides, and judged
(ops/evals/dot_judge.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from consumers.dot_decider import DotDecider, DotSettings
from consumers.metrics import WorkerMetrics
from dotstream.clock import SystemClock
from dotstream.errors import Misconfigured
from indexer.dot_rule import PRESETS, SIGNALS, DotRule, Preset
from indexer.reader import IndexReader
from ops.bench._report import Figure, Report, machine
from ops.commands.options import say
from ops.evals.dot_curves import Grid, Outcome, Table, auc, by_score, curve
from ops.evals.dot_judge import RELEVANT_MIN, TOP, judge_catalogue, judge_scenes
from ops.evals.filled import filled
from ops.evals.scenes import CATEGORIES, SEEN_IOU, read_scenes
from ops.settings import Settings

TARGETS = tuple(np.round(np.linspace(0.1, 0.98, 45), 3).tolist())
SCORES = tuple(np.round(np.linspace(0.3, 0.95, 27), 3).tolist())


@dataclass(frozen=True)
class Evidence:
    """The judged detections of an index, and what they were made with."""

    table: Table
    conditions: dict[str, Any]


def of_scenes(data: Path, split: str, categories: str, most: int | None) -> Evidence:
    """Publishes the scenes of a split into a private stack and judges every detection.

    Raises:
        Misconfigured: there are no such scenes, or categories of that name.
    """
    if categories not in CATEGORIES:
        raise Misconfigured(f"categories are made of {' or '.join(CATEGORIES)}s, not of {categories!r}")
    scenes = read_scenes(data, split, most)
    say(f"{len(scenes)} scenes go through a private stack")
    pictures = data if data.is_dir() else data.parent
    with filled((scene.event(categories) for scene in scenes), pictures) as stack:
        say("judging every detection over the whole index")
        judged = judge_scenes(stack.reader, _decider(stack.settings, stack.reader), scenes)
        conditions = {
            "data": f"{data}, split {split}, {len(scenes)} scenes, {sum(len(s.things) for s in scenes)} known objects",
            "categories": f"{categories}s of the known objects, by area",
            "right": f"box over a known object by {SEEN_IOU} IoU, and {RELEVANT_MIN:.0%} of the first {TOP} pins found "
            "show an object of its label",
            "pins not indexed": stack.dead,
            **_conditions(stack.settings, stack.reader),
        }
    return Evidence(Table(judged, [scene.pin_id for scene in scenes]), conditions)


def of_index(settings: Settings, most: int) -> Evidence:
    """Judges the newest pins of the index that the settings point to."""
    if not settings.index_folder.is_dir():
        raise Misconfigured(f"there is no index in {settings.index_folder}; name its data folder with --data")
    reader = IndexReader(
        settings.index_folder,
        settings.topics.record_partitions,
        clock=SystemClock(),
        lease_s=settings.index.lease_s,
        name="calibrate",
    )
    try:
        judged = judge_catalogue(reader, _decider(settings, reader), most)
        conditions = _conditions(settings, reader)
    finally:
        reader.close()
    pins = list(dict.fromkeys(one.pin_id for one in judged))
    right = f"{RELEVANT_MIN:.0%} of the first {TOP} pins found share an annotation with the pin"
    counted = {"pins": f"{len(pins)} with annotations and detections, the newest", "right": right}
    return Evidence(Table(judged, pins), counted | conditions)


def _decider(settings: Settings, reader: IndexReader) -> DotDecider:
    asked = DotSettings(neighbours=settings.dots.neighbours, cold_start_objects=0)
    metrics = WorkerMetrics("eval", CollectorRegistry())
    return DotDecider(reader, asked, generation=settings.generation, clock=SystemClock(), metrics=metrics)


def _conditions(settings: Settings, reader: IndexReader) -> dict[str, Any]:
    reader.refresh()
    size = reader.size()
    seen_by = {f"{one.record.detector}, {one.record.embedder}" for one in reader.newest(1)}
    return {
        "index": f"{size.pins} pins, {size.objects} objects, {size.documents} pins with annotations",
        "models": next(iter(seen_by), "no pin is indexed"),
        "neighbours": settings.dots.neighbours,
        **machine(),
    }


def evaluate(evidence: Evidence, rule: DotRule, plot: Path | None) -> Report:
    """Precision and coverage of each preset under the thresholds that are set, and the curves of the best ones."""
    table = evidence.table
    present = {preset: table.outcome(table.shown(rule.under(preset))) for preset in PRESETS}
    curves = {preset: curve(table, preset, rule.score, TARGETS) for preset in PRESETS if SIGNALS[preset]}
    figures: dict[str, Figure] = {}
    for preset, outcome in present.items():
        low, high = outcome.interval
        figures |= {
            f"{preset}: precision": Figure(outcome.precision, f"share, {low:.3f} to {high:.3f}"),
            f"{preset}: coverage": Figure(outcome.coverage, "share of pins"),
            f"{preset}: shown": Figure(outcome.shown, "dots"),
            f"{preset}: right ones kept": Figure(outcome.kept, "share"),
        }
    for preset, outcomes in curves.items():
        for kept in (0.75, 0.5, 0.25):
            best = at_kept(outcomes, kept)
            if best is not None:
                figures[f"{preset}: best precision, {kept:.0%} of right dots kept"] = Figure(best.precision, "share")
    asked = table.score >= rule.score
    for name in SIGNALS["all"]:
        figures[f"AUC of {name}"] = Figure(auc(table.signal(name)[asked], table.right[asked]), "share")
    figures["AUC of the score"] = Figure(auc(table.score[asked], table.right[asked]), "share")
    figures["detections"] = Figure(len(table.judged), "objects")
    located = [one.located for one in table.judged if one.located is not None]
    if located:
        figures["located"] = Figure(sum(located) / len(located), "share of detections")
    figures["right"] = Figure(float(table.right.mean()), "share of detections")
    if plot is not None:
        from ops.evals.dot_plot import draw

        draw(plot, curves, by_score(table, SCORES), present, title=f"Dots: {len(table.pins)} pins")
    return Report("dots", evidence.conditions | {"thresholds": asdict(rule)}, figures)


def at_kept(outcomes: Sequence[Outcome], kept: float) -> Outcome | None:
    """The most precise outcome that still shows this share of the right dots."""
    enough = [one for one in outcomes if one.kept >= kept]
    return max(enough, key=lambda one: one.precision, default=None)


@dataclass(frozen=True)
class Proposal:
    """Thresholds for one preset, chosen on all pins; `held_out`: what such a choice comes to on other pins."""

    preset: Preset
    rule: DotRule | None
    outcome: Outcome | None
    held_out: Outcome | None


def propose(table: Table, precision: float, score: float) -> list[Proposal]:
    """For each preset with signals the thresholds that show most right dots at a wanted precision."""
    proposals = []
    for preset in PRESETS:
        if SIGNALS[preset]:
            rule = Grid(table, preset, score).best(precision, shown_min=20)
            outcome = None if rule is None else table.outcome(table.shown(rule))
            held_out = next(iter(curve(table, preset, score, [precision])), None)
            proposals.append(Proposal(preset, rule, outcome, held_out))
    return proposals


def distributions(table: Table) -> dict[str, dict[str, list[float]]]:
    """Signal -> right | wrong -> its 5th, 25th, 50th, 75th and 95th percentile."""
    columns = {"score": table.score, **{name: table.signal(name) for name in SIGNALS["all"]}}
    return {
        name: {
            word: [round(float(value), 4) for value in np.percentile(column[chosen], (5, 25, 50, 75, 95))]
            for word, chosen in (("right", table.right), ("wrong", ~table.right))
            if chosen.any()
        }
        for name, column in columns.items()
    }
