"""Trains a detector: one loop for all architectures, with checkpoints that it can go on from.

A run has a folder: `log.csv` (a row for every logged step), `problems.jsonl` (what of the data could not be used) and
`checkpoint-<step>.pt`. On a CPU with one thread a run that was cut and goes on gives, bit by bit, what the uncut run
gives. A loss that is no number ends the run before it touches the weights; the last checkpoint stays good.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dotstream.errors import Misconfigured
from triton_models.detectors.base_weights import Provenance
from triton_models.detectors.batches import Batch, Draws, batches
from triton_models.detectors.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from triton_models.detectors.dataset import DetectionData
from triton_models.detectors.detector import Detector
from triton_models.training.records import LOG_FILE, RunLog, checkpoints_in
from triton_models.training.settings import LossNotFinite

PROBLEMS_FILE = "problems.jsonl"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class TrainSettings:
    """How a detector is trained.

    Attributes:
        steps: in all.
        batch: pictures of a step.
        learning_rate: its greatest; it rises over `warmup` steps and falls to nothing by a half cosine.
        momentum, weight_decay: of stochastic gradient descent.
        clip: greatest norm of the gradient.
        seed: of everything random.
        augment: change pictures at random.
        checkpoint_every, log_every: steps.
        workers: processes that load pictures; 0 loads in the training's own.
        threads: of a CPU; 0 leaves them to torch.
        freeze: parts of the network that keep their first weights, by the beginnings of their parameters' names.
        device: "cuda", "cpu", or "auto" for the first of these that is there. On CUDA mixed precision is used.
    """

    steps: int
    batch: int = 8
    learning_rate: float = 0.001
    warmup: int = 100
    momentum: float = 0.9
    weight_decay: float = 0.0005
    clip: float = 10.0
    seed: int = 0
    augment: bool = True
    checkpoint_every: int = 500
    log_every: int = 20
    workers: int = 0
    threads: int = 0
    freeze: tuple[str, ...] = ()
    device: str = "auto"

    def __post_init__(self) -> None:
        whole = (self.steps, self.batch, self.checkpoint_every, self.log_every)
        if min(whole) < 1 or min(self.warmup, self.workers, self.threads) < 0:
            raise Misconfigured(f"steps, batch, checkpoint_every and log_every must be at least 1: {self}")
        if not all(math.isfinite(v) and v > 0 for v in (self.learning_rate, self.clip)) or self.weight_decay < 0:
            raise Misconfigured(f"learning_rate and clip must be above 0, weight_decay not below: {self}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise Misconfigured(f"device is auto, cpu or cuda, not {self.device!r}")

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))


def train(
    detector: Detector,
    origin: Provenance,
    data: DetectionData,
    settings: TrainSettings,
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
    return _Run(detector, origin, data, settings, folder).go(resume=resume, progress=progress)


class _Run:
    """One training: what it changes, and where it keeps it."""

    def __init__(
        self, detector: Detector, origin: Provenance, data: DetectionData, settings: TrainSettings, folder: Path
    ) -> None:
        self._settings = settings
        self._device = device_of(settings.device)
        self._origin, self._data, self._folder = origin, data, folder
        if settings.threads:
            torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self._detector = detector.to(self._device).train()
        _freeze(detector, settings.freeze)
        learning = [value for value in detector.parameters() if value.requires_grad]
        self._optimizer = torch.optim.SGD(
            learning, settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay
        )
        self._precision = _precision(self._device)
        self._scaler = torch.amp.GradScaler(self._device, enabled=self._precision == torch.float16)

    def go(self, *, resume: bool, progress: Progress) -> Path:
        """All steps that are left; returns the last checkpoint."""
        settings = self._settings
        first = self._restored() if resume else self._started()
        if first:
            progress(f"going on from step {first}")
        draws = Draws(self._data.samples, self._detector.spec.size, seed=settings.seed, augment=settings.augment)
        loader = batches(draws, first=first, steps=settings.steps, batch=settings.batch, workers=settings.workers)
        log = RunLog(self._folder / LOG_FILE, first)
        begun = time.monotonic()
        last: Path | None = None
        for step, batch in enumerate(loader, first):
            losses = self._step(step, batch)
            done = step + 1
            if done % settings.log_every == 0 or done == settings.steps:
                speed = (done - first) * settings.batch / (time.monotonic() - begun)
                log.row(_logged(done, settings.rate(step), losses, speed))
                left = (settings.steps - done) * settings.batch / speed
                parts = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
                progress(f"step {done}/{settings.steps}  {parts}  {speed:.1f} pictures/s  {left:.0f} s left")
            if done % settings.checkpoint_every == 0 or done == settings.steps:
                last = self._save(done)
        if last is None:
            raise Misconfigured(f"the run in {self._folder} is at its end already; more steps go on from there")
        return last

    def _step(self, step: int, batch: Batch) -> dict[str, float]:
        images = batch.images.to(self._device)
        truths = [truth.to(self._device) for truth in batch.truths]
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.rate(step)
        with torch.autocast(self._device, dtype=self._precision, enabled=self._precision != torch.float32):
            losses = self._detector.losses(images, truths)
        total = torch.stack([value.float() for value in losses.values()]).sum()
        self._demand_finite(total, step, "loss")
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._detector.parameters(), self._settings.clip)
        if not self._scaler.is_enabled():  # the scaler skips such a step by itself and scales less
            self._demand_finite(norm, step, "gradient")
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return {"loss": total.item(), **{name: value.item() for name, value in losses.items()}}

    def _demand_finite(self, value: Tensor, step: int, what: str) -> None:
        if not torch.isfinite(value):
            known = checkpoints_in(self._folder)
            good = f"the last good checkpoint is {known[-1]}" if known else "there is no checkpoint yet"
            raise LossNotFinite(
                f"the {what} of step {step + 1} is {value.item()}: {good}; try a smaller learning_rate or more warmup"
            )

    def _started(self) -> int:
        if checkpoints_in(self._folder):
            raise Misconfigured(f"{self._folder} holds a run already: --resume goes on with it, or name another folder")
        self._folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({**asdict(one), "path": str(one.path)}) + "\n" for one in self._data.problems]
        (self._folder / PROBLEMS_FILE).write_text("".join(lines), "utf-8")
        return 0

    def _restored(self) -> int:
        known = checkpoints_in(self._folder)
        if not known:
            raise Misconfigured(f"{self._folder} holds no checkpoint to go on from")
        checkpoint: Checkpoint = read_checkpoint(known[-1])
        checkpoint.fill(self._detector)
        values = checkpoint.values
        self._optimizer.load_state_dict(values["optimizer"])
        self._scaler.load_state_dict(values["scaler"])
        torch.set_rng_state(values["rng"])
        if self._device == "cuda" and values["device_rng"] is not None:
            torch.cuda.set_rng_state(values["device_rng"])
        return checkpoint.step

    def _save(self, step: int) -> Path:
        values: Mapping[str, Any] = {
            "spec": self._detector.spec.plain(),
            "origin": self._origin.text,
            "data": self._data.name,
            "settings": asdict(self._settings),
            "model": self._detector.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "rng": torch.get_rng_state(),
            "device_rng": torch.cuda.get_rng_state() if self._device == "cuda" else None,
        }
        return write_checkpoint(self._folder, step, values)


def _logged(step: int, rate: float, losses: Mapping[str, float], speed: float) -> dict[str, object]:
    parts = {name: f"{value:.5f}" for name, value in losses.items()}
    return {"step": step, "learning_rate": f"{rate:.6g}", **parts, "pictures_per_s": f"{speed:.2f}"}


def device_of(name: str) -> str:
    """The device to use.

    Raises:
        Misconfigured: CUDA is asked for and not there.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise Misconfigured('no CUDA device here: device = "auto" or "cpu"')
    return "cuda" if there and name in ("auto", "cuda") else "cpu"


def _freeze(detector: Detector, beginnings: Sequence[str]) -> None:
    for beginning in beginnings:
        found = [value for name, value in detector.named_parameters() if name.startswith(beginning)]
        if not found:
            raise Misconfigured(f"freeze: no parameter of {detector.spec.architecture} begins with {beginning!r}")
        for value in found:
            value.requires_grad = False


def _precision(device: str) -> torch.dtype:
    if device != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
