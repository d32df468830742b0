"""Checkpoints of a training: whole or not at all, readable without running code, and sure of what they hold.

Layout, version 1, a torch file of tensors and plain values (read with `weights_only`):

    format      1
    spec        the detector (spec.py)
    origin      where the first weights came from
    data        name of the training data
    step        steps done
    settings    of the training
    model       state dict
    optimizer, scaler, rng, device_rng     what going on needs
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dotstream.errors import Misconfigured
from triton_models.detectors.base_weights import Provenance
from triton_models.detectors.build import empty
from triton_models.detectors.detector import Detector
from triton_models.detectors.spec import DetectorSpec, WrongCheckpoint, spec_of
from triton_models.files import write_whole
from triton_models.training.records import KEPT, checkpoints_in, read_state

FORMAT = 1
_PARTS = ("spec", "origin", "data", "step", "settings", "model")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    Attributes:
        path: of the file.
        spec, origin, data, step, settings: see the layout.
        values: all of it.
    """

    path: Path
    spec: DetectorSpec
    origin: Provenance
    data: str
    step: int
    settings: Mapping[str, Any]
    values: Mapping[str, Any]

    def fill(self, detector: Detector) -> None:
        """Puts the weights into a detector.

        Raises:
            WrongCheckpoint: it is another network.
        """
        if self.spec.identity != detector.spec.identity:
            raise WrongCheckpoint(
                f"{self.path} holds {_described(self.spec)}, this is {_described(detector.spec)}: use its own settings"
            )
        try:
            detector.load_state_dict(self.values["model"])
        except (RuntimeError, KeyError, TypeError) as error:
            said = str(error).splitlines()[0]
            raise WrongCheckpoint(f"{self.path} does not hold the weights that it says it holds: {said}") from error

    def detector(self, **options: Any) -> Detector:
        """The detector of the checkpoint in evaluation mode, with other options of use where they are given."""
        made = empty(self.spec.with_options(**options))
        self.fill(made)
        return made.eval()


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        WrongCheckpoint: it is no checkpoint of a detector, or of another format.
        Misconfigured: it cannot be read.
    """
    if not path.is_file():
        raise Misconfigured(f"no checkpoint at {path}")
    values = read_state(path)
    if any(part not in values for part in _PARTS):
        raise WrongCheckpoint(f"{path} is no checkpoint of `dotstream train detector`")
    if values.get("format") != FORMAT:
        raise WrongCheckpoint(f"{path} has format {values.get('format')}, this dotstream reads {FORMAT}")
    return Checkpoint(
        path,
        spec_of(values["spec"]),
        Provenance(str(values["origin"])),
        str(values["data"]),
        int(values["step"]),
        values["settings"],
        values,
    )


def write_checkpoint(folder: Path, step: int, values: Mapping[str, Any]) -> Path:
    """Writes `checkpoint-<step>.pt` whole, then removes all but the newest two.

    Raises:
        OSError: no space, no permission; the older ones stay.
    """
    path = folder / f"checkpoint-{step:08d}.pt"
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "step": step, **values}, buffer)
    write_whole(path, buffer.getvalue())
    for old in checkpoints_in(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def _described(spec: DetectorSpec) -> str:
    stride = f", extra layers of stride {spec.extra_stride}" if spec.architecture == "ssd_vgg16" else ""
    return f"{spec.architecture} at {spec.size} pixels with {len(spec.labels)} classes{stride}"
