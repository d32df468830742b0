"""Detectors in the training loop: they learn, go on bit by bit, stop at a bad loss, and know their checkpoints."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from dotstream.errors import Misconfigured
from tests.support.scenes import NAMES, draw_scenes
from triton_models.detectors.base_weights import Provenance, random_weights
from triton_models.detectors.build import build
from triton_models.detectors.checkpoints import read_checkpoint
from triton_models.detectors.dataset import DetectionData
from triton_models.detectors.detector import Detector
from triton_models.detectors.metrics import OVERALL, matched, qualities
from triton_models.detectors.predict import TorchPredictor, answers_of
from triton_models.detectors.sources import open_data
from triton_models.detectors.spec import DetectorSpec, WrongCheckpoint
from triton_models.detectors.train import DetectorSettings, train
from triton_models.fetch import Weights
from triton_models.training.records import checkpoints_in
from triton_models.training.settings import LossNotFinite

RANDOM = random_weights(0)


def scenes(tmp_path: Path, count: int) -> DetectionData:
    draw_scenes(tmp_path, "train", count)
    return open_data(tmp_path, "train")


def light(weights: Weights, **options: Any) -> tuple[Detector, Provenance]:
    spec = DetectorSpec("ssd_mobilenet_v2", NAMES, match_iou=0.5, **options)
    return build(spec, "packaged", seed=0, tflite_file=weights.detector)


def settings(steps: int, **values: Any) -> DetectorSettings:
    return DetectorSettings(**{"steps": steps, "batch": 1, "warmup": 0, "threads": 1, "log_every": 1, **values})


def test_the_light_detector_overfits_a_handful_of_pictures(tmp_path: Path, weights: Weights) -> None:
    data = scenes(tmp_path, 3)
    detector, origin = light(weights)
    how = settings(14, batch=3, learning_rate=0.004, warmup=4, augment=False)
    path = train(detector, origin, data, how, tmp_path / "run")
    predictor = TorchPredictor(read_checkpoint(path))
    answers, unknown = answers_of(predictor, data.samples, data.labels)
    counts = matched(data.samples, [one.above(0.3) for one in answers], classes=2, iou=0.7)
    assert qualities(counts, data.labels)[OVERALL].recall.value == 1.0 and not unknown
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == list(range(1, 15))
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    assert "objectron" in predictor.weights


def test_a_training_that_was_cut_goes_on_bit_by_bit(tmp_path: Path, weights: Weights) -> None:
    """With random sampling and changes of the pictures, which both draw from the generators."""
    data = scenes(tmp_path, 3)
    how = settings(4, checkpoint_every=2)

    def run(folder: str, *, steps: int | None = None, resume: bool = False) -> Path:
        detector, origin = light(weights, sampling="random")
        if steps:  # killed behind its checkpoint of step 2, having logged more
            monkey = Cut(detector, steps)
            with pytest.raises(KeyboardInterrupt):
                train(monkey.detector, origin, data, how, tmp_path / folder)
            return tmp_path
        return train(detector, origin, data, how, tmp_path / folder, resume=resume)

    whole = read_checkpoint(run("whole"))
    run("cut", steps=3)
    assert [path.name for path in checkpoints_in(tmp_path / "cut")] == ["checkpoint-00000002.pt"]
    went_on = read_checkpoint(run("cut", resume=True))
    assert went_on.step == whole.step == 4
    for name, value in whole.values["model"].items():
        assert torch.equal(value, went_on.values["model"][name]), name
    logs = [list(csv.reader((tmp_path / folder / "log.csv").read_text().splitlines())) for folder in ("whole", "cut")]
    assert [row[:5] for row in logs[0]] == [row[:5] for row in logs[1]]


class Cut:
    """A detector whose process is interrupted in the step behind `steps`."""

    def __init__(self, detector: Detector, steps: int) -> None:
        self.detector = detector
        self._left = steps
        self._losses = detector.losses
        detector.losses = self._count  # type: ignore[method-assign, assignment]

    def _count(self, *parts: Any) -> dict[str, torch.Tensor]:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        return self._losses(*parts)


def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(tmp_path: Path) -> None:
    data = scenes(tmp_path, 2)
    spec = DetectorSpec("ssd_vgg16", NAMES, size=96)
    detector, _ = build(spec, "random", seed=0)
    good = train(detector, RANDOM, data, settings(1), tmp_path / "run")
    before = good.read_bytes()

    def spoilt(*_: object) -> dict[str, torch.Tensor]:
        return {"class": next(detector.parameters()).sum() * torch.nan}

    detector.losses = spoilt  # type: ignore[method-assign, assignment]
    said = r"loss of step 2 is nan: the last good checkpoint is .*checkpoint-00000001"
    with pytest.raises(LossNotFinite, match=said):
        train(detector, RANDOM, data, settings(3), tmp_path / "run", resume=True)
    assert checkpoints_in(tmp_path / "run") == [good] and good.read_bytes() == before
    assert all(torch.isfinite(value).all() for value in detector.parameters())


def test_a_checkpoint_of_another_detector_is_refused(tmp_path: Path) -> None:
    data = scenes(tmp_path, 1)
    detector, _ = build(DetectorSpec("ssd_vgg16", NAMES, size=96), "random", seed=0)
    path = train(detector, RANDOM, data, settings(1, augment=False), tmp_path / "run")
    other, _ = build(DetectorSpec("ssd_vgg16", NAMES, size=128), "random", seed=0)
    with pytest.raises(WrongCheckpoint, match=r"at 96 pixels.*this is ssd_vgg16 at 128"):
        train(other, RANDOM, data, settings(2), tmp_path / "run", resume=True)
    with pytest.raises(Misconfigured, match="go on with --resume"):
        train(detector, RANDOM, data, settings(2), tmp_path / "run")
    with pytest.raises(Misconfigured, match="no checkpoint to go on from"):
        train(detector, RANDOM, data, settings(2), tmp_path / "other", resume=True)
    values = torch.load(path, weights_only=True)
    for spoilt, said in (
        ({"format": "dotstream detector 9"}, "format dotstream detector 9"),
        ({"model": {}}, "does not hold the weights"),
    ):
        torch.save({**values, **spoilt}, tmp_path / "spoilt.pt")
        with pytest.raises(WrongCheckpoint, match=said):
            read_checkpoint(tmp_path / "spoilt.pt").detector()
    torch.save({"model": values["model"]}, tmp_path / "spoilt.pt")
    with pytest.raises(WrongCheckpoint, match="no checkpoint of"):
        read_checkpoint(tmp_path / "spoilt.pt")


@pytest.mark.parametrize("values", [{"steps": 0}, {"batch": 0}, {"learning_rate": -1.0}, {"device": "tpu"}])
def test_wrong_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        settings(**{"steps": 1, **values})
