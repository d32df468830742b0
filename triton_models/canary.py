"""A real inference on fixed pictures, and what a healthy pair of models must answer.

Used by readiness checks of workers, API and supervisor: Triton goes on saying that it is ready after a model's process
has died, and a server whose numpy does not fit its Python backend answers with zeros of the right shape. Also the place
where a model that returns the rows of a batch in another order is caught.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from triton_models.outputs import Detections
from triton_models.statuses import BadOutput

# Batching may change the last bits of float sums, and with them the sign of a feature that is nearly zero.
ROW_TOLERANCE = 0.05


class Models(Protocol):
    """What is looked at: the client."""

    def detect(self, images: npt.NDArray[np.uint8]) -> list[Detections]: ...
    def codes(self, images: npt.NDArray[np.uint8]) -> Sequence[npt.NDArray[np.uint8]]: ...
    def features(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]: ...


@cache
def pictures(size: int) -> npt.NDArray[np.uint8]:
    """Two fixed textured pictures, uint8 [2, size, size, 3], as unlike each other as a model could wish."""
    ramp = np.linspace(0, 1, size, dtype=np.float64)
    x, y = np.meshgrid(ramp, ramp)
    waves = np.stack([np.sin(37 * x + 3 * y), np.cos(23 * y * x), np.sin(11 * (x - y))], axis=-1)
    discs = np.stack([np.hypot(x - c, y - 0.5) < 0.3 for c in (0.3, 0.5, 0.7)], axis=-1)
    pair = np.stack([127.5 + 127.5 * waves, np.where(discs, 230.0, 25.0)])
    return pair.astype(np.uint8)


def check_models(models: Models, *, detector_size: int, embedder_size: int) -> None:
    """Raises: BadOutput when an answer is not what a healthy model gives, and whatever the calls raise."""
    models.detect(pictures(detector_size))
    pair = pictures(embedder_size)
    # Of an extra feature only the answer itself is asked for: a classifier of few classes may say the same of both.
    codes, swapped = models.codes(pair)[0], models.codes(pair[::-1])[0]
    if any(len(set(np.unpackbits(code))) < 2 for code in codes):
        raise BadOutput("embedder", "a code of the canary's pictures has no bit that differs from the others")
    bits = codes.shape[1] * 8
    between = _distance(codes[0], codes[1])
    moved = max(_distance(codes[0], swapped[1]), _distance(codes[1], swapped[0]))
    if between == 0 or moved > ROW_TOLERANCE * bits or moved >= between:
        raise BadOutput(
            "embedder", f"rows do not follow their pictures: {between} of {bits} bits apart, {moved} bits when swapped"
        )
    if not np.ptp(models.features(pair[:1])) > 0:
        raise BadOutput("embedder", "all features of the canary's picture are the same")


def _distance(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> int:
    return int(np.bitwise_count(one ^ other).sum())
