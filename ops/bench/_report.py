"""What every benchmark prints: its conditions, and figures beside a peer or a physical limit of the same run."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.commands.options import answer


@dataclass(frozen=True)
class Figure:
    """One measured value. `peer` or `limit` is what it is held against, in the same unit unless it says otherwise."""

    value: float
    unit: str
    peer: float | None = None
    limit: float | None = None


@dataclass
class Report:
    """A benchmark's outcome."""

    name: str
    conditions: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)

    def show(self, *, as_json: bool) -> None:
        """Prints the contract's JSON object, or a table."""
        if as_json:
            figures = {
                name: {k: v for k, v in vars(figure).items() if v is not None} for name, figure in self.figures.items()
            }
            answer({"name": self.name, "conditions": self.conditions, "figures": figures})
            return
        table = Table(title=self.name)
        for column in ("figure", "value", "unit", "peer or limit"):
            table.add_column(column, justify="left" if column in {"figure", "unit"} else "right")
        for name, figure in self.figures.items():
            beside = figure.peer if figure.peer is not None else figure.limit
            table.add_row(name, f"{figure.value:.4g}", figure.unit, "" if beside is None else f"{beside:.4g}")
        console = Console()
        console.print(table)
        for name, value in self.conditions.items():
            console.print(f"{name}: {value}", highlight=False)


def machine() -> dict[str, Any]:
    """The conditions that every benchmark names."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {"cores": os.cpu_count(), "cpu": model, "python": platform.python_version(), "gpu": "none used"}


def neighbours() -> dict[str, Any]:
    """The condition that tells a shared machine from a quiet one; to be asked for before anything is started."""
    return {"load average before": round(os.getloadavg()[0], 1)}
