"""`dotstream eval dots` and `dots calibrate`: scenes read and judged by hand, and both commands on real parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from consumers.dot_decider import DotDecider, DotSettings
from consumers.metrics import WorkerMetrics
from dotstream.errors import Misconfigured
from indexer.records_pb2 import DetectedObject
from ops.evals.dot_judge import judge_catalogue, judge_scenes
from ops.evals.scenes import read_scenes
from tests.consumers.dots_place import Place, record_of
from tests.ops.test_cli import dotstream
from tests.support.photographs import photographs

PIXELS = (100, 50)


def write_scenes(folder: Path, pictures: list[Path], objects: list[list[tuple[list[float], str]]]) -> Path:
    """A COCO set with split `test`, whose boxes are given in shares of the picture."""
    (folder / "test" / "images").mkdir(parents=True)
    names = sorted({label for each in objects for _, label in each})
    content = {
        "categories": [{"id": n, "name": name, "supercategory": "home"} for n, name in enumerate(names)],
        "images": [],
        "annotations": [],
    }
    wide, high = PIXELS
    for number, (picture, own) in enumerate(zip(pictures, objects, strict=True)):
        file = folder / "test" / "images" / f"{number:03}{picture.suffix}"
        file.write_bytes(picture.read_bytes())
        content["images"].append({"id": number, "file_name": file.name, "width": wide, "height": high})
        content["annotations"] += [
            {
                "image_id": number,
                "category_id": names.index(label),
                "bbox": [x0 * wide, y0 * high, (x1 - x0) * wide, (y1 - y0) * high],
            }
            for (x0, y0, x1, y1), label in own
        ]
    (folder / "test" / "annotations.json").write_text(json.dumps(content))
    return folder


def test_scenes_are_pins_with_the_names_of_what_is_in_them(tmp_path: Path) -> None:
    objects = [([0.0, 0.0, 0.5, 1.0], "Chair"), ([0.5, 0.5, 1.0, 1.0], "Lamp")]
    (scene,) = read_scenes(write_scenes(tmp_path, [photographs()[0]], [objects]), "test")
    event = scene.event("label")
    assert list(event.annotations) == ["Chair", "Lamp"]
    assert dict(event.category_weights) == {"Chair": pytest.approx(2 / 3), "Lamp": pytest.approx(1 / 3)}
    assert dict(scene.event("group").category_weights) == {"home": pytest.approx(1.0)}
    assert scene.shown((0.0, 0.0, 0.5, 0.9)) == scene.things[0]
    assert scene.shown((0.5, 0.0, 1.0, 0.4)) is None


def test_what_is_no_set_of_scenes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="labelled scenes"):
        read_scenes(tmp_path, "test")
    nothing = write_scenes(tmp_path / "nothing", [photographs()[0]], [[([0.2, 0.2, 0.2, 0.9], "Chair")]])
    with pytest.raises(Misconfigured, match="no picture with known things"):
        read_scenes(nothing, "test")
    twice = write_scenes(tmp_path / "twice", [photographs()[0]], [[([0.2, 0.2, 0.4, 0.9], "Chair")]])
    file = twice / "test" / "annotations.json"
    content = json.loads(file.read_text())
    content["images"].append({**content["images"][0], "id": 9, "file_name": "other/000.jpg"})
    content["annotations"].append({**content["annotations"][0], "image_id": 9})
    file.write_text(json.dumps(content))
    with pytest.raises(Misconfigured, match="same name"):
        read_scenes(twice, "test")


def test_a_detection_is_right_where_it_is_located_and_search_shows_the_same(tmp_path: Path) -> None:
    """Three near-copies of a chair and three of a lamp; one chair's box is where nothing is known."""
    chairs, lamps = [f"chair-{n}" for n in range(3)], [f"lamp-{n}" for n in range(3)]
    box = [0.2, 0.2, 0.6, 1.0]  # where record_of has its object
    objects = [[(box if name != "chair-2" else [0.8, 0.0, 1.0, 0.1], name.split("-")[0])] for name in (*chairs, *lamps)]
    scenes = read_scenes(write_scenes(tmp_path / "set", [photographs()[0]] * 6, objects), "test")
    place = Place(tmp_path / "g1")
    for number, scene in enumerate(scenes):
        place.log(record_of(scene.pin_id, seed=number // 3, flipped=number % 3, picture=f"picture-{number}"))
    metrics = WorkerMetrics("t", CollectorRegistry())
    decider = DotDecider(place.reader, DotSettings(neighbours=2), generation="g1", clock=place.clock, metrics=metrics)
    judged = {one.pin_id: one for one in judge_scenes(place.reader, decider, scenes)}
    assert [judged[scene.pin_id].located for scene in scenes] == [True, True, False, True, True, True]
    assert [judged[scene.pin_id].relevant for scene in scenes] == [0.5, 0.5, 0.0, 1.0, 1.0, 1.0]
    assert [judged[scene.pin_id].right for scene in scenes] == [False, False, False, True, True, True]
    by_annotation = judge_catalogue(place.reader, decider, 4)
    assert [(one.located, one.relevant) for one in by_annotation] == [(None, 1.0)] * 4
    place.reader.close()
    place.shard.close()


def test_thresholds_are_proposed_from_an_index_of_annotated_pins(tmp_path: Path) -> None:
    place = Place(tmp_path / "index" / "g1")
    for number in range(60):
        kind = number % 3
        place.log(record_of(f"pin-{number}", seed=kind, flipped=number // 3, annotations=[f"kind-{kind}"]))
    strange = record_of("odd", seed=99, annotations=["odd"])
    place.log(strange)
    place.reader.close()
    place.shard.close()
    settings = tmp_path / "one.toml"
    nowhere = tmp_path / "models that are served elsewhere"
    settings.write_text(f'[topics]\nrecord_partitions = 1\n[triton]\nrepository = "{nowhere}"\n')
    run = dotstream("dots", "calibrate", "--json", "--data", tmp_path, "--config", settings, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["proposals"]["visual"]["precision"] >= 0.9
    assert told["signals"]["similarity"]["right"][2] > told["signals"]["similarity"]["wrong"][2]
    shown = dotstream("dots", "calibrate", "--data", tmp_path, "--config", settings, cwd=tmp_path)
    assert 'preset = "visual"' in shown.stdout


@pytest.mark.timeout(400)
def test_the_evaluation_runs_scenes_through_real_parts_and_reports_by_the_contract(tmp_path: Path) -> None:
    pictures = list(photographs()[:16])
    whole = [[([0.1, 0.1, 0.9, 0.9], "thing")] for _ in pictures]
    data = write_scenes(tmp_path / "set", pictures, whole)
    plot = tmp_path / "curves.png"
    run = dotstream("eval", "dots", data, "--plot", plot, "--json", cwd=tmp_path, limit_s=300)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["name"] == "dots"
    assert told["conditions"]["pins not indexed"] == 0
    assert told["conditions"]["index"].startswith("16 pins")
    assert {"value", "unit"} <= set(told["figures"]["all: precision"])
    assert told["figures"]["none: shown"]["value"] >= told["figures"]["all: shown"]["value"]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_source_of_objects_matters_not(tmp_path: Path) -> None:
    """Objects from crops are judged as those of the detector are."""
    record = record_of("pin")
    record.objects[0].source = DetectedObject.SOURCE_CROPS
    place = Place(tmp_path / "g1")
    place.log(record)
    metrics = WorkerMetrics("t", CollectorRegistry())
    decider = DotDecider(place.reader, DotSettings(), generation="g1", clock=place.clock, metrics=metrics)
    (one,) = judge_catalogue(place.reader, decider, 10)
    assert (one.relevant, one.right) == (0.0, False)
    place.reader.close()
    place.shard.close()
