"""The single-shot detector (Liu et al., 2016; section 5 of the paper) over any network of box encodings and logits.

Logits have a column for the background in front. SSD-VGG16 takes their softmax, as the original; the packaged
SSD-MobileNetV2 a sigmoid of each column, as the TensorFlow Object Detection API trained it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from triton_models.detectors.boxes import decode, encode, match
from triton_models.detectors.detector import Detector, Truth
from triton_models.detectors.sampling import SAMPLERS
from triton_models.detectors.spec import DetectorSpec
from triton_models.detectors.suppression import Found, suppress


class Ssd(Detector):
    """A network with its anchors.

    Args:
        spec: the detector.
        network: uint8 [N, S, S, 3] -> encodings [N, A, 4] and logits [N, A, 1 + C], background first.
        anchors: float32 [A, 4], centre y, centre x, height, width in 0..1.
        exclusive: classes exclude each other (softmax); else each is judged alone (sigmoid).
    """

    anchors: Tensor

    def __init__(self, spec: DetectorSpec, network: nn.Module, anchors: Tensor, *, exclusive: bool) -> None:
        super().__init__(spec)
        self.network = network
        self.exclusive = exclusive
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """All candidates: boxes [N, A, 4] as corners, not cut at the edges, and scores [N, C, A]."""
        encodings, logits = self.network(images)
        if self.exclusive:
            scores = torch.softmax(logits.float(), dim=2)[..., 1:]
        else:
            scores = torch.sigmoid(logits.float()[..., 1:])
        return decode(encodings.float(), self.anchors), scores.permute(0, 2, 1)

    def detect(self, images: Tensor) -> Found:
        boxes, scores = self(images)
        return suppress(boxes, scores, nms_iou=self.spec.nms_iou, floor=self.spec.score_floor)

    def losses(self, images: Tensor, truths: Sequence[Truth]) -> dict[str, Tensor]:
        """`class` and `box`: sums over the chosen anchors of all pictures, divided by the number of chosen anchors."""
        encodings, logits = self.network(images)
        chosen = torch.zeros(logits.shape[:2], dtype=torch.bool, device=logits.device)
        class_loss = logits.new_zeros(logits.shape[:2], dtype=torch.float32)
        box_loss = torch.zeros_like(class_loss)
        for row, truth in enumerate(truths):
            taken = match(truth.boxes, self.anchors, self.spec.match_iou)
            positive = taken >= 0
            class_loss[row] = self._class_losses(logits[row].float(), taken, truth.labels)
            goal = encode(truth.boxes[taken[positive]], self.anchors[positive])
            difference = functional.smooth_l1_loss(encodings[row][positive].float(), goal, reduction="none")
            box_loss[row, positive] = difference.sum(dim=1)
            whole = (class_loss[row] + box_loss[row]).detach()
            chosen[row] = SAMPLERS[self.spec.sampling](whole, positive, self.spec.hard_examples)
        count = chosen.sum().clamp(min=1)
        return {"class": class_loss[chosen].sum() / count, "box": box_loss[chosen].sum() / count}

    def _class_losses(self, logits: Tensor, taken: Tensor, labels: Tensor) -> Tensor:
        """[A]: cross-entropy of each anchor with its class, 0 being background."""
        classes = torch.zeros_like(taken)
        classes[taken >= 0] = labels[taken[taken >= 0]] + 1
        if self.exclusive:
            return functional.cross_entropy(logits, classes, reduction="none")
        wanted = functional.one_hot(classes, logits.shape[1]).to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(dim=1)
