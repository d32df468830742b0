"""Checkpoints of a detector's training, as they are read: sure of what they hold, and without running code.

The training loop writes them (triton_models/training/loop.py, which has the file's layout); `about` holds

    spec        the detector (spec.py)
    origin      where the first weights came from
    data        name of the training data
    settings    of the training
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotstream.errors import Misconfigured
from triton_models.detectors.base_weights import Provenance
from triton_models.detectors.build import empty
from triton_models.detectors.detector import Detector
from triton_models.detectors.spec import DetectorSpec, WrongCheckpoint, spec_of
from triton_models.training.records import read_state

FORMAT = "dotstream detector 2"
_PARTS = ("spec", "origin", "data", "settings")


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


def label_of(path: Path) -> str:
    """What results call the checkpoint: RUN/CHECKPOINT."""
    return f"{path.parent.name}/{path.stem}"


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        WrongCheckpoint: it is no checkpoint of a detector, or of another format.
        Misconfigured: it cannot be read.
    """
    if not path.is_file():
        raise Misconfigured(f"no checkpoint at {path}")
    return checkpoint_of(path, read_state(path))


def checkpoint_of(path: Path, state: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint whose file was read. Raises WrongCheckpoint as `read_checkpoint`."""
    found = state.get("format")
    if found != FORMAT and (found == 1 or str(found).startswith("dotstream detector")):
        raise WrongCheckpoint(f"{path} has format {found}, this dotstream reads {FORMAT}")
    about = state.get("about", {})
    if found != FORMAT or "model" not in state or any(part not in about for part in _PARTS):
        raise WrongCheckpoint(f"{path} is no checkpoint of `dotstream train detector`")
    return Checkpoint(
        path,
        spec_of(about["spec"]),
        Provenance(str(about["origin"])),
        str(about["data"]),
        int(state["step"]),
        about["settings"],
        state,
    )


def _described(spec: DetectorSpec) -> str:
    stride = f", extra layers of stride {spec.extra_stride}" if spec.architecture == "ssd_vgg16" else ""
    return f"{spec.architecture} at {spec.size} pixels with {len(spec.labels)} classes{stride}"
