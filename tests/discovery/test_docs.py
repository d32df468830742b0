"""docs/api.md and the code name the same problems, and what the documents link to exists."""

from __future__ import annotations

import re
from pathlib import Path

from discovery.problems import KINDS

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "api.md").read_text()


def test_every_problem_is_documented_with_its_status() -> None:
    rows: dict[str, set[str]] = {}
    for line in DOC[DOC.index("## Problems") :].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            for slug in re.findall(r"`([\w-]+)`", cells[0]):
                rows[slug] = set(cells[1].split(", "))
    assert rows.keys() == KINDS.keys()
    assert all(str(kind.status) in rows[slug] for slug, kind in KINDS.items())


def test_relative_links_of_the_documents_exist() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)\s#]+)", page.read_text())]
    relative = [(page, link) for page, link in links if not re.match(r"[a-z]+:", link)]
    assert relative
    assert [f"{page.name}: {link}" for page, link in relative if not (page.parent / link).exists()] == []
