"""What a training leaves in its folder: `log.csv`, and checkpoints that are read without running code."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from dotstream.errors import Misconfigured

LOG_FILE = "log.csv"
KEPT = 2
"""Checkpoints: the newest, and the one before it."""


class RunLog:
    """`log.csv`: a row for every logged step, its first column `step`. Rows behind `first` are taken back.

    Args:
        path: of the file.
        first: the step from which the run goes on; 0 begins a new file.
    """

    def __init__(self, path: Path, first: int) -> None:
        self._path = path
        if not first or not path.is_file():
            path.unlink(missing_ok=True)
            return
        with path.open(newline="") as stream:
            header, *rows = list(csv.reader(stream))
        kept = [header, *(row for row in rows if int(row[0]) <= first)]
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows(kept)

    def row(self, values: Mapping[str, object]) -> None:
        """Adds a row; every row of a run has the same columns, `step` first."""
        new = not self._path.is_file()
        with self._path.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, list(values))
            if new:
                writer.writeheader()
            writer.writerow(values)


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(folder.glob("checkpoint-*.pt"))


def read_state(path: Path) -> dict[str, Any]:
    """What a file of torch holds: tensors and plain values by name.

    Raises:
        Misconfigured: it cannot be read, or holds anything else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:  # its own text advises to run what the file holds
        raise Misconfigured(
            f"{path} cannot be read as weights: it is damaged, of another kind, or holds more than tensors"
        ) from error
    except Exception as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Misconfigured(f"{path} cannot be read as weights: {said}") from error
    if not isinstance(state, dict):
        raise Misconfigured(f"{path} holds a {type(state).__name__}, not a state of named tensors")
    return state
