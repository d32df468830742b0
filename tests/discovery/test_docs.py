"""docs/api.md and the code name the same problems and routes."""

from __future__ import annotations

import re
from pathlib import Path

from discovery.problems import KINDS

DOC = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def test_every_problem_is_documented_with_its_status() -> None:
    rows: dict[str, set[str]] = {}
    for line in DOC[DOC.index("## Problems") :].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            for slug in re.findall(r"`([\w-]+)`", cells[0]):
                rows[slug] = set(cells[1].split(", "))
    assert rows.keys() == KINDS.keys()
    assert all(str(kind.status) in rows[slug] for slug, kind in KINDS.items())
