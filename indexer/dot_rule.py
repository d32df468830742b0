"""When a detected object gets a clickable dot: the detector's score and the Flashlight signals (section 7, Table 5).

A detector alone hallucinates objects and finds things that search cannot answer; the paper keeps a dot only where
visual search is sure of its answer. Table 5 compares five settings, and here they are presets that say which of the
signals are asked for at all:

    preset              similarity   annotation   conformity    Table 5's thresholds     its engagement gain
    none                                                        0.0   0      0.0         -3.8 %
    visual              x                                       1.0   0      0.0         -5.3 %
    annotation                       x                          0.0   1000   0.0         -5.2 %
    visual-annotation   x            x                          1.0   1000   0.0         +2.1 %
    all                 x            x            x             1.0   1000   0.8         +4.9 %

The paper gives its thresholds without units. Ours are on the scales of indexer/signals.py: similarity 0..1, annotation
score 0..ln(1 + N), conformity 0..1; `dotstream dots calibrate` proposes values from labelled data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, get_args

from indexer.records_pb2 import Dot
from indexer.signals import Signals

Preset = Literal["none", "visual", "annotation", "visual-annotation", "all"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
"""In the order of Table 5's rows."""

SIGNALS: Mapping[Preset, tuple[str, ...]] = MappingProxyType(
    {
        "none": (),
        "visual": ("similarity",),
        "annotation": ("annotation",),
        "visual-annotation": ("similarity", "annotation"),
        "all": ("similarity", "annotation", "conformity"),
    }
)
"""Preset -> the signals that it asks for."""


@dataclass(frozen=True, slots=True)
class DotRule:
    """Least values of a dot that is shown; None leaves a signal unasked.

    Attributes:
        score: the detector's, 0..1, asked for beside the signals.
        cold_score: the detector's in cold start, where it is all that is asked for.
        similarity: of the nearest result, 0..1.
        annotation: of the best annotation, 0..ln(1 + N).
        conformity: the largest share of one category, 0..1.
    """

    score: float = 0.3
    cold_score: float = 0.7
    similarity: float | None = None
    annotation: float | None = None
    conformity: float | None = None

    def under(self, preset: Preset) -> DotRule:
        """The same thresholds with only the preset's signals asked for."""
        asked = SIGNALS[preset]
        return replace(
            self,
            similarity=self.similarity if "similarity" in asked else None,
            annotation=self.annotation if "annotation" in asked else None,
            conformity=self.conformity if "conformity" in asked else None,
        )

    def failed(self, score: float, signals: Signals | None) -> list[Dot.Reason]:
        """Why a dot is not shown, in the paper's order; empty when it is.

        Args:
            score: the detector's.
            signals: of its visual search; None in cold start, where the score alone decides.
        """
        if signals is None:
            return [] if score >= self.cold_score else [Dot.REASON_LOW_SCORE]
        checks: list[tuple[float, float | None, Dot.Reason]] = [
            (score, self.score, Dot.REASON_LOW_SCORE),
            (signals.similarity, self.similarity, Dot.REASON_LOW_SIMILARITY),
            (signals.annotation_score, self.annotation, Dot.REASON_LOW_ANNOTATION),
            (signals.category_conformity, self.conformity, Dot.REASON_LOW_CONFORMITY),
        ]
        return [reason for value, least, reason in checks if least is not None and value < least]
