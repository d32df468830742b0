"""Exports answer as torch does, for any batch; what differs is refused; what is written is complete and served."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from dotstream.errors import Misconfigured
from tests.support.scenes import NAMES, draw_scenes
from tests.support.triton import StartTriton
from triton_models.cards import read_card
from triton_models.client import TritonClient
from triton_models.detectors import publish as publishing
from triton_models.detectors.base_weights import random_weights
from triton_models.detectors.build import build
from triton_models.detectors.checkpoints import Checkpoint, read_checkpoint
from triton_models.detectors.export import Agreement, ExportDiffers, agreement, patterns, to_onnx
from triton_models.detectors.faster_rcnn import FasterRcnn
from triton_models.detectors.predict import ServedPredictor
from triton_models.detectors.publish import Publication, publish
from triton_models.detectors.sources import open_data
from triton_models.detectors.spec import DetectorSpec
from triton_models.detectors.train import DetectorSettings, train

SIDE = 96


def small_faster_rcnn(**options: object) -> FasterRcnn:
    """All stages over a trunk of four convolutions, since a VGG16 takes a minute to export."""
    torch.manual_seed(3)
    widths = (3, 8, 8, 8, 8)
    trunk = nn.Sequential(*(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)))
    head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 49, 16), nn.ReLU())
    spec = DetectorSpec("faster_rcnn_vgg16", ("a", "b", "c"), size=SIDE).with_options(**options)
    detector = FasterRcnn(spec, trunk, 8, head, side=7, width=16).eval()
    for layer in (detector.rpn.head.cls_logits, detector.rpn.head.bbox_pred, *detector.second.box_predictor.children()):
        nn.init.normal_(layer.weight, std=0.3)  # else all regions score the same
    return detector


@pytest.mark.parametrize("options", [{}, {"proposals": 7, "objectness": 0.6}])
def test_faster_rcnn_exports_with_its_bounds(options: dict[str, float]) -> None:
    found = agreement(small_faster_rcnn(**options), patterns(SIDE))
    assert found.matched == 1.0 and found.compared >= 10
    assert found.pixels < 0.01


def test_the_paper_ssd_exports() -> None:
    detector, _ = build(DetectorSpec("ssd_vgg16", ("a", "b"), size=SIDE), "random", seed=0)
    found = agreement(detector.eval(), patterns(SIDE))
    assert found.matched == 1.0 and found.compared > 350
    assert found.pixels < 0.01


def test_a_picture_is_seen_alike_alone_and_in_a_batch() -> None:
    detector = small_faster_rcnn()
    session = onnxruntime.InferenceSession(to_onnx(detector, "small"), providers=["CPUExecutionProvider"])
    batch = patterns(SIDE, 3)
    together = session.run(["labels", "boxes", "scores"], {"image": batch})
    for row in range(3):
        alone = session.run(["labels", "boxes", "scores"], {"image": batch[row : row + 1]})
        np.testing.assert_array_equal(alone[0][0], together[0][row])
        for ours, theirs in zip(alone[1:], together[1:], strict=True):
            np.testing.assert_allclose(ours[0], theirs[row], atol=1e-5)


def test_an_export_of_other_weights_is_seen_to_differ() -> None:
    detector = small_faster_rcnn()
    spec = detector.spec
    detector.spec = replace(spec, score_floor=0.0)
    data = to_onnx(detector, "small")
    detector.spec = spec
    assert agreement(detector, patterns(SIDE), data).matched == 1.0
    with torch.no_grad():
        detector.second.box_predictor.bbox_pred.bias += 1.0  # boxes move by a tenth of their side
    found = agreement(detector, patterns(SIDE), data)
    with pytest.raises(ExportDiffers, match="not written"):
        found.require("small")


@pytest.fixture
def trained(tmp_path: Path) -> Checkpoint:
    draw_scenes(tmp_path, "train", 2)
    data = open_data(tmp_path, "train")
    detector, _ = build(DetectorSpec("ssd_vgg16", NAMES, size=SIDE), "random", seed=0)
    settings = DetectorSettings(steps=1, batch=1, augment=False)
    return read_checkpoint(train(detector, random_weights(0), data, settings, tmp_path / "run"))


ABOUT = Publication("shapes", "CC0-1.0", {"AP": 0.25})


def test_a_published_detector_is_complete_and_served(
    trained: Checkpoint, copied_repository: Path, own_triton: StartTriton
) -> None:
    detector = trained.detector(score_floor=0.001)
    repository = copied_repository
    card = publish(trained, detector, repository, ABOUT)
    assert read_card(repository, "shapes") == card
    assert card.data == trained.data and card.metrics == {"AP": 0.25} and card.licence == "CC0-1.0"
    assert "RANDOM WEIGHTS" in card.source and "steps 1" in card.run
    images = patterns(SIDE, 3)
    boxes, labels, scores = ServedPredictor(repository, "shapes").detect(images)
    with torch.inference_mode():
        found = detector.detect(torch.from_numpy(images))
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    server = own_triton(repository)
    with TritonClient(server.address, labels=repository / "shapes" / "labels.txt", detector="shapes") as client:
        served = client.detect(images)
    assert [len(one.labels) for one in served] == (labels >= 0).sum(axis=1).tolist()
    np.testing.assert_allclose(served[0].boxes, boxes[0, : len(served[0].boxes)], atol=1e-5)


def test_a_name_keeps_its_labels_and_tensors(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and versions only, so that nothing is really exported."""
    monkeypatch.setattr(publishing, "agreement", lambda *_: Agreement(100, 1.0, 0.0, 0.0))
    monkeypatch.setattr(publishing, "to_onnx", lambda *_: b"a graph")
    repository = tmp_path / "repository"
    assert [publish(trained, trained.detector(), repository, ABOUT).version for _ in range(2)] == [1, 2]
    for file, old, new in (("labels.txt", NAMES[0], "other"), ("config.pbtxt", f"{SIDE}, {SIDE}, 3", "300, 300, 3")):
        before = (repository / "shapes" / file).read_text()
        (repository / "shapes" / file).write_text(before.replace(old, new))
        with pytest.raises(Misconfigured, match="another name"):
            publish(trained, trained.detector(), repository, ABOUT)
        (repository / "shapes" / file).write_text(before)


def test_what_differs_is_not_written(trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "agreement", lambda *_: Agreement(100, 0.98, 0.5, 0.001))
    with pytest.raises(ExportDiffers, match="98"):
        publish(trained, trained.detector(), tmp_path / "repository", ABOUT)
    assert not (tmp_path / "repository").exists()
