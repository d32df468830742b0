"""The training's configuration file: what it says reaches the training, and what is wrong in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dotstream.errors import Misconfigured
from ops.cli import hoisted
from ops.training import built, opened, read_training
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
    config = read_training(file, [f"data.path={tmp_path / 'scenes'}", "data.split=val", "training.batch=2"])
    data = opened(config, lambda _: None)
    detector, origin, settings = built(config, data.labels.names, tmp_path, lambda _: None)
    assert (detector.spec.architecture, detector.spec.size, detector.spec.labels) == ("ssd_vgg16", 96, NAMES)
    assert (settings.steps, settings.batch, settings.freeze) == (7, 2, ("network.lower.",))
    assert origin.is_random


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["run.speed=3"], "run.speed"),
        (["training=3"], "SECTION.OPTION=VALUE"),
        (["nothing.at=1"], "nothing"),
        (["detector.depth=3"], "no detector option depth"),
        (["training.epochs=3"], "epochs"),
    ],
)
def test_what_is_wrong_is_named(file: Path, tmp_path: Path, changes: list[str], said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        built(read_training(file, changes), NAMES, tmp_path, lambda _: None)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"missing\.toml"):
        read_training(tmp_path / "missing.toml")


def test_every_recipe_of_the_source_is_a_configuration(tmp_path: Path) -> None:
    recipes = sorted(RECIPES.glob("*.toml"))
    assert recipes
    for recipe in recipes:
        config = read_training(recipe)
        _, _, settings = built(
            config.model_copy(update={"run": config.run.model_copy(update={"weights": "random"})}),
            NAMES,
            tmp_path,
            lambda _: None,
        )
        assert settings.steps > 0


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
