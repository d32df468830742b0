"""`dotstream eval detection`: which detectors it measures, and what it refuses to compare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from dotstream.errors import Misconfigured
from ops.commands import eval as command
from ops.detectors import own_figures
from tests.support.scenes import NAMES, draw_scenes
from triton_models.detectors.base_weights import random_weights
from triton_models.detectors.build import build
from triton_models.detectors.predict import TorchPredictor
from triton_models.detectors.sources import open_data
from triton_models.detectors.spec import DetectorSpec
from triton_models.detectors.train import DetectorSettings, train
from triton_models.training.records import read_state


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    draw_scenes(folder, "test", 3)
    return folder


@pytest.fixture(scope="module")
def trained(scenes: Path) -> Path:
    """A light detector that took one step from random weights."""
    detector, _ = build(DetectorSpec("ssd_mobilenet_v2", NAMES), "random", seed=0)
    how = DetectorSettings(steps=1, batch=1, warmup=0, threads=1, augment=False)
    return train(detector, random_weights(0), open_data(scenes, "test"), how, scenes / "runs" / "one")


def run(scenes: Path, *words: str) -> str:
    done = CliRunner().invoke(command.app, ["detection", str(scenes), "--rounds", "1", *words])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_checkpoints_are_compared_with_the_first(scenes: Path, trained: Path) -> None:
    other = scenes / "runs" / "two" / trained.name
    other.parent.mkdir(parents=True)
    other.write_bytes(trained.read_bytes())
    said = run(scenes, "--checkpoint", str(trained), "--checkpoint", str(other), "--json")
    facts = json.loads(said)
    stem = trained.stem
    assert list(facts["conditions"]["models"]) == [f"one/{stem}", f"two/{stem}"]
    assert all("RANDOM" in model["weights"] for model in facts["conditions"]["models"].values())
    assert facts["figures"][f"two/{stem} minus one/{stem} overall recall"]["value"] == 0.0
    metrics = scenes / "metrics.json"
    metrics.write_text(said)
    kept = own_figures(metrics, other)
    assert kept["overall recall"] == facts["figures"][f"two/{stem} overall recall"]["value"]
    assert not any("one/" in name or "minus" in name for name in kept)
    with pytest.raises(Misconfigured, match="says nothing of three/"):
        own_figures(metrics, scenes / "runs" / "three" / trained.name)
    with pytest.raises(Misconfigured, match=f"two detectors would be called one/{stem}"):
        run(scenes, "--checkpoint", str(trained), "--checkpoint", str(trained))


def test_what_cannot_be_used_is_listed(scenes: Path, trained: Path, tmp_path: Path) -> None:
    spoilt = draw_scenes(tmp_path, "val", 2).parent / "images" / "0.png"
    spoilt.write_bytes(b"no picture")
    words = ["--split", "val", "--checkpoint", str(trained), "--problems", str(tmp_path / "list.jsonl"), "--json"]
    facts = json.loads(run(tmp_path, *words))
    assert facts["conditions"]["left_out"] == "picture_format 1"
    assert json.loads((tmp_path / "list.jsonl").read_text())["path"] == str(spoilt)


@pytest.mark.parametrize("words", [["--proposals", "100"], ["--objectness", "0.2"]])
def test_regions_are_not_asked_of_a_detector_without(scenes: Path, trained: Path, words: list[str]) -> None:
    with pytest.raises(Misconfigured, match="Faster R-CNN"):
        run(scenes, "--checkpoint", str(trained), *words)


def test_a_faster_rcnn_is_measured_with_each_count_of_regions(
    scenes: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its checkpoint's description; the network itself, half a gigabyte, is not built."""
    spec = DetectorSpec("faster_rcnn_resnet101", NAMES)
    state = read_state(trained)
    path = scenes / "runs" / "regions" / trained.name
    path.parent.mkdir(parents=True)
    torch.save({**state, "about": {**state["about"], "spec": spec.plain()}, "model": {}}, path)
    used: list[dict[str, object]] = []
    monkeypatch.setattr(TorchPredictor, "__init__", lambda _self, _read, *, device, options: used.append(options))
    made = command._checkpoints([path, trained], "cpu", [300, 100], 0.2)
    assert len(made) == 3
    assert used == [{"proposals": 300, "objectness": 0.2}, {"proposals": 100, "objectness": 0.2}, {}]
