"""Precision of shown dots against coverage, under thresholds and under the best thresholds that a preset can have.

All functions take the judged detections of some pins; pins on which nothing was detected count as not covered.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from indexer.dot_rule import SIGNALS, DotRule, Preset
from ops.evals.dot_judge import Judged
from ops.evals.intervals import share_interval

STEPS = 12
"""Thresholds tried of each signal: quantiles of its values, the first below all of them."""

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """What a rule shows.

    Attributes:
        shown: dots.
        right: of these.
        covered: pins with a shown dot.
        pins: all pins.
        deserving: right detections, shown or not.
        by_pin: int64 [covered, 2], shown dots and right ones of each covered pin.
    """

    shown: int
    right: int
    covered: int
    pins: int
    deserving: int
    by_pin: Counts = field(compare=False, repr=False)

    @property
    def precision(self) -> float:
        """Of shown dots; NaN when none is shown."""
        return self.right / self.shown if self.shown else math.nan

    @property
    def coverage(self) -> float:
        """Share of pins with a shown dot."""
        return self.covered / self.pins if self.pins else math.nan

    @property
    def kept(self) -> float:
        """Share of all right detections that are shown; NaN without any."""
        return self.right / self.deserving if self.deserving else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the precision; the dots of one pin are no independent observations."""
        return share_interval(self.by_pin[:, 1], self.by_pin[:, 0])


@dataclass(frozen=True)
class Table:
    """The judged detections as columns."""

    judged: Sequence[Judged]
    pins: Sequence[str]

    @cached_property
    def score(self) -> Floats:
        return np.array([one.score for one in self.judged])

    @cached_property
    def right(self) -> Bools:
        return np.array([one.right for one in self.judged], bool)

    @cached_property
    def pin(self) -> npt.NDArray[np.int64]:
        """A number for each pin."""
        return np.unique([one.pin_id for one in self.judged], return_inverse=True)[1].reshape(-1)

    def signal(self, name: str) -> Floats:
        """Column of `similarity`, `annotation` or `conformity`."""
        attribute = {
            "similarity": "similarity", "annotation": "annotation_score", "conformity": "category_conformity"
        }[name]  # fmt: skip
        return np.array([getattr(one.signals, attribute) for one in self.judged])

    def shown(self, rule: DotRule) -> Bools:
        """Which detections the dots worker would show."""
        return np.array([not rule.failed(one.score, one.signals) for one in self.judged], bool)

    def outcome(self, shown: Bools) -> Outcome:
        """What showing these comes to."""
        counts = np.bincount(self.pin[shown])
        rights = np.bincount(self.pin[shown & self.right], minlength=len(counts))
        by_pin = np.stack([counts, rights], axis=1)[counts > 0]
        dots, right = by_pin.sum(axis=0).tolist()
        return Outcome(dots, right, len(by_pin), len(self.pins), int(self.right.sum()), by_pin)

    def half(self, number: int) -> Table:
        """The detections of one half of the pins, 0 or 1, chosen by a hash of their ids."""
        mine = {pin_id for pin_id in self.pins if zlib.crc32(pin_id.encode()) % 2 == number}
        return Table([one for one in self.judged if one.pin_id in mine], sorted(mine))


def auc(values: Floats, right: Bools) -> float:
    """The chance that a right detection has the greater value than a wrong one, ties half; NaN without both."""
    good, bad = np.sort(values[right]), values[~right]
    if not len(good) or not len(bad):
        return math.nan
    below = np.searchsorted(good, bad, "left").sum()
    up_to = np.searchsorted(good, bad, "right").sum()
    return float(1 - (below + up_to) / 2 / (len(good) * len(bad)))


class Grid:
    """Every combination of thresholds of a preset's signals over a table, and what each of them shows.

    Args:
        table: where thresholds are looked for.
        preset: which signals may be asked for.
        score: least detector score, the same for all.
    """

    def __init__(self, table: Table, preset: Preset, score: float) -> None:
        self._base = DotRule(score=score)
        self._names = SIGNALS[preset]
        self._choices = [_quantiles(table.signal(name)) for name in self._names]
        passing = [
            [table.signal(name) >= value for value in values]
            for name, values in zip(self._names, self._choices, strict=True)
        ]
        enough = table.score >= score
        self._places = list(itertools.product(*(range(len(values)) for values in self._choices)))
        counts = []
        for place in self._places:
            shown = enough.copy()
            for masks, step in zip(passing, place, strict=True):
                shown &= masks[step]
            counts.append((int(shown.sum()), int((shown & table.right).sum())))
        self.counts = np.array(counts)  # [combinations, (shown, right)]

    def rule(self, place: int) -> DotRule:
        """The rule of one combination."""
        steps = self._places[place]
        chosen = {
            name: float(values[step]) for name, values, step in zip(self._names, self._choices, steps, strict=True)
        }
        return replace(self._base, **chosen)

    def best(self, precision: float, shown_min: int = 1) -> DotRule | None:
        """The rule that shows most right dots at this precision, with at least `shown_min` dots; None for none."""
        shown, right = self.counts[:, 0], self.counts[:, 1]
        good = (shown >= shown_min) & (right >= precision * shown)
        if not good.any():
            return None
        return self.rule(int(np.argmax(np.where(good, right, -1))))


def curve(table: Table, preset: Preset, score: float, targets: Sequence[float]) -> list[Outcome]:
    """What the best thresholds for each wanted precision come to on pins that they were not chosen on.

    The pins are split in two; thresholds are chosen on each half and applied to the other, and both are put together.
    Targets that cannot be met on a half are left out.
    """
    halves = [table.half(number) for number in (0, 1)]
    grids = [Grid(half, preset, score) for half in halves]
    found = []
    for target in targets:
        rules = [grid.best(target, shown_min=10) for grid in grids]
        if rules[0] is not None and rules[1] is not None:
            found.append(
                _together(halves[1].outcome(halves[1].shown(rules[0])), halves[0].outcome(halves[0].shown(rules[1])))
            )
    return found


def by_score(table: Table, scores: Sequence[float]) -> list[Outcome]:
    """What the detector's score alone comes to."""
    return [table.outcome(table.score >= score) for score in scores]


def _together(one: Outcome, other: Outcome) -> Outcome:
    return Outcome(
        one.shown + other.shown,
        one.right + other.right,
        one.covered + other.covered,
        one.pins + other.pins,
        one.deserving + other.deserving,
        np.concatenate([one.by_pin, other.by_pin]),
    )


def _quantiles(values: Floats) -> Floats:
    """Thresholds to try: one that lets all pass, then quantiles."""
    if not len(values):
        return np.zeros(1)
    return np.unique(np.concatenate([[0.0], np.quantile(values, np.linspace(0.05, 0.95, STEPS))]))
