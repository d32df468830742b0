"""Recipes of trainings: what they say reaches the training, and what is wrong in them is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dotstream.errors import Misconfigured
from ops.cli import hoisted
from ops.training import DetectorTraining, EmbedderTraining, built, opened, read_recipe
from tests.support.scenes import NAMES, draw_scenes

RECIPES = Path(__file__).parents[2] / "triton_models" / "recipes"
TEXT = """
[run]
folder = "runs/one"
weights = "random"
[data]
path = "scenes"
[detector]
architecture = "ssd_vgg16"
size = 96
[training]
steps = 7
freeze = ["network.lower."]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "training.toml"
    path.write_text(TEXT)
    return path


def test_the_file_reaches_the_training(file: Path, tmp_path: Path) -> None:
    draw_scenes(tmp_path / "scenes", "val", 2)
    config = read_recipe(
        DetectorTraining, file, [f"data.path={tmp_path / 'scenes'}", "data.split=val", "training.batch=2"]
    )
    data = opened(config, lambda _: None)
    detector, origin = built(config, data.labels.names, tmp_path, lambda _: None)
    settings = config.training
    assert (detector.spec.architecture, detector.spec.size, detector.spec.labels) == ("ssd_vgg16", 96, NAMES)
    assert (settings.steps, settings.batch, settings.freeze) == (7, 2, ("network.lower.",))
    assert origin.is_random


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["run.speed=3"], "run.speed"),
        (["training=3"], "TABLE.OPTION=VALUE"),
        (["nothing.at=1"], "nothing"),
        (["detector.depth=3"], "no detector option depth"),
        (["detector.proposals=100"], "proposals means nothing to ssd_vgg16"),
        (["training.epochs=3"], r"training\.epochs"),
        (["training.steps=many"], r"training\.steps.*integer"),
        (["training.learning_rate=nan"], "learning_rate"),
        (["training.steps=0"], "steps"),
    ],
)
def test_what_is_wrong_is_named(file: Path, tmp_path: Path, changes: list[str], said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        built(read_recipe(DetectorTraining, file, changes), NAMES, tmp_path, lambda _: None)


EMBEDDER = '[embedder]\narchitecture = "vgg16"\nside = 64\n[training]\nsteps = 7\n'


def test_an_embedders_recipe_is_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "embedder.toml"
    path.write_text(EMBEDDER)
    read = read_recipe(EmbedderTraining, path, ["training.batch=3", "embedder.weights=random"])
    assert (read.embedder.architecture, read.embedder.side, read.embedder.weights) == ("vgg16", 64, "random")
    assert (read.training.steps, read.training.batch) == (7, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[training]\nsteps = 1\n", "embedder: Field required"),
        (EMBEDDER + "[data]\n", "data"),
        (EMBEDDER + "workers = 2\n", r"training\.workers"),
        (EMBEDDER.replace("64", '"wide"'), r"embedder\.side"),
        (EMBEDDER.replace("64", "8"), "side 32"),
    ],
)
def test_what_is_wrong_in_an_embedders_recipe_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "embedder.toml"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=said):
        read_recipe(EmbedderTraining, path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"missing\.toml"):
        read_recipe(DetectorTraining, tmp_path / "missing.toml")


def test_every_recipe_of_the_source_is_a_configuration(tmp_path: Path) -> None:
    recipes = sorted(RECIPES.glob("*.toml"))
    assert recipes
    for recipe in recipes:
        config = read_recipe(DetectorTraining, recipe)
        built(
            config.model_copy(update={"run": config.run.model_copy(update={"weights": "random"})}),
            NAMES,
            tmp_path,
            lambda _: None,
        )
        assert config.training.steps > 0


def test_the_training_keeps_its_own_config_option() -> None:
    given = ["train", "detector", "--config", "a.toml", "--debug"]
    assert hoisted(given) == ["--debug", "train", "detector", "--config", "a.toml"]
    assert hoisted(["--config", "s.toml", *given[:2], "--config=a.toml"]) == [
        "--config",
        "s.toml",
        "train",
        "detector",
        "--config=a.toml",
    ]
