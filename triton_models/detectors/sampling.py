"""Which anchors of a single-shot detector learn in a step (section 5 of the paper; rows P20 and P22).

Nearly all of the thousands of anchors are background. The paper found that drawing positives and negatives at random
at 1:3 converges poorly on its set of 74,653 pictures, and took the anchors of largest loss whatever they are (online
hard example mining), which in turn over-fits on a smaller set. The original SSD keeps all positives and the negatives
of largest loss at 1:3; that is here too, since the paper's words name only the ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

NEGATIVES_PER_POSITIVE = 3

Sampler = Callable[[Tensor, Tensor, int], Tensor]


def online_hard_examples(losses: Tensor, positive: Tensor, count: int) -> Tensor:
    """The `count` anchors of largest loss, positive or negative.

    Args:
        losses: float32 [A], the whole loss of each anchor, detached.
        positive: bool [A].
        count: anchors to choose, at most A.

    Returns:
        bool [A].
    """
    chosen = torch.zeros_like(positive)
    chosen[losses.topk(min(count, len(losses))).indices] = True
    return chosen


def random_ratio(losses: Tensor, positive: Tensor, count: int) -> Tensor:  # noqa: ARG001  one signature for all
    """All positives and three times as many negatives at random (three where there is no positive)."""
    order = torch.rand(len(losses), device=losses.device)
    return _with_negatives(order, positive)


def hard_negatives(losses: Tensor, positive: Tensor, count: int) -> Tensor:  # noqa: ARG001  one signature for all
    """All positives and the three times as many negatives of largest loss, as the original SSD."""
    return _with_negatives(losses, positive)


def _with_negatives(order: Tensor, positive: Tensor) -> Tensor:
    wanted = NEGATIVES_PER_POSITIVE * max(int(positive.sum()), 1)
    negatives = order.masked_fill(positive, -torch.inf)
    chosen = positive.clone()
    chosen[negatives.topk(min(wanted, int((~positive).sum()))).indices] = True
    return chosen


SAMPLERS: Mapping[str, Sampler] = {
    "ohem": online_hard_examples,
    "random": random_ratio,
    "hard_negatives": hard_negatives,
}
