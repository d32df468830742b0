"""Recipes: the configuration files of trainings, from TOML to settings that are checked.

    a detector's    [run]        folder, weights          where the run is kept; where the weights begin
                    [data]       path, split, pictures, label_map
                    [detector]   options of triton_models/detectors/spec.py (labels come from the data)
                    [training]   options of triton_models/detectors/train.py

    an embedder's   [embedder]   options of triton_models/embedders/train.py
                    [training]   options of triton_models/training/settings.py

Paths are relative to the folder in which the command runs. `--set training.steps=100` goes over the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dotstream.errors import Misconfigured
from triton_models.detectors.base_weights import PACKAGED, Provenance
from triton_models.detectors.build import build, default_source
from triton_models.detectors.dataset import DetectionData, Progress
from triton_models.detectors.detector import Detector
from triton_models.detectors.labels import read_label_map
from triton_models.detectors.sources import open_data
from triton_models.detectors.spec import require_meaning, spec_of
from triton_models.detectors.train import DetectorSettings
from triton_models.embedders.train import EmbedderRecipe
from triton_models.fetch import fetch
from triton_models.training.settings import TrainSettings


class Recipe(BaseModel):
    """A recipe or one of its tables; the dataclasses in it are checked as strictly, none takes an unknown name."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSection(Recipe):
    folder: Path = Field(description="folder of the run")
    weights: str = Field(default="", description="packaged, torchvision, a file, or random; empty: the architecture's")


class DataSection(Recipe):
    path: Path = Field(description="COCO file, folder of COCO files, or Pascal VOC folder")
    split: str = Field(default="train", description="of a folder")
    pictures: Path | None = Field(default=None, description="folder of a COCO file's pictures")
    label_map: Path | None = Field(default=None, description="file of the classes to use; none: the data's own")


class DetectorTraining(Recipe):
    """A detector's recipe."""

    run: RunSection
    data: DataSection
    detector: dict[str, Any]
    training: DetectorSettings


class EmbedderTraining(Recipe):
    """An embedder's recipe."""

    embedder: EmbedderRecipe
    training: TrainSettings


Kind = TypeVar("Kind", bound=Recipe)


def read_recipe(kind: type[Kind], path: Path, changes: Sequence[str] = ()) -> Kind:
    """Reads a recipe.

    Args:
        kind: what it is a recipe of.
        path: of the TOML file.
        changes: "table.option=value", values as in TOML (a bare word is text).

    Raises:
        Misconfigured: it cannot be read, or an option is missing, unknown or wrong; the message says which.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured(f"recipe {path}: {error}") from error
    for change in changes:
        _apply(values, change)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
        raise Misconfigured(f"recipe {path}: {said}") from error


def _apply(values: dict[str, Any], change: str) -> None:
    name, sign, text = change.partition("=")
    table, dot, option = name.partition(".")
    if not sign or not dot or not isinstance(values.setdefault(table, {}), dict):
        raise Misconfigured(f"--set {change!r}: must be TABLE.OPTION=VALUE")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    values[table][option] = value


def opened(config: DetectorTraining, progress: Progress) -> DetectionData:
    """The training's data, every picture checked. Raises as `triton_models.detectors.sources.open_data`."""
    data = config.data
    labels = read_label_map(data.label_map) if data.label_map else None
    return open_data(data.path, data.split, pictures=data.pictures, labels=labels, progress=progress)


def built(
    config: DetectorTraining, labels: Sequence[str], cache: Path, progress: Progress
) -> tuple[Detector, Provenance]:
    """The detector with its first weights, and where those came from.

    Raises:
        Misconfigured, Unavailable, WrongCheckpoint: see triton_models/detectors/build.py.
    """
    spec = spec_of({**config.detector, "labels": labels})
    require_meaning(spec.architecture, config.detector)
    source = config.run.weights or default_source(spec)
    file = fetch(cache, progress).detector if source == PACKAGED else None
    return build(spec, source, seed=config.training.seed, tflite_file=file)
