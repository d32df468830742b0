"""Trains a detector of any architecture by the loop that embedders are trained by too (triton_models/training/loop.py).

The run's folder also gets `problems.jsonl`: what of the data could not be used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dotstream.errors import Misconfigured
from triton_models.data.problems import write_problems
from triton_models.detectors.base_weights import Provenance
from triton_models.detectors.batches import Batch, Draws, batches
from triton_models.detectors.checkpoints import FORMAT, checkpoint_of
from triton_models.detectors.dataset import DetectionData
from triton_models.detectors.detector import Detector
from triton_models.training.loop import Run
from triton_models.training.records import checkpoints_in
from triton_models.training.settings import TrainSettings

Progress = Callable[[str], None]


@dataclass(frozen=True)
class DetectorSettings(TrainSettings):
    """How a detector is trained: the loop's settings, and these.

    Attributes:
        augment: change pictures at random.
        workers: processes that load pictures; 0 loads in the training's own.
        freeze: parts of the network that keep their first weights, by the beginnings of their parameters' names.
    """

    batch: int = 8
    learning_rate: float = 0.001
    augment: bool = True
    workers: int = 0
    freeze: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers < 0:
            raise Misconfigured(f"workers must be at least 0: {self}")


def train(
    detector: Detector,
    origin: Provenance,
    data: DetectionData,
    settings: DetectorSettings,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress = lambda _: None,
) -> Path:
    """Trains to the end and returns the last checkpoint.

    Args:
        detector: with its first weights; changed in place.
        origin: where those came from.
        data: whose labels are the detector's.
        settings: how.
        folder: of the run; new or empty, unless it goes on.
        resume: go on from the newest checkpoint in `folder`.
        progress: told in a line how it goes.

    Raises:
        Misconfigured: the folder holds a run already, or none to go on from; no such device; other labels.
        WrongCheckpoint: the checkpoint is of another detector.
        LossNotFinite: see there.
    """
    if data.labels.names != detector.spec.labels:
        raise Misconfigured("the data's classes are not the detector's: give both the same label map")
    about = {
        "format": FORMAT,
        "spec": detector.spec.plain(),
        "origin": origin.text,
        "data": data.name,
        "settings": asdict(settings),
    }
    run = Run(
        detector,
        [{"params": _learning(detector, settings.freeze), "lr": settings.learning_rate}],
        Losses(detector, data, settings),
        settings,
        folder,
        about,
        restore=lambda path, state: checkpoint_of(path, state).fill(detector),
    )
    if not checkpoints_in(folder):
        write_problems(folder, data.problems)
    return run.go(resume=resume, say=progress)


class Losses:
    """The loss of each step, over pictures that are loaded beside the training; see `training.loop.Loss`."""

    def __init__(self, detector: Detector, data: DetectionData, settings: DetectorSettings) -> None:
        self._detector, self._settings = detector, settings
        self._draws = Draws(data.samples, detector.spec.size, seed=settings.seed, augment=settings.augment)
        self._batches: Iterator[Batch] | None = None

    def __call__(self, step: int, device: torch.device) -> tuple[Tensor, Mapping[str, float]]:
        """The sum of the detector's losses, and each of them. The first step may be any; the others follow it."""
        settings = self._settings
        if self._batches is None:
            steps, workers = settings.steps, settings.workers
            self._batches = iter(batches(self._draws, first=step, steps=steps, batch=settings.batch, workers=workers))
        batch = next(self._batches)
        losses = self._detector.losses(batch.images.to(device), [truth.to(device) for truth in batch.truths])
        total = torch.stack([value.float() for value in losses.values()]).sum()
        return total, {name: round(value.item(), 5) for name, value in losses.items()}


def _learning(detector: Detector, freeze: Sequence[str]) -> list[Any]:
    """The parameters that learn; those whose names begin as `freeze` says do not."""
    for beginning in freeze:
        found = [value for name, value in detector.named_parameters() if name.startswith(beginning)]
        if not found:
            raise Misconfigured(f"freeze: no parameter of {detector.spec.architecture} begins with {beginning!r}")
        for value in found:
            value.requires_grad = False
    return [value for value in detector.parameters() if value.requires_grad]
