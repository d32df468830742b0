"""How dots are decided, and decided again, put together from the settings."""

from __future__ import annotations

from consumers.dot_decider import DotSettings
from consumers.dots_again import AgainSettings
from indexer.dot_rule import DotRule
from ops.settings import Settings


def rule_of(settings: Settings) -> DotRule:
    """The thresholds that are set, all of them."""
    dots = settings.dots
    return DotRule(
        score=dots.score,
        cold_score=dots.cold_start_score,
        similarity=dots.similarity,
        annotation=dots.annotation,
        conformity=dots.conformity,
    )


def dot_settings(settings: Settings) -> DotSettings:
    """The rule under the preset, and what the signals are made of."""
    dots = settings.dots
    rule = rule_of(settings).under(dots.preset)
    return DotSettings(rule=rule, neighbours=dots.neighbours, cold_start_objects=dots.cold_start_min_objects)


def again_settings(settings: Settings) -> AgainSettings:
    """How much is decided again."""
    dots = settings.dots
    return AgainSettings(per_s=dots.again_per_s, cold_start_objects=dots.cold_start_min_objects)
