"""What a run keeps: files that hold code, nothing, or half of themselves are refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from dotstream.errors import Misconfigured
from triton_models.training.records import read_state


def test_files_that_hold_code_or_nothing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    for evil in (nn.Linear(2, 2), {"weights": Path("a class that is not allowed")}):
        torch.save(evil, path)
        with pytest.raises(Misconfigured, match=r"evil\.pth cannot be read as weights.*more than tensors"):
            read_state(path)
    for content in (b"", b"damaged", b"PK\x03\x04" + b"x" * 50):
        path.write_bytes(content)
        with pytest.raises(Misconfigured, match="cannot be read as weights"):
            read_state(path)
    with pytest.raises(Misconfigured, match="cannot be read as weights"):
        read_state(tmp_path / "none.pth")
    torch.save([1], path)
    with pytest.raises(Misconfigured, match="list"):
        read_state(path)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    torch.save({"step": 3, "model": {"weight": torch.ones(2)}}, tmp_path / "checkpoint.pt")
    state = read_state(tmp_path / "checkpoint.pt")
    assert state["step"] == 3 and torch.equal(state["model"]["weight"], torch.ones(2))
