"""A SYNTHETIC log of Related Pins with a known truth. Nothing in it is of real people or real pins.

It exists to show that the trainer finds what there is to find, and to run the harness end to end. Pins are made up
(random codes, annotations and categories), their features are computed by the real code, and what people do follows a
linear utility with the weights of `TRUTH`, which is of the same form as the model:

    u(q, c)  = sum of weight * feature, visual weights `dominant_truth` times where the query holds a dominant object
    seen     = with probability 1 / sqrt(1 + position); answers are in random order
    save     = seen and u + Gumbel noise among the best of the answer; weaker acts below other thresholds

Every line says `"synthetic": true`, and so does every model trained on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from discovery.related.examples import Example
from discovery.related.features import THRESHOLD, Matrix, Pair, Side, category_vector, feature_names, feature_rows
from discovery.related.model import is_visual
from indexer.cooccurrence import Together

CATEGORIES = ("art", "design", "fitness", "home_decor", "illustration", "quotes", "tattoos", "travel")
TRUTH = {
    "co_occurrence": 1.2,
    "board_overlap": 1.5,
    "same_board": 0.4,
    "category_overlap": 0.8,
    "annotation_cosine": 1.6,
    "visual": 4.0,
    "cross:art": 4.0,
    "cross:tattoos": 3.5,
    "cross:illustration": 3.0,
    "cross:design": 2.0,
    "cross:quotes": -3.0,
    "cross:fitness": -3.5,
}
"""What the made-up people like; features that are not named weigh nothing. Crosses follow the paper's finding that
pictures matter in visual categories and not in those that rest on text."""
BITS = 256
WORDS = tuple(f"word{n}" for n in range(60))
IDF = {word: 0.5 + 2.5 * n / len(WORDS) for n, word in enumerate(WORDS)}


@dataclass(frozen=True, slots=True)
class SyntheticSettings:
    """How large the log is, and how much chance there is in it.

    `dominant_share`: of queries that hold a dominant object; `dominant_truth`: how many times visual weights count for
    the made-up people then. `noise`: scale of the Gumbel noise on utilities.
    """

    queries: int = 2_000
    candidates: int = 20
    users: int = 1_500
    noise: float = 0.7
    dominant_share: float = 0.4
    dominant_truth: float = 2.5
    seed: int = 0


def synthetic_log(settings: SyntheticSettings | None = None) -> Iterator[Example]:
    """The impressions of the log, answer by answer."""
    chosen = settings or SyntheticSettings()
    draw = np.random.default_rng(chosen.seed)
    for number in range(chosen.queries):
        yield from _answer(number, chosen, draw)


def utilities(rows: Matrix, names: Sequence[str], visual: float = 1.0) -> Matrix:
    """The truth's utilities of feature rows; visual weights count `visual` times."""
    weights = [TRUTH.get(name, 0.0) * (visual if is_visual(name) else 1.0) for name in names]
    found: Matrix = rows @ np.array(weights)
    return found


def _answer(number: int, chosen: SyntheticSettings, draw: np.random.Generator) -> Iterator[Example]:
    names = feature_names(CATEGORIES)
    query = _side(f"query-{number}", draw)
    pairs = [_candidate(f"pin-{number}-{n}", query, draw) for n in range(chosen.candidates)]
    rows = feature_rows(query, pairs, lambda _: IDF, CATEGORIES)
    dominant = draw.random() < chosen.dominant_share
    noise = chosen.noise * draw.gumbel(size=len(pairs))
    liked = utilities(rows, names, chosen.dominant_truth if dominant else 1.0) + noise
    position = draw.permutation(len(pairs))
    seen = draw.random(len(pairs)) < 1 / np.sqrt(1 + position)
    on_object = _on_object(query, pairs, draw) if dominant else None
    place = np.argsort(np.argsort(-liked))
    for n, pair in enumerate(pairs):
        yield Example(
            request_id=f"synthetic-{number}",
            user_id=f"user-{number % chosen.users}",
            query_pin_id=query.pin_id,
            pin_id=pair.side.pin_id,
            position=int(position[n]),
            event_time=1_700_000_000_000 + number,
            category=max(query.categories, key=lambda name: query.categories[name]),
            outcomes=_outcomes(int(place[n]), bool(seen[n])),
            features=dict(zip(names, rows[n].tolist(), strict=True)),
            on_object=None if on_object is None else dict(zip(names, on_object[n].tolist(), strict=True)),
            synthetic=True,
        )


def _outcomes(place: int, seen: bool) -> tuple[str, ...]:
    """What is done with the pin that is liked in this place, from 0."""
    if not seen or place > 5:
        return ()
    return ("closeup", "click", "long_click", "save")[: 4 - place // 2 if place else 4]


def _side(pin_id: str, draw: np.random.Generator) -> Side:
    names = draw.permutation(CATEGORIES).tolist()
    first, second = draw.uniform(0.3, 0.7), draw.uniform(0.1, 0.3)
    rest = (1 - first - second) / (len(names) - 2)  # each below the threshold, so that the vectors are sparse
    weights = dict(zip(names, (first, second, *[rest] * (len(names) - 2)), strict=True))
    words = frozenset(draw.choice(WORDS, 4, replace=False).tolist())
    board = f"board-{draw.integers(4)}"
    return Side(pin_id, board, category_vector(weights, THRESHOLD), words, draw.bytes(BITS // 8), {})


def _candidate(pin_id: str, query: Side, draw: np.random.Generator) -> Pair:
    """A pin that is somewhat like the query: in picture, words and boards, each by chance of its own."""
    other = _side(pin_id, draw)
    code = _flipped(query.code, draw.uniform(0.05, 0.5), draw)
    words = frozenset([*sorted(query.annotations)[: draw.integers(0, 4)], *sorted(other.annotations)[:2]])
    categories = query.categories if draw.random() < 0.5 else other.categories
    side = Side(pin_id, other.board_id, categories, words, code, {})
    return Pair(side, Together(pin_id, float(draw.exponential(2.0)), 1, float(draw.uniform(0, 1))))


def _on_object(query: Side, pairs: Sequence[Pair], draw: np.random.Generator) -> Matrix:
    """Features with the codes of an object that is a part of the picture: near its codes, not the same."""
    part = Side(
        query.pin_id,
        query.board_id,
        query.categories,
        query.annotations,
        _flipped(query.code, 0.15, draw),
        {},
    )
    return feature_rows(part, pairs, lambda _: IDF, CATEGORIES)


def _flipped(code: bytes, share: float, draw: np.random.Generator) -> bytes:
    bits = np.unpackbits(np.frombuffer(code, np.uint8))
    return np.packbits(bits ^ (draw.random(len(bits)) < share)).tobytes()


def truth_of(names: Sequence[str]) -> Matrix:
    """The true weights of these features, 0 for those that do not matter."""
    return np.array([TRUTH.get(name, 0.0) for name in names])
