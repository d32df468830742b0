"""`dotstream bench detectors`: how long each detector takes for one picture on the device at hand.

Every architecture at its own size, in torch, from stretched pixels to detections, picture by picture; CPU time beside
it says what a busy machine hides. The weights of the large ones are RANDOM: the work of a picture does not depend on
them, except how many regions Faster R-CNN's first stage leaves, which is told. The limits are the paper's
figures (Table 3), which a GPU of 2012 took. The packaged light detector has its own weights.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from ops.bench._report import Figure, Report, machine
from ops.commands.options import say, settings_of

if TYPE_CHECKING:
    from triton_models.detectors.detector import Detector

ROUNDS = 5
CLASSES = 79
PAPER_MS = {"ssd_vgg16": 59.0, "faster_rcnn_resnet101, 100 regions": 272.0}


def main(*, as_json: bool) -> None:
    """Runs the benchmark and prints its report."""
    import torch

    from triton_models.training.loop import device_of

    device = device_of("auto").type
    name = torch.cuda.get_device_name() if device == "cuda" else "none used"
    weights = "RANDOM, except the packaged ssd_mobilenet_v2"
    report = Report(
        "detectors",
        {**machine(), "gpu": name, "threads": torch.get_num_threads(), "rounds": ROUNDS, "weights": weights},
    )
    for title, detector in _detectors():
        say(f"measuring {title}")
        p50, p99, cpu, regions = _measured(detector.to(device).eval(), device)
        report.figures[f"{title}, p50"] = Figure(p50, "ms", limit=PAPER_MS.get(title))
        report.figures[f"{title}, p99"] = Figure(p99, "ms")
        report.figures[f"{title}, CPU time"] = Figure(cpu, "ms")
        if regions is not None:
            report.figures[f"{title}, regions looked at"] = Figure(regions, "regions")
    report.show(as_json=as_json)


def _detectors() -> list[tuple[str, Detector]]:
    from triton_models.detectors.build import build
    from triton_models.detectors.packaged import packaged_detector
    from triton_models.detectors.spec import DetectorSpec
    from triton_models.fetch import fetch

    labels = tuple(f"class {number}" for number in range(CLASSES))
    specs = {
        "ssd_vgg16": DetectorSpec("ssd_vgg16", labels),
        "ssd_vgg16, extra layers of stride 2": DetectorSpec("ssd_vgg16", labels, extra_stride=2),
    }
    for base in ("vgg16", "resnet101"):
        for proposals in (300, 100):
            title = f"faster_rcnn_{base}, {proposals} regions"
            specs[title] = DetectorSpec(f"faster_rcnn_{base}", labels, proposals=proposals)
    packaged = packaged_detector(fetch(settings_of().settings.cache_folder, say).detector)
    return [
        ("ssd_mobilenet_v2", packaged),
        *((title, build(spec, "random", seed=0)[0]) for title, spec in specs.items()),
    ]


def _measured(detector: Detector, device: str) -> tuple[float, float, float, float | None]:
    import torch

    from triton_models.detectors.export import patterns
    from triton_models.detectors.faster_rcnn import FasterRcnn

    pictures = [torch.tensor(one[None], device=device) for one in patterns(detector.spec.size, 2)]
    times, regions, spent = [], [], 0.0
    with torch.inference_mode():
        for number in range(ROUNDS + 1):
            if number == 1:
                spent = time.process_time()
            begun = time.perf_counter()
            detector.detect(pictures[number % 2]).scores.cpu()
            times.append((time.perf_counter() - begun) * 1000)
        cpu = (time.process_time() - spent) * 1000 / ROUNDS
        if isinstance(detector, FasterRcnn):
            for one in pictures:
                _, boxes, objectness = detector.propose(one)
                regions.append(len(detector.choose(boxes[0], objectness[0])))
    p50, p99 = np.percentile(times[1:], (50, 99))
    return float(p50), float(p99), cpu, float(np.mean(regions)) if regions else None
