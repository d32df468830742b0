"""Faster R-CNN on VGG16 and ResNet101, trained end to end (section 5 of the paper; rows P17 and P18).

Built of torchvision's region proposal network and second stage. The trunk reads a picture once (VGG16 up to conv5_3,
ResNet101 up to its third stage, both at stride 16); the first stage proposes regions; the second looks at each region
through the rest of the network (fc6 and fc7, or the fourth stage). All four losses are minimised together.

At use the number of regions is bounded by `proposals` (300, or 100) and by `objectness`, below which a region is not
looked at: the paper's dynamic threshold. Both can be changed after training. Regions of all pictures of a batch go
through the second stage together, so that fewer regions cost less at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import resnet101, vgg16
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign, clip_boxes_to_image, nms

from triton_models.detectors.detector import Detector, Truth, planes_of
from triton_models.detectors.spec import DetectorSpec
from triton_models.detectors.suppression import Found, suppress
from triton_models.detectors.vgg_ssd import MEAN, SPREAD, rows_of

CANDIDATES = 1000  # best anchors of a picture before the first stage's suppression, at use
REGION_NMS_IOU = 0.7
STRIDE = 16
SAMPLING_RATIO = 2
ANCHOR_SIDES = (0.0625, 0.125, 0.25, 0.5, 0.8)  # of the picture's side
RATIOS = (0.5, 1.0, 2.0)
TRAIN_REGIONS = 64  # of each picture, that the second stage learns from
_LEAST = 1e-3


class FasterRcnn(Detector):
    """Trunk, region proposals and second stage.

    Args:
        spec: the detector.
        trunk: [N, 3, S, S] normalised -> [N, channels, S / 16, S / 16].
        channels: of the trunk's map.
        head: [M, channels, side, side] -> [M, width], one row for each region.
        side: cells of a region's map.
        width: of the head's result.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self, spec: DetectorSpec, trunk: nn.Module, channels: int, head: nn.Module, *, side: int, width: int
    ) -> None:
        super().__init__(spec)
        self.trunk = trunk
        anchors = AnchorGenerator((tuple(int(spec.size * share) for share in ANCHOR_SIDES),), (RATIOS,))
        self.rpn = RegionProposalNetwork(
            anchors,
            RPNHead(channels, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2 * CANDIDATES, "testing": CANDIDATES},
            post_nms_top_n={"training": CANDIDATES, "testing": spec.proposals},
            nms_thresh=REGION_NMS_IOU,
        )
        self.second = RoIHeads(
            MultiScaleRoIAlign(["map"], output_size=side, sampling_ratio=SAMPLING_RATIO),
            head,
            FastRCNNPredictor(width, 1 + len(spec.labels)),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=TRAIN_REGIONS,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=spec.score_floor,
            nms_thresh=spec.nms_iou,
            detections_per_img=100,
        )
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(SPREAD).view(1, 3, 1, 1), persistent=False)

    def losses(self, images: Tensor, truths: Sequence[Truth]) -> dict[str, Tensor]:
        """Objectness and box of the first stage, class and box of the second, as torchvision names them."""
        features = {"map": self._features(images)}
        shapes = self._shapes(len(images))
        # torchvision counts classes from 1 and boxes in pixels.
        targets = [{"boxes": truth.boxes * self.spec.size, "labels": truth.labels + 1} for truth in truths]
        regions, first = self.rpn(ImageList(images.permute(0, 3, 1, 2), shapes), features, targets)
        _, second = self.second(features, regions, shapes, targets)
        return {**first, **second}

    def detect(self, images: Tensor) -> Found:
        features, regions, objectness = self.propose(images)
        chosen = [self.choose(*row) for row in zip(regions, objectness, strict=True)]
        boxes, scores = self._judge(features, regions, chosen)
        return suppress(boxes, scores, nms_iou=self.spec.nms_iou, floor=self.spec.score_floor)

    def propose(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first stage.

        Returns:
            The trunk's map; the best candidates [N, P, 4] in pixels, inside the picture, best first, P at most 1,000;
            their objectness [N, P] in 0..1, 0 for those that must not be looked at.
        """
        features = self._features(images)
        objectness, deltas = self.rpn.head([features])
        # Every picture has the same anchors; those of one are enough, and the batch stays free for the export.
        one = ImageList(images[:1].permute(0, 3, 1, 2), self._shapes(1))
        anchors = self.rpn.anchor_generator(one, [features[:1]])[0]
        boxes = moved(anchors, rows_of(deltas[0].float(), 4), self.rpn.box_coder)
        scores = torch.sigmoid(rows_of(objectness[0].float(), 1)[..., 0])
        boxes = clip_boxes_to_image(boxes, self._shape)
        scores = scores * ((boxes[..., 2:] - boxes[..., :2]) >= _LEAST).all(dim=2)
        best, places = scores.topk(min(CANDIDATES, scores.shape[1]), dim=1)
        first = torch.arange(best.shape[1], device=best.device) == 0
        looked_at = torch.where((best >= self.spec.objectness) | first, best, torch.zeros_like(best))
        return features, boxes.gather(1, places[..., None].expand(-1, -1, 4)), looked_at

    def choose(self, regions: Tensor, objectness: Tensor) -> Tensor:
        """Of one picture's candidates [P, 4] and [P], the rows that the second stage looks at, best first."""
        rows = torch.nonzero(objectness > 0)[:, 0]
        return rows[nms(regions[rows], objectness[rows], REGION_NMS_IOU)[: self.spec.proposals]]

    def judge(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """The second stage: region maps [M, channels, side, side] -> class scores [M, C] and deltas [M, C, 4]."""
        logits, deltas = self.second.box_predictor(self.second.box_head(pooled))
        return torch.softmax(logits.float(), dim=1)[:, 1:], deltas.float().unflatten(1, (-1, 4))[:, 1:]

    def placed(self, regions: Tensor, deltas: Tensor) -> Tensor:
        """Boxes of every class [M, C, 4] in 0..1, of regions [M, 4] in pixels and their deltas [M, C, 4]."""
        return moved(regions[:, None], deltas, self.second.box_coder) / self.spec.size

    def _judge(self, features: Tensor, regions: Tensor, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes [N, C, P, 4] and scores [N, C, P] of all candidates; those that were not looked at score 0."""
        looked = [region[rows] for region, rows in zip(regions, chosen, strict=True)]
        pooled = self.second.box_roi_pool({"map": features}, looked, self._shapes(len(regions)))
        found, deltas = self.judge(pooled)
        pictures = torch.cat([torch.full_like(rows, number) for number, rows in enumerate(chosen)])
        places = (pictures, torch.cat(list(chosen)))
        scores = regions.new_zeros((*regions.shape[:2], found.shape[1])).index_put(places, found)
        boxes = regions.new_zeros((*scores.shape, 4)).index_put(places, self.placed(torch.cat(looked), deltas))
        return boxes.permute(0, 2, 1, 3), scores.permute(0, 2, 1)

    def _features(self, images: Tensor) -> Tensor:
        features: Tensor = self.trunk((planes_of(images) - self.mean) / self.spread)
        return features

    @property
    def _shape(self) -> tuple[int, int]:
        return self.spec.size, self.spec.size

    def _shapes(self, count: int) -> list[tuple[int, int]]:
        return [self._shape] * count


def moved(boxes: Tensor, deltas: Tensor, coder: BoxCoder) -> Tensor:
    """Corners [..., 4] moved and stretched by deltas (dx, dy, dw, dh) [..., 4], which `coder` scales."""
    x_scale, y_scale, w_scale, h_scale = coder.weights
    sides = boxes[..., 2:] - boxes[..., :2]
    centres = boxes[..., :2] + sides / 2
    shift = deltas[..., :2] / deltas.new_tensor([x_scale, y_scale])
    growth = (deltas[..., 2:] / deltas.new_tensor([w_scale, h_scale])).clamp(max=coder.bbox_xform_clip)
    middle, halves = shift * sides + centres, torch.exp(growth) * sides / 2
    return torch.cat([middle - halves, middle + halves], dim=-1)


class _TopHead(nn.Module):
    """The fourth stage of a ResNet over each region, averaged."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, pooled: Tensor) -> Tensor:
        result: Tensor = self.stage(pooled).mean(dim=(2, 3))
        return result


def vgg_faster_rcnn(spec: DetectorSpec) -> tuple[FasterRcnn, nn.Module]:
    """The detector with random weights, and the classifier that shares its layers (load base weights into that)."""
    base = vgg16()
    # conv1 and conv2 stay as they are, as in the original: their filters are general.
    for layer in list(base.features)[:10]:
        layer.requires_grad_(False)
    head = nn.Sequential(nn.Flatten(), *list(base.classifier)[:-1])
    return FasterRcnn(spec, base.features[:-1], 512, head, side=7, width=4096), base


def resnet_faster_rcnn(spec: DetectorSpec) -> tuple[FasterRcnn, nn.Module]:
    """As `vgg_faster_rcnn`. Batch normalisation is frozen: a detector's batches are too small to estimate it."""
    base = resnet101(norm_layer=FrozenBatchNorm2d)
    trunk = nn.Sequential(base.conv1, base.bn1, base.relu, base.maxpool, base.layer1, base.layer2, base.layer3)
    for layer in (base.conv1, base.layer1):
        layer.requires_grad_(False)
    return FasterRcnn(spec, trunk, 1024, _TopHead(base.layer4), side=14, width=2048), base
