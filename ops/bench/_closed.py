"""A closed loop of ready tensors over a Triton server: what the two models give when nothing else stands in the way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ops.bench._pictures import Ready
from triton_models.client import TritonClient

TRIAL_S = 2.5


@dataclass(frozen=True)
class Shape:
    """How the loop asks: so many threads, so many pictures in a call."""

    threads: int
    together: int

    def __str__(self) -> str:
        return f"{self.threads} threads, {self.together} pictures in a call"


SHAPES = tuple(Shape(*one) for one in ((1, 1), (2, 1), (3, 1), (2, 4), (4, 4), (2, 8)))
"""Those that are tried."""


def best_shape(client: TritonClient, pictures: Sequence[Ready]) -> Shape:
    """The shape that gives the most pictures per second in a short trial of each."""
    return max(SHAPES, key=lambda shape: closed_loop(client, pictures, shape, TRIAL_S))


def closed_loop(client: TritonClient, pictures: Sequence[Ready], shape: Shape, seconds: float) -> float:
    """Pictures per second, each with one detector row and an embedder row for its whole and each of its crops."""
    deadline = time.monotonic() + seconds
    last = len(pictures) - shape.together + 1
    groups = [pictures[n : n + shape.together] for n in range(0, last, shape.together)]

    def loop(first: int) -> int:
        done, turn = 0, first
        while time.monotonic() < deadline:
            group = groups[turn % len(groups)]
            call(client, group)
            done += len(group)
            turn += shape.threads
        return done

    started = time.monotonic()
    with ThreadPoolExecutor(shape.threads) as pool:
        total = sum(pool.map(loop, range(shape.threads)))
    return total / (time.monotonic() - started)


def call(client: TritonClient, group: Sequence[Ready]) -> None:
    """One call to each model for these pictures."""
    client.detect(np.stack([one.whole for one in group]))
    client.embed(np.concatenate([one.crops for one in group]))
