"""docs/python.md does what it says: its blocks are run in order, and what they print is what stands beside them."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python.md"
ELSEWHERE = "# another process\n"


def said(block: str) -> list[str]:
    """What stands beside the block's calls of print."""
    return re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)


def run(block: str, names: dict[str, Any]) -> list[str]:
    """What a block prints; one for another process runs in one."""
    if block.startswith(ELSEWHERE):
        command = [sys.executable, "-W", "error", "-c", block]
        done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()
    out = StringIO()
    with redirect_stdout(out):
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102  the page's own code
    return out.getvalue().splitlines()


def test_every_block_of_the_page_runs_and_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 8
    assert sum(block.startswith(ELSEWHERE) for block in blocks) == 1
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        assert run(block, names) == said(block), block
        assert block.count("print(") == len(said(block)), "each has its answer beside it"
