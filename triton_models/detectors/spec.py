"""What a detector is: architecture, picture size, labels, and the choices that the paper compares (section 5).

A spec travels with every checkpoint and model card, so that a file alone tells which network it holds. Options that
change the network's shape make up its identity; the others (matching, sampling, proposals) may differ between training
and use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from dotstream.errors import Misconfigured

Architecture = Literal["ssd_mobilenet_v2", "ssd_vgg16", "faster_rcnn_vgg16", "faster_rcnn_resnet101"]
Sampling = Literal["ohem", "random", "hard_negatives"]

ARCHITECTURES: tuple[str, ...] = get_args(Architecture)
SAMPLINGS: tuple[str, ...] = get_args(Sampling)
DEFAULT_SIZE: Mapping[str, int] = {
    "ssd_mobilenet_v2": 300,
    "ssd_vgg16": 290,
    "faster_rcnn_vgg16": 512,
    "faster_rcnn_resnet101": 512,
}

_SSD = ("ssd_mobilenet_v2", "ssd_vgg16")
_REGIONS = ("faster_rcnn_vgg16", "faster_rcnn_resnet101")
_OF: Mapping[str, tuple[str, ...]] = {
    "extra_stride": ("ssd_vgg16",),
    "match_iou": _SSD,
    "sampling": _SSD,
    "hard_examples": _SSD,
    "proposals": _REGIONS,
    "objectness": _REGIONS,
}
"""Option -> the architectures that it means something to; the others mean something to all."""


class WrongCheckpoint(Misconfigured):
    """A file of weights that belongs to another network than the one that is to take them."""


@dataclass(frozen=True)
class DetectorSpec:
    """One detector.

    Attributes:
        architecture: one of ARCHITECTURES.
        labels: names of the classes, in the order of the network's outputs; at least one.
        size: side of the square picture that the network takes, in pixels; pictures are stretched to it. 0 stands for
            the architecture's own (DEFAULT_SIZE). ssd_mobilenet_v2 works at 300 only.
        extra_stride: of SSD-VGG16's additional layers: 1 as the paper, 2 as the original SSD.
        match_iou: SSD: least overlap at which an anchor learns an object: 0.7 as the paper, 0.5 as the original.
        sampling: SSD: which anchors learn. "ohem": those of largest loss, positive or negative (the paper's choice);
            "random": all positives and three times as many negatives drawn at random (as the paper reads the original);
            "hard_negatives": all positives and the three times as many negatives of largest loss (the original SSD).
        hard_examples: "ohem": anchors of each picture that learn.
        proposals: Faster R-CNN: regions that reach the second stage: 300, or 100 at the same quality (the paper).
        objectness: Faster R-CNN: regions below this first-stage score are dropped too (the paper's dynamic threshold);
            the best region of a picture always stays. 0 drops none.
        nms_iou: of two boxes of one class that overlap more, the better stays.
        score_floor: detections up to this score are not given.
    """

    architecture: str
    labels: tuple[str, ...]
    size: int = 0
    extra_stride: int = 1
    match_iou: float = 0.7
    sampling: str = "ohem"
    hard_examples: int = 128
    proposals: int = 300
    objectness: float = 0.0
    nms_iou: float = 0.5
    score_floor: float = 0.1

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise Misconfigured(f"no architecture {self.architecture!r}; there are {', '.join(ARCHITECTURES)}")
        if self.size == 0:
            object.__setattr__(self, "size", DEFAULT_SIZE[self.architecture])
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise Misconfigured("a detector needs labels, each of them once")
        if self.architecture == "ssd_mobilenet_v2" and self.size != DEFAULT_SIZE["ssd_mobilenet_v2"]:
            raise Misconfigured("ssd_mobilenet_v2 takes pictures of 300 pixels, its anchors fit no other size")
        if self.extra_stride not in (1, 2) or self.sampling not in SAMPLINGS:
            raise Misconfigured(f"extra_stride is 1 or 2, sampling one of {', '.join(SAMPLINGS)}")
        shares = (self.match_iou, self.objectness, self.nms_iou, self.score_floor)
        if not all(0 <= share < 1 for share in shares) or self.match_iou == 0:
            raise Misconfigured("match_iou, objectness, nms_iou and score_floor are shares below 1")
        if self.size < 64 or self.hard_examples < 1 or self.proposals < 1:
            raise Misconfigured("size must be at least 64, hard_examples and proposals at least 1")

    @property
    def identity(self) -> tuple[str, tuple[str, ...], int, int]:
        """What decides the network's shape and the meaning of its outputs."""
        stride = self.extra_stride if self.architecture == "ssd_vgg16" else 0
        return self.architecture, self.labels, self.size, stride

    def plain(self) -> dict[str, Any]:
        """As JSON and checkpoints hold it."""
        return {**asdict(self), "labels": list(self.labels)}

    def with_options(self, **options: Any) -> DetectorSpec:
        """The same network with other options; None keeps what there is.

        Raises:
            Misconfigured: an option that means nothing to the architecture, or a value that does not fit.
        """
        given = {name: value for name, value in options.items() if value is not None}
        require_meaning(self.architecture, given)
        return replace(self, **given)


def has_regions(architecture: str) -> bool:
    """Whether it proposes regions first: Faster R-CNN."""
    return architecture in _REGIONS


def require_meaning(architecture: str, options: Iterable[str]) -> None:
    """Options that a person gave must do something.

    Raises:
        Misconfigured: one means nothing to the architecture.
    """
    for name in options:
        if architecture not in _OF.get(name, (architecture,)):
            raise Misconfigured(f"{name} means nothing to {architecture}: it is an option of {', '.join(_OF[name])}")


def spec_of(values: Mapping[str, Any]) -> DetectorSpec:
    """The spec that `plain` wrote.

    Raises:
        Misconfigured: an unknown option, or a value that does not fit.
    """
    known = {field.name for field in fields(DetectorSpec)}
    if unknown := set(values) - known:
        raise Misconfigured(f"no detector option {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    try:
        return DetectorSpec(**{**values, "labels": tuple(values["labels"])})
    except (TypeError, KeyError) as error:
        raise Misconfigured(f"not the description of a detector: {error}") from error
