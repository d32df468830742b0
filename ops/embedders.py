"""Exporting an embedder from the command line: its weights, its calibration, and what was measured of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dotstream.errors import Misconfigured
from ops.commands.options import say
from triton_models.cards import ModelCard

CALIBRATION_PICTURES = 1000


def export_named(
    name: str,
    repository: Path,
    cache: Path,
    *,
    weights: str,
    served_as: str | None,
    extra: Sequence[str],
    calibrate: Path | None,
    metrics: Path | None,
) -> ModelCard:
    """Exports the next version of an embedder.

    Args:
        name: of the catalogue.
        repository: the model repository.
        cache: folder of downloaded weights.
        weights: as `weights.load` takes them.
        served_as: name of the served model.
        extra: further layers of its network, served beside it.
        calibrate: labelled pictures for median thresholds; those of the split "train" where there are splits.
        metrics: output of `dotstream eval ... --json`.

    Raises:
        Misconfigured, Unavailable: no such embedder, data or weights; or the export differs from torch.
    """
    from triton_models.embedders.catalogue import embedder_spec

    spec = embedder_spec(name)
    kept = figures_of(metrics) if metrics is not None else {}
    try:
        from triton_models.embedders.export import export_embedder
    except ModuleNotFoundError as error:
        raise Misconfigured(f"exporting {name} needs {error.name}: uv sync --group models") from error
    from triton_models.embedders.calibrate import calibrated
    from triton_models.embedders.weights import load

    loaded = load(spec.architecture, weights, cache=cache)
    say(f"{name}: {loaded.origin.text}")
    calibration = None
    if calibrate is not None:
        calibration = calibrated(loaded, [spec.layer, *extra], calibrate, CALIBRATION_PICTURES)
    return export_embedder(
        name,
        loaded,
        repository,
        served_as=served_as,
        extra=extra,
        thresholds=None if calibration is None else calibration.thresholds,
        calibrated_on="" if calibration is None else calibration.said,
        sample=None if calibration is None else calibration.sample,
        metrics=kept,
    )


def figures_of(path: Path) -> dict[str, float]:
    """The figures of an evaluation by name, those without a value left out.

    Raises:
        Misconfigured: the file is no evaluation's JSON.
    """
    try:
        figures = json.loads(path.read_text())["figures"]
        return {name: float(figure["value"]) for name, figure in figures.items() if figure["value"] is not None}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misconfigured(f"{path} is no output of `dotstream eval ... --json`: {error!r}") from error
