"""Random numbers that depend on names, not on the order of work: the same seed gives the same data set."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *names: object) -> np.random.Generator:
    """A generator of its own for the thing that the names say, such as (seed, "scene", "train", 17)."""
    digest = hashlib.sha256("/".join(str(part) for part in (seed, *names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def shuffled(seed: int, names: list[str], purpose: str) -> list[str]:
    """The names in a random order that a name's neighbours do not change."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest())
