"""Detectors as evaluation asks them: a checkpoint in torch or a served file in ONNX Runtime, behind one face."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dotstream.errors import Misconfigured
from triton_models.cards import MODEL_FILE, read_card
from triton_models.client import read_labels
from triton_models.detectors.checkpoints import Checkpoint, label_of
from triton_models.detectors.dataset import Sample
from triton_models.detectors.labels import LabelMap
from triton_models.detectors.metrics import Answer
from triton_models.detectors.reach import anchors_of
from triton_models.detectors.spec import has_regions
from triton_models.pixels import resize
from triton_models.training.loop import device_of

Images = NDArray[np.uint8]
Raw = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]
WARM_UP = 3


class Predictor(Protocol):
    """A detector: uint8 [n, size, size, 3] to boxes [n, k, 4] in 0..1, labels (-1: padding) and scores [n, k]."""

    name: str
    weights: str
    device: str
    labels: Sequence[str]
    size: int
    anchors: NDArray[np.float32] | None
    """An SSD's, float32 [A, 4], x0, y0, x1, y1 as shares of the picture; None where they are not known."""

    def detect(self, images: Images) -> Raw: ...


class TorchPredictor:
    """A checkpoint's detector.

    Args:
        checkpoint: that was read.
        device: "auto", "cpu" or "cuda".
        options: of use, over those of its training (spec.py); None keeps one.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, device: str = "auto", options: Mapping[str, Any] | None = None
    ) -> None:
        self.device = device_of(device).type
        self._detector = checkpoint.detector(**(options or {})).to(self.device)
        spec = self._detector.spec
        self.name = label_of(checkpoint.path)
        if has_regions(spec.architecture):
            self.name += f", {spec.proposals} regions" + (f" of {spec.objectness:g}" if spec.objectness else "")
        self.weights = (
            f"{spec.architecture}, {checkpoint.step} steps on {checkpoint.data} from {checkpoint.origin.text}"
        )
        self.labels: Sequence[str] = spec.labels
        self.size = spec.size
        self.anchors = anchors_of(self._detector)

    def detect(self, images: Images) -> Raw:
        with torch.inference_mode():
            found = self._detector.detect(torch.tensor(images, device=self.device))
        return found.boxes.cpu().numpy(), found.labels.cpu().numpy(), found.scores.cpu().numpy()


class ServedPredictor:
    """A model of a model repository, its ONNX file run here by ONNX Runtime on the CPU.

    Args:
        repository: model repository.
        name: of the model.
        version: of it.
        threads: of ONNX Runtime; 0 leaves them to it.

    Raises:
        Misconfigured: there is no such model, or it is not the file of its card.
    """

    device = "cpu"
    anchors: NDArray[np.float32] | None = None

    def __init__(self, repository: Path, name: str, version: int = 1, *, threads: int = 0) -> None:
        try:
            import onnxruntime  # noqa: PLC0415 - of the optional group that has the ONNX tools
        except ModuleNotFoundError as error:
            raise Misconfigured("running a served model here needs onnxruntime: uv sync --group models") from error
        card = read_card(repository, name, version)
        self.name, self.weights = card.label, f"{card.source}, sha256 {card.sha256[:16]}"
        self.labels: Sequence[str] = read_labels(repository / name / "labels.txt")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            repository / name / str(version) / MODEL_FILE, options, providers=["CPUExecutionProvider"]
        )
        (picture,) = self._session.get_inputs()
        if len(picture.shape) != 4 or not isinstance(picture.shape[1], int):
            raise Misconfigured(f"{card.label} takes {picture.shape}, not pictures: it is no detector")
        self.size = picture.shape[1]

    def detect(self, images: Images) -> Raw:
        boxes, labels, scores = self._session.run(["boxes", "labels", "scores"], {"image": images})
        return boxes, labels.astype(np.int64), scores


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one picture, alone, from the stretched pixels to its detections."""

    p50: float
    p99: float
    rounds: int


def answers_of(
    predictor: Predictor, samples: Sequence[Sample], labels: LabelMap, progress: Callable[[str], None] = lambda _: None
) -> tuple[list[Answer], list[str]]:
    """What a detector says about each picture, in the data's classes and pixels.

    Returns:
        One answer for each sample; and the detector's classes that the label map knows neither by name nor by alias
        (names that differ in case only are the same), whose detections are left out.
    """
    by_name = {name.lower(): place for place, name in enumerate(labels.names)}
    places = np.array([by_name.get(labels.meant(name).lower(), -1) for name in predictor.labels] + [-1])
    answers: list[Answer] = []
    for number, sample in enumerate(samples, 1):
        boxes, said, scores = (part[0] for part in predictor.detect(resize(sample.pixels(), predictor.size)[None]))
        known = places[said] >= 0
        scale = np.array([sample.width, sample.height] * 2, np.float32)
        answers.append(Answer(boxes[known] * scale, places[said][known], scores[known]))
        if number % 100 == 0:
            progress(f"{predictor.name}: {number} of {len(samples)} pictures")
    return answers, [name for name, place in zip(predictor.labels, places[:-1], strict=True) if place < 0]


def latency(predictor: Predictor, samples: Sequence[Sample], rounds: int) -> Latency:
    """Measures single pictures, one after the other, after a few that do not count."""
    pictures = [resize(sample.pixels(), predictor.size)[None] for sample in samples[: max(1, min(len(samples), 16))]]
    for number in range(WARM_UP):
        predictor.detect(pictures[number % len(pictures)])
    times = []
    for number in range(rounds):
        begun = time.perf_counter()
        predictor.detect(pictures[number % len(pictures)])  # its answer is on the host: nothing is left running
        times.append((time.perf_counter() - begun) * 1000)
    p50, p99 = np.percentile(times, (50, 99))
    return Latency(float(p50), float(p99), rounds)
