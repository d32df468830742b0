"""The furniture builder on a few real models, rendered for real."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.ops.test_cli import dotstream
from triton_models.data.furniture import Built, FurnitureSettings, build
from triton_models.data.manifest import read_labelled
from triton_models.data.splits import split_objects

MODELS = (
    "BlendSwap-CC-0#handbag",
    "BlendSwap-CC-BY#backpack",
    "Scopia#chevrolet",
    "Scopia#islandBath",
    "Scopia#suv",
)
SETTINGS = FurnitureSettings(seed=3, views=2, scenes=(6, 1, 3), size=96, only=MODELS, jobs=2)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("data") / "furniture", SETTINGS)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_that_crashes_the_renderer_is_listed_and_the_rest_goes_on(built: Built) -> None:
    problems = [json.loads(line) for line in (built.folder / "problems.jsonl").read_text().splitlines()]
    assert [(one["path"], one["reason"]) for one in problems] == [
        ("Scopia#islandBath", "render_crashed"),
        ("detection/val", "no_models"),
    ]
    assert built.models == {"train": 2, "test": 2}


def test_no_model_is_on_two_sides(built: Built) -> None:
    seen: dict[str, set[str]] = {}
    for split in ("train", "test"):
        content = json.loads((built.folder / "detection" / split / "annotations.json").read_text())
        assert content["info"]["synthetic"] is True and "SYNTHETIC" in content["info"]["description"]
        seen[split] = {annotation["model"] for annotation in content["annotations"]}
    pictures, problems = read_labelled(built.folder / "retrieval")
    assert not problems and len(pictures) == 8 and all(picture.synthetic for picture in pictures)
    for picture in pictures:
        seen[picture.split].add(picture.object)
    assert seen["train"] and seen["test"] and not seen["train"] & seen["test"]


def test_annotations_are_coco_and_lie_inside_their_pictures(built: Built) -> None:
    folder = built.folder / "detection" / "train"
    content = json.loads((folder / "annotations.json").read_text())
    assert [category["name"] for category in content["categories"]] == ["Bag", "Car"]
    assert [category["supercategory"] for category in content["categories"]] == ["fashion", "vehicles"]
    images = {image["id"]: image for image in content["images"]}
    assert len(images) == 6 and content["annotations"]
    for image in images.values():
        with Image.open(folder / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
    for one in content["annotations"]:
        x, y, width, height = one["bbox"]
        image = images[one["image_id"]]
        assert x >= 0 and y >= 0 and x + width <= image["width"] and y + height <= image["height"]
        assert 0 < one["area"] <= width * height and one["category_id"] in {1, 2}


def test_views_are_cut_to_the_model(built: Built) -> None:
    views = sorted((built.folder / "cutouts").glob("*/*.png"))
    assert len(views) == 8
    for path in views:
        with Image.open(path) as picture:
            alpha = np.asarray(picture)[..., 3]
        assert alpha.max() == 255 and max(alpha.shape) > 40
        for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]):
            assert edge.any()


def test_the_same_seed_gives_the_same_bytes_and_what_is_rendered_stays(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = files(built.folder)
    again = build(tmp_path / "again", FurnitureSettings(**{**vars(SETTINGS), "jobs": 1}))
    assert files(again.folder) == first
    rendered: list[object] = []

    def crash(job: object) -> tuple[str, str]:
        rendered.append(job)
        return "render_crashed", "the renderer died by signal 11"

    monkeypatch.setattr("triton_models.data.views._run", crash)
    build(again.folder, SETTINGS)
    assert len(rendered) == 1, "only the model that failed is tried again"
    assert files(again.folder) == first


def test_splits_by_label() -> None:
    labels = {f"{label}{number}": label for label, count in (("a", 20), ("b", 2), ("c", 1)) for number in range(count)}
    sides = split_objects(labels, 0)
    count: Callable[[str, str], int] = lambda label, side: sum(  # noqa: E731
        sides[name] == side for name in labels if labels[name] == label
    )
    assert [count("a", side) for side in ("train", "val", "test")] == [12, 2, 6]
    assert [count("b", side) for side in ("train", "val", "test")] == [1, 0, 1]
    assert [count("c", side) for side in ("train", "val", "test")] == [1, 0, 0]
    assert split_objects({name: label for name, label in labels.items() if label == "a"}, 0).items() <= sides.items()
    assert split_objects(labels, 1) != sides


def test_the_command_refuses_held_out_models(tmp_path: Path) -> None:
    run = dotstream(
        "data", "prepare", "furniture", "--out", tmp_path / "out", "--model", "Scopia#sneakers", cwd=tmp_path
    )
    assert run.returncode == 1 and "held out" in run.stderr and not (tmp_path / "out").exists()
