"""One training run, of a detector or an embedder: steps, logs and checkpoints in a folder of its own.

    RUN/log.csv                  a row for every logged step
    RUN/checkpoint-STEP.pt       the newest two; a torch file of tensors and plain values, read with `weights_only`:
        format, about                        which kind of checkpoint, and what the run is of
        step, model                          steps done, and the network's state
        optimizer, scaler, rng[, device_rng] what going on needs
    RUN/problems.jsonl           what of the data could not be used (written by who reads the data)

What a step trains on depends on the seed and the step alone, and the random state is kept in the checkpoint: on a CPU
with one thread a run that was cut and goes on gives, bit by bit, what the uncut run gives. A loss or gradient that is
no number ends the run before it touches the weights, and weights that are none are not kept, so that the last
checkpoint stays good.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from dotstream.errors import Misconfigured
from triton_models.files import write_whole
from triton_models.training.records import KEPT, LOG_FILE, RunLog, checkpoints_in, read_state
from triton_models.training.settings import LossNotFinite, TrainSettings

Say = Callable[[str], None]
Loss = Callable[[int, torch.device], tuple[Tensor, Mapping[str, float]]]
"""(step, device) -> the step's loss as a scalar tensor, and what else to log of it. Steps follow each other."""
Restore = Callable[[Path, Mapping[str, Any]], None]
"""(file, state) -> fills the network, or raises because the checkpoint is of another run."""


def device_of(name: str) -> torch.device:
    """The device of a settings' name.

    Raises:
        Misconfigured: CUDA is asked for and not there.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise Misconfigured("device cuda is asked for, and torch sees none")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


class Run:
    """A run over a network.

    Args:
        network: with its first weights; changed in place.
        groups: parameter groups of the optimiser, each with its own `lr`; what is in none keeps its weights.
        loss: of a step; called under autocast on CUDA.
        settings: how.
        folder: of the run.
        about: plain values that every checkpoint carries, `format` among them.
        restore: fills the network when a run goes on; None takes only a checkpoint with the same `about`.
    """

    def __init__(  # noqa: PLR0917  what a run is made of
        self,
        network: nn.Module,
        groups: Sequence[Mapping[str, Any]],
        loss: Loss,
        settings: TrainSettings,
        folder: Path,
        about: Mapping[str, Any],
        restore: Restore | None = None,
    ) -> None:
        self._network, self._loss, self._settings, self._folder, self._about = network, loss, settings, folder, about
        self._fill = restore or self._fill_the_same
        self._device = device_of(settings.device)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._network.to(self._device)
        self._optimizer = torch.optim.SGD(
            [dict(group) for group in groups],
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self._rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        self._precision = _precision(self._device)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._precision == torch.float16)

    def go(self, *, resume: bool, say: Say) -> Path:
        """Trains to the end and returns the last checkpoint; a run that is at its end already stays as it is.

        Raises:
            Misconfigured: the folder holds a run already and `resume` is not given, or holds none and it is; the
                checkpoint is of another run.
            LossNotFinite: see the settings.
        """
        first = self._restore() if resume else self._begin()
        if first:
            say(f"going on from step {first}")
        self._network.train()
        log = RunLog(self._folder / LOG_FILE, first)
        began = time.monotonic()
        for step in range(first, self._settings.steps):
            facts = self._step(step)
            done = step + 1
            if done % self._settings.log_every == 0 or done == self._settings.steps:
                speed = (done - first) * self._settings.batch / (time.monotonic() - began)
                log.row({"step": done, **facts, "pictures_per_s": round(speed, 2)})
                say(self._told(done, facts, speed))
            if done % self._settings.checkpoint_every == 0 or done == self._settings.steps:
                self._keep(done)
        return checkpoints_in(self._folder)[-1]

    def _told(self, done: int, facts: Mapping[str, float], speed: float) -> str:
        steps = self._settings.steps
        parts = ", ".join(f"{name} {value:.4g}" for name, value in facts.items() if name != "learning_rate")
        left = (steps - done) * self._settings.batch / speed
        return f"step {done} of {steps}: {parts}, {speed:.1f} pictures/s, {left:.0f} s left"

    def _step(self, step: int) -> dict[str, float]:
        share = self._settings.rate(step)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self._device.type, self._precision, enabled=self._precision != torch.float32):
            loss, facts = self._loss(step, self._device)
        self._require(loss, step, "loss")
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self._network.parameters(), self._settings.clip)
        if self._precision != torch.float16:  # there the scaler leaves such a step out and lowers its scale
            self._require(norm, step, "gradient")
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return {"loss": float(loss.detach()), "learning_rate": self._rates[0] * share, **facts}

    def _require(self, value: Tensor, step: int, what: str) -> None:
        if not bool(torch.isfinite(value).all()):
            self._stop(f"the {what} of step {step + 1} is {value.item()}")

    def _stop(self, said: str) -> NoReturn:
        kept = checkpoints_in(self._folder)
        last = f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint was written yet"
        raise LossNotFinite(f"{said}: {last}; try a smaller learning_rate or more warmup")

    def _begin(self) -> int:
        if checkpoints_in(self._folder):
            raise Misconfigured(f"{self._folder} holds a run already: go on with --resume, or name another folder")
        self._folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(self._settings.seed)
        return 0

    def _restore(self) -> int:
        kept = checkpoints_in(self._folder)
        if not kept:
            raise Misconfigured(f"{self._folder} holds no checkpoint to go on from")
        state = read_state(kept[-1])
        self._fill(kept[-1], state)
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if self._device.type == "cuda" and "device_rng" in state:
            torch.cuda.set_rng_state(state["device_rng"], self._device)
        return int(state["step"])

    def _fill_the_same(self, path: Path, state: Mapping[str, Any]) -> None:
        other = [name for name, value in self._about.items() if state.get("about", {}).get(name) != value]
        if other:
            raise Misconfigured(f"{path} is of another run: {', '.join(other)} differ")
        self._network.load_state_dict(state["model"])

    def _keep(self, step: int) -> None:
        if not all(bool(torch.isfinite(value).all()) for value in self._network.parameters()):
            self._stop(f"step {step} left weights that are no numbers")
        state = {
            "format": self._about["format"],
            "about": dict(self._about),
            "step": step,
            "model": {name: value.cpu() for name, value in self._network.state_dict().items()},
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "rng": torch.get_rng_state(),
        }
        if self._device.type == "cuda":
            state["device_rng"] = torch.cuda.get_rng_state(self._device)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_whole(self._folder / f"checkpoint-{step:08}.pt", buffer.getvalue())
        for old in checkpoints_in(self._folder)[:-KEPT]:
            old.unlink(missing_ok=True)


def _precision(device: torch.device) -> torch.dtype:
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
