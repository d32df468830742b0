"""Replay: propensities by hand, intervals that hold what they should, ties and categories."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from discovery.related.evaluation import evaluate, ranker
from discovery.related.examples import Example, by_request
from discovery.related.model import CONTROL, LinearModel, Variant


def example(
    request_id: str,
    pin_id: str,
    outcomes: tuple[str, ...] = (),
    *,
    user: str = "u",
    category: str = "art",
    on_object: dict[str, float] | None = None,
    **features: float,
) -> Example:
    return Example(request_id, user, "q", pin_id, 0, 1, category, outcomes, features, on_object)


VISUAL = LinearModel({"visual": 1.0})


def test_propensities_by_hand() -> None:
    """One user of two saves what looks alike; the control shows it to none, the model to that one."""
    seen = by_request(
        [
            example("r1", "a", ("save",), user="u1", visual=0.9, co_occurrence=0.0),
            example("r1", "b", (), user="u1", visual=0.1, co_occurrence=1.0),
            example("r2", "c", ("click",), user="u2", visual=0.9, co_occurrence=1.0),
            example("r2", "d", ("save",), user="u2", visual=0.1, co_occurrence=0.0),
        ]
    )
    report = evaluate(seen, ranker(VISUAL, Variant.PLAIN), k=1, users_min=1)
    assert (report.saves.users, report.saves.propensity, report.saves.control) == (2, 0.5, 0.0)
    assert math.isnan(report.saves.gain.value)
    assert (report.engagement.propensity, report.engagement.control) == (1.0, 0.5)
    assert report.engagement.gain.value == 1.0
    both = evaluate(seen, ranker(VISUAL, Variant.PLAIN), k=2, users_min=1)
    assert (both.saves.propensity, both.saves.control, both.saves.gain.value) == (1.0, 1.0, 0.0)


def test_a_user_counts_once_and_categories_apart() -> None:
    seen = by_request(
        [
            example("r1", "a", ("save",), user="u", category="art"),
            example("r2", "a", (), user="u", category="quotes"),
            example("r3", "a", (), user="v", category="quotes"),
        ]
    )
    report = evaluate(seen, ranker(CONTROL, Variant.PLAIN), users_min=1)
    assert (report.saves.users, report.saves.propensity) == (2, 0.5)
    shares = {name: (one.users, one.propensity) for name, one in report.categories.items()}
    assert shares == {"art": (1, 1.0), "quotes": (2, 0.0)}
    assert evaluate(seen, ranker(CONTROL, Variant.PLAIN), users_min=2).categories.keys() == {"quotes"}


def test_ties_do_not_depend_on_the_order_of_the_log() -> None:
    lines = [example("r", name, ("save",) if name == "b" else ()) for name in "cab"]
    for order in (lines, lines[::-1]):
        assert evaluate(by_request(order), ranker(CONTROL, Variant.PLAIN), k=2).saves.propensity == 1.0
        assert evaluate(by_request(order), ranker(CONTROL, Variant.PLAIN), k=1).saves.propensity == 0.0


def test_variants_look_at_the_object_or_weigh_pictures_more() -> None:
    model = LinearModel({"visual": 1.0, "co_occurrence": 1.0})
    whole = [
        example("r", "a", on_object={"visual": 0.0, "co_occurrence": 0.0}, visual=0.5, co_occurrence=0.0),
        example("r", "b", on_object={"visual": 0.9, "co_occurrence": 1.0}, visual=0.1, co_occurrence=1.0),
    ]

    def first(variant: Variant, seen: Sequence[Example]) -> str:
        scores = ranker(model, variant)(seen)
        return max(zip(scores, seen, strict=True), key=lambda pair: pair[0])[1].pin_id

    assert [first(variant, whole) for variant in Variant] == ["b", "b", "b", "a"]
    without = [example("r", "a", visual=0.5, co_occurrence=0.0), example("r", "b", visual=0.1, co_occurrence=1.0)]
    assert {first(variant, without) for variant in Variant} == {"b"}


def test_intervals_hold_the_gain_and_shrink_with_the_log() -> None:
    draw = np.random.default_rng(0)

    def log(users: int) -> list[Example]:
        lines = []
        for n in range(users):
            good = draw.random() < 0.6
            lines.append(example(f"r{n}", "a", ("save",) if good else (), user=f"u{n}", visual=1.0))
            other = draw.random() < 0.4
            lines.append(example(f"r{n}", "b", ("save",) if other else (), user=f"u{n}", co_occurrence=1.0))
        return lines

    few, many = (
        evaluate(by_request(log(n)), ranker(VISUAL, Variant.PLAIN), k=1, resamples=300).saves.gain for n in (200, 3_000)
    )
    assert many.low < 0.5 < many.high  # 0.6 / 0.4 - 1
    assert many.low < many.value < many.high
    assert few.high - few.low > 2 * (many.high - many.low)
    same = evaluate(by_request(log(200)), ranker(CONTROL, Variant.PLAIN), k=1).saves.gain
    assert (same.value, same.low, same.high) == pytest.approx((0, 0, 0))
