"""Which signals each preset of Table 5 asks for, and which of them a dot names when it is not shown."""

from __future__ import annotations

import itertools

import pytest

from indexer.dot_rule import PRESETS, DotRule, Preset
from indexer.records_pb2 import Dot
from indexer.signals import Signals

RULE = DotRule(score=0.7, cold_score=0.8, similarity=0.6, annotation=1.5, conformity=0.8)
GOOD, BAD = Signals(0.6, 1.5, 0.8), Signals(0.59, 1.49, 0.79)
ASKED: dict[Preset, str] = {
    "none": "",
    "visual": "s",
    "annotation": "a",
    "visual-annotation": "sa",
    "all": "sac",
}
REASON = {"s": Dot.REASON_LOW_SIMILARITY, "a": Dot.REASON_LOW_ANNOTATION, "c": Dot.REASON_LOW_CONFORMITY}


def test_the_presets_are_the_rows_of_the_table() -> None:
    assert list(ASKED) == list(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_dot_fails_by_exactly_the_signals_that_are_low_and_asked_for(preset: Preset) -> None:
    rule = RULE.under(preset)
    for low in itertools.chain.from_iterable(itertools.combinations("sac", n) for n in range(4)):
        signals = Signals(
            *(
                getattr(BAD if letter in low else GOOD, name)
                for letter, name in zip("sac", Signals.__slots__, strict=True)
            )
        )
        expected = [REASON[letter] for letter in "sac" if letter in low and letter in ASKED[preset]]
        assert rule.failed(0.7, signals) == expected
        assert rule.failed(0.69, signals) == [Dot.REASON_LOW_SCORE, *expected]


def test_in_cold_start_the_score_alone_is_asked_for() -> None:
    assert RULE.failed(0.8, None) == []
    assert RULE.failed(0.79, None) == [Dot.REASON_LOW_SCORE]
