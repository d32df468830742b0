"""The architectures: shapes, agreement with the packaged original, what their options change, and that all train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from dotstream.errors import Misconfigured, Unavailable
from tests.support.photographs import pictures
from triton_models.detectors import base_weights
from triton_models.detectors.build import build, empty
from triton_models.detectors.detector import Detector, Truth
from triton_models.detectors.faster_rcnn import FasterRcnn
from triton_models.detectors.packaged import packaged_detector, packaged_labels
from triton_models.detectors.spec import ARCHITECTURES, DetectorSpec, WrongCheckpoint, spec_of
from triton_models.fetch import Weights

LABELS = ("bag", "lamp")
SIDE = 96  # of tests: the architectures' own sizes take seconds a picture on a CPU
LARGE = tuple(name for name in ARCHITECTURES if name != "ssd_mobilenet_v2")


def spec(architecture: str, **options: object) -> DetectorSpec:
    size = 300 if architecture == "ssd_mobilenet_v2" else SIDE
    return spec_of({"architecture": architecture, "labels": LABELS, "size": size, **options})


def drawn(size: int) -> tuple[torch.Tensor, list[Truth]]:
    """Two pictures: one with a lamp, one with nothing."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
    lamp = Truth(torch.tensor([[0.2, 0.2, 0.7, 0.8]]), torch.tensor([1]))
    return images, [lamp, Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))]


def test_the_packaged_detector_in_torch_is_the_served_one(weights: Weights, exported_repository: Path) -> None:
    few = pictures(300)[:6]
    with torch.inference_mode():
        ours = packaged_detector(weights.detector).detect(torch.from_numpy(few))
    model = exported_repository / "ssd_mobilenet_v2" / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    boxes, labels, scores = session.run(["boxes", "labels", "scores"], {"image": few})
    np.testing.assert_array_equal(ours.labels, labels)
    assert np.abs(ours.boxes.numpy() - boxes).max() < 1 / 300
    assert np.abs(ours.scores.numpy() - scores).max() < 1e-4
    assert (labels >= 0).sum() > 10


def test_new_classes_start_from_the_packaged_ones_of_their_name(weights: Weights) -> None:
    labels = ("lamp", "chair")
    made, origin = build(DetectorSpec("ssd_mobilenet_v2", labels), "packaged", seed=0, tflite_file=weights.detector)
    few = torch.from_numpy(pictures(300)[:2])
    with torch.inference_mode():
        _, ours = made.eval()(few)
        _, theirs = packaged_detector(weights.detector)(few)
    torch.testing.assert_close(ours[:, 1], theirs[:, packaged_labels().index("Chair")])
    assert "objectron" in origin.text and not origin.is_random


@pytest.mark.parametrize("stride", [1, 2])
def test_the_paper_ssd_answers_at_290_pixels(stride: int) -> None:
    detector = empty(DetectorSpec("ssd_vgg16", LABELS, extra_stride=stride)).eval()
    with torch.inference_mode():
        boxes, scores = detector(torch.zeros((1, 290, 290, 3), dtype=torch.uint8))
    count = {1: 12_824, 2: 7_804}[stride]
    assert (boxes.shape, scores.shape) == ((1, count, 4), (1, 2, count))


@pytest.mark.parametrize("architecture", LARGE)
def test_every_large_architecture_trains_and_answers(architecture: str) -> None:
    """A few steps on one batch bring its loss down; the answers keep their form."""
    options = {"hard_examples": 64} if architecture.startswith("ssd") else {"proposals": 20}
    detector, origin = build(spec(architecture, **options), "random", seed=0)
    images, truths = drawn(SIDE)
    if isinstance(detector, FasterRcnn):
        detector.second.fg_bg_sampler.batch_size_per_image = 8  # regions that learn; 64 take long on a CPU
    before, after = steps_of(detector.train(), images, truths, count=3)
    assert after < before
    assert origin.text == "RANDOM WEIGHTS (seed 0)"
    with torch.inference_mode():
        found = detector.eval().detect(images)
    assert [part.shape for part in (found.boxes, found.labels, found.scores)] == [(2, 100, 4), (2, 100), (2, 100)]
    assert torch.isfinite(found.boxes).all() and (found.boxes >= 0).all() and (found.boxes <= 1).all()
    assert (found.scores.diff(dim=1) <= 0).all()


def steps_of(detector: Detector, images: torch.Tensor, truths: list[Truth], *, count: int) -> tuple[float, float]:
    """The loss at first and behind some steps."""
    learning = [value for value in detector.parameters() if value.requires_grad]
    optimizer = torch.optim.SGD(learning, 0.002, momentum=0.9)
    seen = []
    for _ in range(count):
        torch.manual_seed(0)  # dropout and sampling alike in each step
        total = torch.stack(list(detector.losses(images, truths).values())).sum()
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learning, 5.0)
        optimizer.step()
        seen.append(float(total.detach()))
    return seen[0], seen[-1]


def test_proposals_and_objectness_bound_what_the_second_stage_looks_at() -> None:
    detector = build(spec("faster_rcnn_resnet101", proposals=30), "random", seed=0)[0].eval()
    assert isinstance(detector, FasterRcnn)
    objectness = torch.linspace(1, 0.01, 100)[None]
    corners = torch.arange(100.0)[:, None] * torch.tensor([[9.0, 9.0, 9.0, 9.0]]) + torch.tensor([[0.0, 0.0, 5.0, 5.0]])
    assert len(detector.choose(corners, objectness[0])) == 30
    detector.spec = replace(detector.spec, proposals=10)
    assert detector.choose(corners, objectness[0]).tolist() == list(range(10))
    detector.spec = replace(detector.spec, objectness=0.5)
    images = torch.zeros((1, SIDE, SIDE, 3), dtype=torch.uint8)
    with torch.inference_mode():
        _, _, scores = detector.propose(images)
        assert (scores[scores > 0] >= 0.5).all() or (scores > 0).sum() == 1
        detector.spec = replace(detector.spec, objectness=0.999)
        _, _, scores = detector.propose(images)
    assert (scores > 0).sum() >= 1  # the best region of a picture always stays


def test_matching_and_sampling_are_options_of_the_loss(weights: Weights) -> None:
    images, truths = drawn(300)
    losses = {}
    for sampling in ("ohem", "random", "hard_negatives"):
        for limit in (0.5, 0.7):
            made, _ = build(
                spec("ssd_mobilenet_v2", sampling=sampling, match_iou=limit),
                "packaged",
                seed=0,
                tflite_file=weights.detector,
            )
            with torch.no_grad():
                parts = made.train().losses(images, truths)
            losses[sampling, limit] = float(parts["class"] + parts["box"])
    assert len(set(losses.values())) == 6


def test_base_weights_are_loaded_whole_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's content is handed over in memory: written and read, VGG16's 550 MB take longer than the test."""
    from torchvision.models import resnet101, vgg16

    torch.manual_seed(1)
    base = vgg16()
    path = tmp_path / "vgg16.pth"
    path.write_bytes(b"half a gigabyte")
    content: dict[str, object] = dict(base.state_dict())
    monkeypatch.setattr(base_weights, "read_state", lambda _: content)
    detector, origin = build(spec("ssd_vgg16"), str(path), seed=0)
    state = detector.state_dict()
    torch.testing.assert_close(state["network.lower.0.weight"], base.features[0].weight)
    torch.testing.assert_close(state["network.upper.5.weight"], base.features[28].weight)
    wanted = base.classifier[0].weight.detach().view(4096, 512, 7, 7)[::4, :, ::3, ::3]
    torch.testing.assert_close(state["network.upper.8.weight"], wanted)
    assert origin.text.startswith("file vgg16.pth sha256 ")
    fine_tuned = {f"body.{name}": value for name, value in content.items()}
    content = {"model": fine_tuned, "about": {"data": "pins", "base": "RANDOM, untrained (seed 0)"}}
    detector, origin = build(spec("ssd_vgg16"), str(path), seed=0)
    torch.testing.assert_close(detector.state_dict()["network.lower.0.weight"], base.features[0].weight)
    assert origin.text.endswith(", fine-tuned on pins from RANDOM, untrained (seed 0)")
    content = dict(base.state_dict())
    with pytest.raises(WrongCheckpoint, match="another shape"):
        build(spec("faster_rcnn_resnet101"), str(path), seed=0)
    content = dict(resnet101().state_dict())
    build(spec("faster_rcnn_resnet101"), str(path), seed=0)
    monkeypatch.undo()
    with pytest.raises(Misconfigured, match="cannot be read as weights"):
        build(spec("ssd_vgg16"), str(path), seed=0)


def test_unreachable_weights_are_an_error_and_never_random(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(Unavailable, match=r"no route to host.*bring the file"):
        build(spec("ssd_vgg16"), "torchvision", seed=0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"architecture": "yolo"}, "no architecture"),
        ({"labels": ()}, "needs labels"),
        ({"labels": ("a", "a")}, "each of them once"),
        ({"architecture": "ssd_mobilenet_v2", "size": 290}, "300 pixels"),
        ({"extra_stride": 3}, "extra_stride"),
        ({"sampling": "all"}, "sampling"),
        ({"match_iou": 0.0}, "shares"),
        ({"hard_examples": 0}, "at least 1"),
        ({"depth": 3}, "no detector option depth"),
    ],
)
def test_wrong_options_are_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        spec_of({"architecture": "ssd_vgg16", "labels": LABELS, **values})
    with pytest.raises(Misconfigured, match="begins with packaged or random"):
        build(spec("ssd_mobilenet_v2"), "torchvision", seed=0)


def test_options_that_mean_nothing_to_an_architecture_are_refused() -> None:
    with pytest.raises(Misconfigured, match=r"proposals means nothing to ssd_vgg16.*faster_rcnn_vgg16"):
        spec("ssd_vgg16").with_options(proposals=100)
    assert spec("ssd_vgg16").with_options(proposals=None, nms_iou=0.4).nms_iou == 0.4
    assert spec("faster_rcnn_vgg16").with_options(proposals=100).proposals == 100
