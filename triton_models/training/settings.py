"""How a network is trained; a recipe's table `[training]` has these names (detectors have more, detectors/train.py)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dotstream.errors import Fatal, Misconfigured


class LossNotFinite(Fatal):
    """The loss or its gradient is infinite or no number; the message names the last good checkpoint."""


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained.

    Attributes:
        steps: in all.
        batch: pictures of a step.
        learning_rate: its greatest; it rises over `warmup` steps and falls to nothing by a half cosine.
        warmup: steps.
        momentum: of stochastic gradient descent.
        weight_decay: of stochastic gradient descent.
        clip: greatest norm of the gradient.
        seed: of everything random.
        checkpoint_every: steps.
        log_every: steps.
        threads: of a CPU; 0 leaves them to torch.
        device: "cuda", "cpu", or "auto" for the first of these that is there. On CUDA mixed precision is used.
    """

    steps: int
    batch: int = 64
    learning_rate: float = 0.01
    warmup: int = 100
    momentum: float = 0.9
    weight_decay: float = 0.0005
    clip: float = 10.0
    seed: int = 0
    checkpoint_every: int = 500
    log_every: int = 20
    threads: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.checkpoint_every, self.log_every) < 1 or min(self.warmup, self.threads) < 0:
            raise Misconfigured(f"steps, batch, checkpoint_every and log_every must be at least 1: {self}")
        positive = (self.learning_rate, self.clip)
        if not all(math.isfinite(value) and value > 0 for value in positive) or self.weight_decay < 0:
            raise Misconfigured(f"learning_rate and clip must be above 0, weight_decay not below: {self}")
        if self.device not in {"auto", "cpu", "cuda"}:
            raise Misconfigured(f"device is auto, cpu or cuda, not {self.device!r}")

    def rate(self, step: int) -> float:
        """The share of a parameter group's learning rate that is used at a step, in 0..1."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))
