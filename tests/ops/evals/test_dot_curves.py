"""The arithmetic of the dots' evaluation, held against plain loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.dot_rule import PRESETS, SIGNALS, DotRule
from indexer.signals import Signals
from ops.evals.dot_curves import Grid, Table, auc, curve
from ops.evals.dot_judge import Judged
from ops.evals.dots import at_kept, distributions, propose
from ops.evals.intervals import share_interval

share = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
detections = st.lists(
    st.builds(
        Judged,
        pin_id=st.sampled_from([f"pin-{n}" for n in range(8)]),
        score=share,
        signals=st.builds(Signals, share, share, share),
        located=st.sampled_from([True, True, False, None]),
        relevant=share,
    ),
    max_size=25,
)
PINS = [f"pin-{n}" for n in range(10)]


def plain(judged: Sequence[Judged], rule: DotRule) -> tuple[int, int, int]:
    """(shown, right, covered) by loops."""
    shown = [one for one in judged if not rule.failed(one.score, one.signals)]
    return len(shown), sum(one.right for one in shown), len({one.pin_id for one in shown})


@settings(max_examples=100, deadline=None)
@given(judged=detections, preset=st.sampled_from(PRESETS), score=share)
def test_an_outcome_is_what_counting_gives_and_halves_are_a_partition(
    judged: list[Judged], preset: str, score: float
) -> None:
    table = Table(judged, PINS)
    rule = DotRule(score=score, similarity=0.5, annotation=0.5, conformity=0.5).under(preset)  # type: ignore[arg-type]
    outcome = table.outcome(table.shown(rule))
    assert (outcome.shown, outcome.right, outcome.covered) == plain(judged, rule)
    assert outcome.coverage == outcome.covered / 10
    halves = [table.half(number) for number in (0, 1)]
    assert sorted([*halves[0].pins, *halves[1].pins]) == PINS
    assert sum(len(half.judged) for half in halves) == len(judged)


@settings(max_examples=60, deadline=None)
@given(judged=detections, preset=st.sampled_from(PRESETS), precision=share)
def test_the_best_rule_shows_most_right_dots_among_those_that_are_precise_enough(
    judged: list[Judged], preset: str, precision: float
) -> None:
    table = Table(judged, PINS)
    names = SIGNALS[preset]  # type: ignore[index]
    grid = Grid(table, preset, score=0.25)  # type: ignore[arg-type]
    best = grid.best(precision, shown_min=2)
    counts = []
    for values in itertools.product((0.0, 0.25, 0.5, 0.75, 1.0), repeat=len(names)):
        shown, right, _ = plain(judged, DotRule(score=0.25, **dict(zip(names, values, strict=True))))
        if shown >= 2 and right >= precision * shown:
            counts.append(right)
    if best is None:
        return
    shown, right, _ = plain(judged, best)
    assert shown >= 2
    assert right >= precision * shown
    assert right <= max(counts)


def test_the_chance_that_right_is_above_wrong() -> None:
    random = np.random.default_rng(3)
    values, right = random.integers(0, 6, 60).astype(float), random.random(60) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in values[right] for b in values[~right]]
    assert auc(values, right) == pytest.approx(np.mean(pairs))
    assert math.isnan(auc(values, np.ones(60, bool)))


def test_dots_of_one_pin_are_no_independent_observations() -> None:
    """Pins on which all is right or nothing is: the interval is that of the pins, not of their dots."""
    signals = Signals(1.0, 1.0, 1.0)
    judged = [Judged(f"pin-{n}", 0.9, signals, True, float(n < 8)) for n in range(10) for _ in range(9)]
    outcome = Table(judged, PINS).outcome(np.ones(90, bool))
    assert (outcome.shown, outcome.right, outcome.covered) == (90, 72, 10)
    assert outcome.interval == pytest.approx(share_interval((np.arange(10) < 8).astype(int), np.ones(10, int)))
    apart = [Judged(f"{one.pin_id}/{at}", 0.9, signals, True, one.relevant) for at, one in enumerate(judged)]
    low, high = Table(apart, [one.pin_id for one in apart]).outcome(np.ones(90, bool)).interval
    assert outcome.interval[0] < low < 0.8 < high < outcome.interval[1]


def separable(count: int = 400) -> Table:
    """Right detections have high similarity and conformity; the annotation score says nothing."""
    random = np.random.default_rng(1)
    judged = []
    for number in range(count):
        right = bool(random.random() < 0.5)
        signals = Signals(
            similarity=float(random.normal(0.8 if right else 0.6, 0.05)),
            annotation_score=float(random.random()),
            category_conformity=float(random.normal(0.9 if right else 0.5, 0.1)),
        )
        judged.append(Judged(f"pin-{number}", 0.9, signals, True, 1.0 if right else 0.0))
    return Table(judged, [one.pin_id for one in judged])


def test_thresholds_that_are_proposed_hold_on_pins_that_they_were_not_chosen_on() -> None:
    table = separable()
    found = {one.preset: one for one in propose(table, 0.95, 0.3)}
    assert found["annotation"].rule is None
    best = found["all"]
    assert best.rule is not None
    assert best.outcome is not None
    assert best.held_out is not None
    assert best.outcome.precision >= 0.95
    assert best.held_out.precision >= 0.9
    assert best.held_out.kept > 0.9
    visual = curve(table, "visual", 0.3, [0.9, 0.95])
    top = at_kept(visual, 0.8)
    assert top is not None
    assert top.precision >= 0.9


def test_a_half_on_which_no_right_dot_is_shown_counts_with_all_that_it_misses() -> None:
    """Right ones look alike on one half only: thresholds that fit it show nothing of the other."""
    every = Table([], PINS)
    half_of = {pin_id: number for number in (0, 1) for pin_id in every.half(number).pins}
    judged = [
        Judged(pin_id, 0.9, Signals(0.9 if right and not half else 0.1, 0.0, 0.0), True, float(right or half))
        for pin_id, half in half_of.items()
        for right in (True, False) * 20
    ]
    table = Table(judged, PINS)
    (outcome,) = curve(table, "visual", 0.3, [0.9])
    assert 0 < outcome.kept < 1
    assert outcome.kept == outcome.right / table.right.sum()


def test_the_spread_of_signals_is_told_for_right_and_wrong() -> None:
    spread = distributions(separable())
    assert spread["similarity"]["right"][2] > spread["similarity"]["wrong"][4]
    assert set(spread) == {"score", "similarity", "annotation", "conformity"}
