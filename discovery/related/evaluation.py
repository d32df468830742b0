"""How good a ranking would have been, by replay of logged answers (paper, section 6, Table 4). Offline, and said so.

Each logged answer is ranked again by a model. A user *sees* the first K pins of each ranking. Over the log's users:

    save propensity@K = users who saved at least one of the K / users who saw them
    engagement@K      = the same with a click, a long click or a save
    gain              = propensity of the model / propensity of the control - 1

The paper's figures are live A/B results; these are not. What was not shown in the log cannot be counted, and pins that
stood lower were looked at less: answers in random order give an unbiased replay, others flatter whatever ranked them.
Intervals are percentiles of a bootstrap over users, model and control drawn together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from discovery.related.examples import Example, Requests, scores
from discovery.related.model import CONTROL, LinearModel, Variant

SAVES = frozenset({"save"})
ENGAGED = frozenset({"click", "long_click", "save"})
Flags = npt.NDArray[np.float64]
Ranker = Callable[[Sequence[Example]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the 2.5 and 97.5 percentiles of its bootstrap."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One ranking against the control, over the users of a log or of one category of it.

    Attributes:
        users: who saw an answer.
        propensity, control: of the ranking and of the control.
        gain: of one over the other.
    """

    users: int
    propensity: float
    control: float
    gain: Interval


@dataclass(frozen=True, slots=True)
class Report:
    """What `evaluate` found: the whole log, and each category of queries."""

    saves: Measured
    engagement: Measured
    categories: Mapping[str, Measured]  # of saves


def ranker(model: LinearModel, variant: Variant) -> Ranker:
    """Scores of one answer's impressions."""
    return lambda seen: scores(model, seen, variant).tolist()


def evaluate(
    requests: Requests,
    ranking: Ranker,
    *,
    control: Ranker | None = None,
    k: int = 5,
    resamples: int = 1_000,
    seed: int = 0,
    users_min: int = 30,
) -> Report:
    """Replays the log under a ranking and under the control.

    Args:
        requests: answers, see `examples.by_request`.
        ranking: what is measured.
        control: what it is held against; None for co-occurrence alone.
        k: pins that a user sees.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        users_min: categories with fewer users are left out.
    """
    held = control or ranker(CONTROL, Variant.PLAIN)
    tops = {request_id: (_top(seen, ranking, k), _top(seen, held, k)) for request_id, seen in requests.items() if seen}
    draw = np.random.default_rng(seed)

    def measured(outcomes: frozenset[str], category: str | None = None) -> Measured:
        return _measured(requests, tops, outcomes, category, resamples=resamples, draw=draw)

    names = sorted({seen[0].category for seen in requests.values() if seen and seen[0].category})
    by_category = {name: measured(SAVES, name) for name in names}
    kept = {name: one for name, one in by_category.items() if one.users >= users_min}
    return Report(measured(SAVES), measured(ENGAGED), kept)


def _top(seen: Sequence[Example], ranking: Ranker, k: int) -> list[Example]:
    """The first k; ties by pin_id, so that nothing depends on the order of the log."""
    ranked = sorted(zip(ranking(seen), seen, strict=True), key=lambda pair: (-pair[0], pair[1].pin_id))
    return [one for _, one in ranked[:k]]


def _measured(
    requests: Requests,
    tops: Mapping[str, tuple[list[Example], list[Example]]],
    outcomes: frozenset[str],
    category: str | None,
    *,
    resamples: int,
    draw: np.random.Generator,
) -> Measured:
    did: dict[str, list[bool]] = {}
    for request_id, (ours, theirs) in tops.items():
        first = requests[request_id][0]
        if category is not None and first.category != category:
            continue
        user = did.setdefault(first.user_id or request_id, [False, False])
        user[0] |= any(outcomes & set(one.outcomes) for one in ours)
        user[1] |= any(outcomes & set(one.outcomes) for one in theirs)
    flags: Flags = np.array(list(did.values()), float).reshape(len(did), 2)
    mean = flags.mean(axis=0) if len(flags) else np.zeros(2)
    return Measured(len(flags), float(mean[0]), float(mean[1]), _gain(flags, resamples, draw))


def _gain(flags: Flags, resamples: int, draw: np.random.Generator) -> Interval:
    """Ours / theirs - 1 with its interval; not a number where the control has nothing."""
    if not len(flags) or not flags[:, 1].sum():
        return Interval(float("nan"), float("nan"), float("nan"))
    value = flags[:, 0].sum() / flags[:, 1].sum() - 1
    gains = []
    for _ in range(resamples):
        counts = np.bincount(draw.integers(0, len(flags), len(flags)), minlength=len(flags))
        ours, theirs = counts @ flags
        gains.append(ours / theirs - 1 if theirs else np.nan)
    low, high = np.nanpercentile(gains, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))
