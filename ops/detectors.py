"""Exporting a trained detector from the command line: its checkpoint, what was measured of it, its licence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dotstream.errors import Misconfigured
from ops.embedders import figures_of
from triton_models.cards import ModelCard


def export_checkpoint(
    path: Path, repository: Path, *, name: str, licence: str, metrics: Path | None, options: dict[str, Any]
) -> ModelCard:
    """Exports the next version of a detector.

    Args:
        path: of the checkpoint.
        repository: the model repository.
        name: of the served model.
        licence: of the trained weights, for the card.
        metrics: output of `dotstream eval detection --json`, whose figures of this checkpoint the card keeps.
        options: of use, over those of the training (proposals, objectness); None keeps one.

    Raises:
        Misconfigured: the checkpoint or the metrics cannot be read, the metrics are of others, the name is taken, or
            the export differs.
    """
    try:
        from triton_models.detectors.publish import Publication, publish
    except ModuleNotFoundError as error:
        raise Misconfigured(f"exporting {name} needs {error.name}: uv sync --group models") from error
    from triton_models.detectors.checkpoints import read_checkpoint

    kept = {} if metrics is None else own_figures(metrics, path)
    checkpoint = read_checkpoint(path)
    about = Publication(name, licence, kept)
    return publish(checkpoint, checkpoint.detector(**options), repository, about)


def own_figures(metrics: Path, checkpoint: Path) -> dict[str, float]:
    """The figures of one checkpoint, without its name: the same evaluation may have measured others.

    Raises:
        Misconfigured: the file is no evaluation's, or of other detectors.
    """
    from triton_models.detectors.checkpoints import label_of

    label = label_of(checkpoint)
    figures = figures_of(metrics)
    own = {name.removeprefix(label).lstrip(" ,"): value for name, value in figures.items() if name.startswith(label)}
    if not own:
        raise Misconfigured(f"{metrics} says nothing of {label}: measure this checkpoint by `dotstream eval detection`")
    return {name: value for name, value in own.items() if not name.startswith("minus ")}
