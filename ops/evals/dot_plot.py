"""Draws precision of shown dots against coverage, one line for each preset of Table 5, one for the detector alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dotstream.errors import Misconfigured
from indexer.dot_rule import Preset
from ops.evals.dot_curves import Outcome

COLOURS: Mapping[Preset, str] = {
    "none": "#7f7f7f",
    "visual": "#1f77b4",
    "annotation": "#ff7f0e",
    "visual-annotation": "#2ca02c",
    "all": "#d62728",
}


def draw(
    path: Path,
    curves: Mapping[Preset, Sequence[Outcome]],
    alone: Sequence[Outcome],
    present: Mapping[Preset, Outcome],
    *,
    title: str,
) -> None:
    """Writes the picture.

    Args:
        path: of a PNG, or another ending that matplotlib knows.
        curves: of the best thresholds, by preset.
        alone: of the detector's score alone.
        present: under the thresholds that are set.
        title: what was measured.

    Raises:
        Misconfigured: matplotlib is missing, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise Misconfigured("drawing needs matplotlib: uv sync --group bench") from None
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    shown = [one for one in alone if one.shown]
    axes.plot([o.coverage for o in shown], [o.precision for o in shown], "--", color="black", label="detector's score")
    for preset, outcomes in curves.items():
        if preset != "none" and outcomes:
            line = sorted((o for o in outcomes if o.shown), key=lambda o: o.coverage)
            xs, ys = [o.coverage for o in line], [o.precision for o in line]
            axes.plot(xs, ys, ".-", color=COLOURS[preset], label=f"{preset}, best thresholds")
    for preset, outcome in present.items():
        if outcome.shown:
            low, high = outcome.interval
            reach = [[outcome.precision - low], [high - outcome.precision]]
            axes.errorbar(
                outcome.coverage, outcome.precision, yerr=reach, fmt="D", color=COLOURS[preset], capsize=3,
                label=f"{preset}, as set",
            )  # fmt: skip
    axes.set(xlabel="coverage: share of pins with a shown dot", ylabel="precision of shown dots", title=title)
    low = min(one.precision for one in (*shown, *present.values()) if one.shown) if shown else 0.0
    axes.set_ylim(max(0.0, low - 0.1), 1.02)
    axes.set_xlim(0, None)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path}: {error}") from error
