"""The configuration file of a detector's training, from TOML to plain values.

    [run]        folder, weights          where the run is kept; where the weights begin
    [data]       path, split, pictures, label_map
    [detector]   options of triton_models/detectors/spec.py (labels come from the data)
    [training]   options of triton_models/detectors/train.py

Paths are relative to the folder in which the command runs. `--set training.steps=100` goes over the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dotstream.errors import Misconfigured

if TYPE_CHECKING:
    from triton_models.detectors.base_weights import Provenance
    from triton_models.detectors.dataset import DetectionData, Progress
    from triton_models.detectors.detector import Detector
    from triton_models.detectors.train import DetectorSettings


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSection(_Section):
    folder: Path = Field(description="folder of the run")
    weights: str = Field(default="", description="packaged, torchvision, a file, or random; empty: the architecture's")


class DataSection(_Section):
    path: Path = Field(description="COCO file, folder of COCO files, or Pascal VOC folder")
    split: str = Field(default="train", description="of a folder")
    pictures: Path | None = Field(default=None, description="folder of a COCO file's pictures")
    label_map: Path | None = Field(default=None, description="file of the classes to use; none: the data's own")


class DetectorTraining(_Section):
    """The whole file."""

    run: RunSection
    data: DataSection
    detector: dict[str, Any]
    training: dict[str, Any]


def read_training(path: Path, changes: Sequence[str] = ()) -> DetectorTraining:
    """Reads the file.

    Args:
        path: of the TOML file.
        changes: "section.option=value", values as in TOML (a bare word is text).

    Raises:
        Misconfigured: it cannot be read, or an option is unknown or wrong; the message says which.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured(f"{path}: {error}") from error
    for change in changes:
        _apply(values, change)
    try:
        return DetectorTraining.model_validate(values)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
        raise Misconfigured(f"{path}: {said}") from error


def _apply(values: dict[str, Any], change: str) -> None:
    name, sign, text = change.partition("=")
    section, dot, option = name.partition(".")
    if not sign or not dot:
        raise Misconfigured(f"--set {change!r}: must be SECTION.OPTION=VALUE")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    values.setdefault(section, {})[option] = value


def opened(config: DetectorTraining, progress: Progress) -> DetectionData:
    """The training's data, every picture checked. Raises as `triton_models.detectors.sources.open_data`."""
    from triton_models.detectors.labels import read_label_map
    from triton_models.detectors.sources import open_data

    labels = read_label_map(config.data.label_map) if config.data.label_map else None
    return open_data(
        config.data.path, config.data.split, pictures=config.data.pictures, labels=labels, progress=progress
    )


def built(
    config: DetectorTraining, labels: Sequence[str], cache: Path, progress: Progress
) -> tuple[Detector, Provenance, DetectorSettings]:
    """The detector with its first weights, where those came from, and how it is trained.

    Raises:
        Misconfigured, Unavailable, WrongCheckpoint: see triton_models/detectors/build.py.
    """
    from triton_models.detectors.base_weights import PACKAGED
    from triton_models.detectors.build import build, default_source
    from triton_models.detectors.spec import spec_of
    from triton_models.detectors.train import DetectorSettings
    from triton_models.fetch import fetch

    spec = spec_of({**config.detector, "labels": labels})
    try:
        settings = DetectorSettings(**{**config.training, "freeze": tuple(config.training.get("freeze", ()))})
    except TypeError as error:
        raise Misconfigured(f"[training]: {error}") from error
    source = config.run.weights or default_source(spec)
    file = fetch(cache, progress).detector if source == PACKAGED else None
    detector, origin = build(spec, source, seed=settings.seed, tflite_file=file)
    return detector, origin, settings
