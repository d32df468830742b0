"""Samples and answers written down by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triton_models.detectors.dataset import Sample
from triton_models.detectors.metrics import Answer


def sample(rows: Sequence[tuple[float, ...]], *, crowd: Sequence[bool] | None = None) -> Sample:
    """A picture of 100 x 100 with objects x0, y0, x1, y1, class."""
    table = np.asarray(rows, np.float64).reshape(-1, 5)
    marks = np.zeros(len(table), bool) if crowd is None else np.asarray(crowd, bool).reshape(-1)
    return Sample("0", Path("none"), 100, 100, table[:, :4].astype(np.float32), table[:, 4].astype(np.int64), marks)


def answer(rows: Sequence[tuple[float, ...]]) -> Answer:
    """Detections x0, y0, x1, y1, class, score; best first."""
    table = np.asarray(sorted(rows, key=lambda row: -row[5]), np.float64).reshape(-1, 6)
    return Answer(table[:, :4].astype(np.float32), table[:, 4].astype(np.int64), table[:, 5].astype(np.float32))
