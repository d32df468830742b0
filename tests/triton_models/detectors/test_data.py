"""Labels of both formats: what is read, and that what is wrong is listed with its reason while the rest goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dotstream.errors import Misconfigured
from tests.support.scenes import NAMES, draw_scenes
from triton_models.data.problems import counted
from triton_models.detectors.batches import Draws, batches
from triton_models.detectors.coco import read_coco
from triton_models.detectors.dataset import Sample
from triton_models.detectors.labels import LabelMap, read_label_map
from triton_models.detectors.sources import open_data
from triton_models.detectors.voc import read_voc

BOX = "<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>"
OBJECT = f"<object><name>{{name}}</name>{{more}}{BOX}</object>"


def test_coco_labels_are_read_with_their_groups(tmp_path: Path) -> None:
    draw_scenes(tmp_path, "train", 3)
    data = open_data(tmp_path, "train")
    assert data.labels == LabelMap({"fashion": ("disc",), "vehicles": ("square",)})
    assert (len(data.samples), data.objects, data.problems) == (3, 6, ())
    document = json.loads((tmp_path / "train" / "annotations.json").read_text())
    x, y, wide, tall = document["annotations"][1]["bbox"]
    assert data.samples[0].boxes[1].tolist() == [x, y, x + wide, y + tall]
    red = data.samples[0].pixels()[tuple(int(v) for v in data.samples[0].boxes[0].reshape(2, 2).mean(axis=0))[::-1]]
    assert data.samples[0].labels.tolist() == [0, 1] and tuple(red) == (230, 40, 40)


def broken(tmp_path: Path) -> Path:
    """A set of six good pictures, of which four and many labels are then spoilt."""
    path = draw_scenes(tmp_path, "train", 6)
    document = json.loads(path.read_text())
    images, rows = document["images"], document["annotations"]
    (path.parent / images[0]["file_name"]).unlink()
    (path.parent / images[1]["file_name"]).write_bytes(b"no picture")
    whole = (path.parent / images[2]["file_name"]).read_bytes()
    (path.parent / images[2]["file_name"]).write_bytes(whole[: len(whole) // 2])
    images[3]["width"] = 999
    fourth = [row for row in rows if row["image_id"] == 4]
    fourth[0]["bbox"] = [10, 10, 0, 20]
    fourth[1]["bbox"] = [150, 100, 60, 60]  # reaches beyond 160 x 120
    extra: dict[str, dict[str, object]] = {
        "outside_box": {"bbox": [500, 500, 10, 10]},
        "unknown_class": {"bbox": [1, 1, 9, 9], "category_id": 2},
        "unlisted_class": {"bbox": [1, 1, 9, 9], "category_id": 99},
        "label_corrupt": {"bbox": "none"},
        "bad_box": {"bbox": [1, 1, float("nan"), 9]},
    }
    rows += [{"id": key, "image_id": 5, "category_id": 0, **values} for key, values in extra.items()]
    rows.append({"id": 77, "image_id": 4711, "category_id": 0, "bbox": [1, 1, 5, 5]})
    document["categories"].append({"id": 2, "name": "hexagon"})
    path.write_text(json.dumps(document))
    return path


def test_what_is_wrong_is_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = broken(tmp_path)
    data = open_data(path, "", labels=LabelMap({"all": NAMES}))
    assert [sample.key for sample in data.samples] == ["4", "5"]
    assert counted(data.problems) == {
        "bad_box": 1,
        "cut_box": 1,
        "empty_box": 1,
        "label_corrupt": 1,
        "outside_box": 1,
        "picture_format": 1,
        "picture_missing": 2,
        "picture_truncated": 1,
        "unknown_class": 2,
        "wrong_size": 1,
    }
    assert data.samples[0].boxes.tolist() == [[150, 100, 160, 120]]
    assert {problem.path for problem in data.problems if problem.reason == "picture_format"} == {
        str(path.parent / "images" / "1.png")
    }
    assert len(data.samples[1].labels) == 2


def voc_set(folder: Path) -> Path:
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for key in ("one", "two", "three"):
        Image.new("RGB", (100, 80), (9, 9, 9)).save(folder / "JPEGImages" / f"{key}.jpg")
    one = OBJECT.format(1, 1, 10, 20, name="sofa", more="<difficult>0</difficult>")
    hard = OBJECT.format(11, 11, 90, 70, name="car", more="<difficult>1</difficult>")
    head = "<annotation><size><width>100</width><height>80</height></size>"
    (folder / "Annotations" / "one.xml").write_text(f"{head}{one}{hard}</annotation>")
    (folder / "Annotations" / "two.xml").write_text("<annotation><size>")
    (folder / "Annotations" / "three.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>')
    (folder / "ImageSets" / "Main" / "val.txt").write_text("one\ntwo\nthree\nfour\n")
    return folder


def test_pascal_voc_labels_are_read(tmp_path: Path) -> None:
    data = open_data(voc_set(tmp_path), "val")
    assert data.labels.names == ("car", "sofa")
    (sample,) = data.samples
    assert sample.boxes.tolist() == [[0, 0, 10, 20], [10, 10, 90, 70]]
    assert (sample.labels.tolist(), sample.crowd.tolist()) == ([1, 0], [False, True])
    assert counted(data.problems) == {"label_corrupt": 2, "label_missing": 1}
    with pytest.raises(Misconfigured, match="no split 'test'"):
        read_voc(tmp_path, "test")


@pytest.mark.parametrize("text", ["", "[]", '{"images": []}', '{"images": [1], "annotations": [], "categories": []}'])
def test_a_file_that_is_no_coco_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(Misconfigured, match="COCO"):
        read_coco(tmp_path / "labels.json")


def test_a_set_of_which_nothing_can_be_used_is_refused(tmp_path: Path) -> None:
    path = draw_scenes(tmp_path, "train", 1)
    (path.parent / "images" / "0.png").unlink()
    with pytest.raises(Misconfigured, match="picture_missing 1"):
        open_data(path, "")
    with pytest.raises(Misconfigured, match="no detection data"):
        open_data(tmp_path, "elsewhere")


def test_label_maps(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text('[groups]\n"home decor" = ["Chair", "Table"]\nfashion = ["Boot"]\n[aliases]\nDesk = "Table"\n')
    labels = read_label_map(path)
    assert labels.names == ("Chair", "Table", "Boot")
    assert (labels.meant("Desk"), labels.group_of("Boot"), labels.group_of("Moon")) == ("Table", "fashion", "other")
    for wrong in (
        "",
        "[groups]\na = 1",
        '[groups]\na = ["b", "b"]',
        '[groups]\na = ["b"]\n[aliases]\nc = "d"',
        "x = 1",
    ):
        path.write_text(wrong)
        with pytest.raises(Misconfigured):
            read_label_map(path)


def samples(tmp_path: Path, count: int) -> tuple[Sample, ...]:
    draw_scenes(tmp_path, "train", count)
    return open_data(tmp_path, "train").samples


def test_every_epoch_draws_every_picture_once_in_another_order(tmp_path: Path) -> None:
    draws = Draws(samples(tmp_path, 7), 64, seed=3, augment=False)
    epochs = [[draws.chosen(draw) for draw in range(start, start + 7)] for start in (0, 7)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 2 and epochs[0] != epochs[1]


def test_a_step_gets_the_same_batch_whoever_loads_it(tmp_path: Path) -> None:
    draws = Draws(samples(tmp_path, 4), 64, seed=1, augment=True)
    here = list(batches(draws, first=0, steps=3, batch=3, workers=0))
    late = list(batches(draws, first=2, steps=3, batch=3, workers=1))
    assert len(here) == 3 and here[0].images.shape == (3, 64, 64, 3)
    np.testing.assert_array_equal(here[2].images, late[0].images)
    for ours, theirs in zip(here[2].truths, late[0].truths, strict=True):
        np.testing.assert_array_equal(ours.boxes, theirs.boxes)


def test_changes_keep_boxes_on_their_objects(tmp_path: Path) -> None:
    """Discs and squares are coloured and the ground is grey: the middle of each moved box must be coloured."""
    draws = Draws(samples(tmp_path, 4), 200, seed=5, augment=True)
    checked = 0
    for draw in range(40):
        image, truth = draws[draw]
        for box in truth.boxes:
            if (box[2:] - box[:2]).min() < 0.1 or box.min() < 0.02 or box.max() > 0.98:
                continue  # cut by the crop: its middle may be a corner of the disc
            x, y = ((box[:2] + box[2:]) * 100).int().tolist()
            pixel = image[y, x].int()
            assert pixel.max() - pixel.min() > 60
            checked += 1
    assert checked > 20
