"""Rank-SVM finds the truth of a synthetic log, and orders pairs as people did."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from discovery.related.examples import Example, by_request, matrix
from discovery.related.synthetic import TRUTH, SyntheticSettings, synthetic_log, truth_of
from discovery.related.training import Trained, TrainingSettings, pair_differences, train
from dotstream.errors import Misconfigured


@cache
def log(queries: int, seed: int) -> Sequence[Example]:
    """A log in which pictures count the same with and without dominant objects, as in the model's own form."""
    return tuple(synthetic_log(SyntheticSettings(queries=queries, seed=seed, dominant_truth=1.0)))


def example(request_id: str, pin_id: str, outcomes: tuple[str, ...], **features: float) -> Example:
    return Example(request_id, "u", "q", pin_id, 0, 1, "", outcomes, features)


@cache
def trained() -> Trained:
    return train(by_request(log(600, 0)), TrainingSettings(pairs_max=20))


def test_the_trainer_recovers_the_known_truth() -> None:
    weights = trained().model.weights
    assert trained().model.trained["synthetic"] is True
    known = ("co_occurrence", "board_overlap", "category_overlap", "annotation_cosine")
    scale = sum(TRUTH[name] for name in known) / sum(weights[name] for name in known)
    for name in known:  # a ranking does not tell the scale of its weights, only their ratios
        assert weights[name] * scale == pytest.approx(TRUTH[name], rel=0.35), name
    assert abs(weights["visual"]) * scale > 1
    liked = [weights[name] for name in ("cross:art", "cross:tattoos", "cross:illustration")]
    assert min(liked) > max(weights[name] for name in ("cross:quotes", "cross:fitness"))
    assert all(weights[name] == 0 for name in ("visual_missing", "class", "class_missing"))


def test_on_a_fresh_log_its_scores_follow_the_true_utilities() -> None:
    names = tuple(trained().model.weights)
    answers = [matrix(seen, names) for seen in by_request(log(150, 1)).values()]
    alike = [np.corrcoef(trained().model.scores(rows, names), rows @ truth_of(names))[0, 1] for rows in answers]
    assert np.mean(alike) > 0.97


def test_pairs_are_of_one_answer_and_of_different_grades() -> None:
    seen = by_request(
        [
            example("r1", "a", ("closeup", "save"), visual=1.0),
            example("r1", "b", ("click",), visual=0.5),
            example("r1", "c", (), visual=0.25),
            example("r1", "d", (), visual=0.125),
            example("r2", "e", ("save",), visual=8.0),
        ]
    )
    differences, weights = pair_differences(seen, ("visual",), TrainingSettings())
    assert sorted(differences[:, 0].tolist()) == [0.25, 0.375, 0.5, 0.75, 0.875]
    assert weights.tolist() == [1.0] * 5
    drawn, _ = pair_differences(seen, ("visual",), TrainingSettings(pairs_max=2))
    assert len(drawn) == 2


def test_what_is_left_out_has_no_weight() -> None:
    trained = train(by_request(log(150, 1)), TrainingSettings(without=("visual", "cross:")))
    assert "visual" not in trained.model.weights
    assert trained.model.categories == ()
    assert set(TRUTH) & set(trained.model.weights)


def test_a_log_without_pairs_is_told() -> None:
    with pytest.raises(Misconfigured, match="different things"):
        train(by_request([example("r", "a", ("save",)), example("r", "b", ("save",))]))
