"""Anchors, encodings, matching, sampling and suppression, each against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from triton_models.anchors import ssd_anchors
from triton_models.detectors.boxes import corners_of, decode, encode, match
from triton_models.detectors.metrics import overlap
from triton_models.detectors.sampling import SAMPLERS
from triton_models.detectors.suppression import MAX_DETECTIONS, suppress
from triton_models.detectors.vgg_ssd import default_boxes, grids

Floats = NDArray[np.float32]
SEEDS = st.integers(0, 2**32 - 1)


def random_boxes(random: np.random.Generator, count: int) -> torch.Tensor:
    low = random.uniform(0, 0.7, (count, 2))
    return torch.from_numpy(np.concatenate([low, low + random.uniform(0.05, 0.3, (count, 2))], axis=1)).float()


@given(SEEDS)
def test_a_box_comes_back_from_its_encoding(seed: int) -> None:
    random = np.random.default_rng(seed)
    anchors = torch.from_numpy(ssd_anchors())[random.integers(0, 1917, 20)]
    boxes = random_boxes(random, 20)
    torch.testing.assert_close(decode(encode(boxes, anchors)[None], anchors)[0], boxes, atol=1e-4, rtol=0)


@given(SEEDS, st.integers(0, 5), st.sampled_from((0.5, 0.7)))
def test_matching_is_that_of_a_plain_loop(seed: int, count: int, limit: float) -> None:
    random = np.random.default_rng(seed)
    anchors = torch.from_numpy(ssd_anchors())[random.choice(1917, 80, replace=False)].double()
    anchors *= torch.from_numpy(random.uniform(0.98, 1.02, (80, 4)))  # else many overlap a small box alike
    boxes = random_boxes(random, count).double()
    taken = match(boxes, anchors, limit).tolist()
    overlaps = overlap(boxes.numpy(), corners_of(anchors).numpy())
    forced: dict[int, int] = {}
    for row in sorted(range(count), key=lambda one: float(overlaps[one].max())):
        forced[int(overlaps[row].argmax())] = row
    for anchor in range(80):
        best = int(overlaps[:, anchor].argmax()) if count else -1
        wanted = best if count and overlaps[best, anchor] >= limit else -1
        near = count and abs(overlaps[best, anchor] - limit) < 1e-6  # float32 and float64 may disagree there
        assert near or taken[anchor] == forced.get(anchor, wanted)


def test_every_object_has_an_anchor_even_below_the_limit() -> None:
    anchors = torch.from_numpy(ssd_anchors())
    boxes = torch.tensor([[0.5, 0.5, 0.52, 0.52]])
    assert (match(boxes, anchors, 0.7) == 0).sum() == 1


def test_grids_and_anchor_counts_of_the_paper_and_the_original() -> None:
    assert grids(290, 1) == (36, 18, 18, 18, 16, 14)
    assert grids(290, 2) == (36, 18, 9, 5, 3, 1)
    assert len(default_boxes(290, 1)) == 12_824
    assert len(default_boxes(290, 2)) == 7_804


@pytest.mark.parametrize("positives", [0, 3])
def test_samplers_choose_what_they_say(positives: int) -> None:
    losses = torch.arange(40.0)
    positive = torch.zeros(40, dtype=torch.bool)
    positive[:positives] = True  # those of smallest loss
    ohem = SAMPLERS["ohem"](losses, positive, 10)
    assert torch.nonzero(ohem)[:, 0].tolist() == list(range(30, 40))
    hard = SAMPLERS["hard_negatives"](losses, positive, 10)
    count = 3 * max(positives, 1)
    assert torch.nonzero(hard)[:, 0].tolist() == [*range(positives), *range(40 - count, 40)]
    torch.manual_seed(0)
    drawn = SAMPLERS["random"](losses, positive, 10)
    assert drawn[:positives].all() and drawn.sum() == positives + count
    assert not torch.equal(drawn, SAMPLERS["random"](losses, positive, 10))


def greedy(boxes: Floats, scores: Floats, limit: float, floor: float) -> list[tuple[float, int, int]]:
    """(score, class, box) of what stays, best first."""
    kept = []
    for label, row in enumerate(scores):
        mine: list[int] = []
        for place in np.argsort(-row, kind="stable"):
            near = overlap(boxes[label][[place]], boxes[label][mine])
            if row[place] > floor and not (near > limit).any():
                mine.append(int(place))
        kept += [(float(row[place]), label, place) for place in mine]
    return sorted(kept, reverse=True)[:MAX_DETECTIONS]


@given(SEEDS, st.booleans())
def test_suppression_is_that_of_a_plain_loop(seed: int, of_class: bool) -> None:
    random = np.random.default_rng(seed)
    scores = torch.from_numpy(random.permutation(90).reshape(1, 3, 30) / 100).float()
    boxes = random_boxes(random, 90).reshape(1, 3, 30, 4)
    if not of_class:
        boxes = boxes[:, :1].expand(-1, 3, -1, -1)
    found = suppress(boxes if of_class else boxes[:, 0], scores, nms_iou=0.3, floor=0.2)
    wanted = greedy(boxes[0].numpy(), scores[0].numpy(), 0.3, 0.2)
    count = len(wanted)
    assert found.labels[0, :count].tolist() == [label for _, label, _ in wanted]
    np.testing.assert_allclose(found.scores[0, :count], [score for score, _, _ in wanted], rtol=1e-6)
    np.testing.assert_allclose(found.boxes[0, :count], [boxes[0, c, p].numpy() for _, c, p in wanted], rtol=1e-6)
    assert (
        (found.labels[0, count:] == -1).all() and not found.scores[0, count:].any() and not found.boxes[0, count:].any()
    )
