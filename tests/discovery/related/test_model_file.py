"""Model files: what is saved is loaded, what is no model is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from discovery.related.model import CONTROL, LinearModel, load
from dotstream.errors import Misconfigured


def test_a_model_comes_back_as_it_was(tmp_path: Path) -> None:
    model = LinearModel({"co_occurrence": 0.5, "cross:dé": -1.25}, 0.2, {"pairs": 3, "synthetic": True})
    model.save(tmp_path / "m.json")
    assert load(tmp_path / "m.json") == model
    assert load(tmp_path / "m.json").categories == ("dé",)
    assert CONTROL.categories == ()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"format": "other"},
        {"features": {"charm": 1.0}},
        {"features": {"visual": "much"}},
        {"features": {"visual": float("nan")}},
        {"features": {f"cross:{n}": 1.0 for n in range(33)}},
        {"category_threshold": 2},
        {"features": None},
    ],
)
def test_what_is_no_model_is_told(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "m.json"
    CONTROL.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(Misconfigured):
        load(path)


def test_a_missing_or_broken_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot read"):
        load(tmp_path / "none.json")
    (tmp_path / "m.json").write_text("[")
    with pytest.raises(Misconfigured, match="no model file"):
        load(tmp_path / "m.json")
    (tmp_path / "m.json").write_text("[]")
    with pytest.raises(Misconfigured):
        load(tmp_path / "m.json")
