"""The linear model that re-ranks Related Pins, its file, and the paper's variants (section 6, Table 4).

A candidate's score is the sum of weight * feature. The model file is JSON:

    {"format": "dotstream-related", "version": 1, "category_threshold": 0.1,
     "features": {"co_occurrence": 0.81, "visual": 1.2, "cross:art": 0.4, …},
     "trained": {…}}

`features` names those of features.py; one that is left out weighs 0. `trained` tells where the weights come from: when,
on how many examples and pairs, and `"synthetic": true` where the log was made up.

Variants, when the query holds a dominant object (dominant.py); without one all of them are the same:

    plain  nothing changes
    A      the query's visual features are those of the object
    B      as A, and the visual weights count five times
    C      the visual features of the whole picture, and the visual weights count five times

The visual weights are those of `visual`, `class` and the cross features. C won in the paper and is the default.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from discovery.related.features import BASE, CROSS, MAX_CATEGORIES, THRESHOLD, Matrix, feature_names
from dotstream.errors import Misconfigured

FORMAT = "dotstream-related"
VERSION = 1
BOOST = 5.0


class Variant(str, Enum):  # noqa: UP042  typer and the API show the values of a str enumeration
    """What a dominant object of the query changes."""

    PLAIN = "plain"
    A = "A"
    B = "B"
    C = "C"

    @property
    def on_object(self) -> bool:
        """Whether the query's visual features are those of its dominant object."""
        return self in (Variant.A, Variant.B)

    @property
    def boosted(self) -> bool:
        """Whether visual weights count five times."""
        return self in (Variant.B, Variant.C)


@dataclass(frozen=True)
class LinearModel:
    """Weights by feature name.

    Attributes:
        weights: feature -> weight.
        threshold: of category vectors.
        trained: where the weights come from.
    """

    weights: Mapping[str, float]
    threshold: float = THRESHOLD
    trained: Mapping[str, Any] = field(default_factory=dict)

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories that have a cross feature."""
        return tuple(name.removeprefix(CROSS) for name in self.weights if name.startswith(CROSS))

    def scores(self, rows: Matrix, names: Sequence[str], *, boosted: bool = False) -> Matrix:
        """The scores of rows of features whose columns have these names."""
        weights = [self.weights.get(name, 0.0) * (BOOST if boosted and is_visual(name) else 1.0) for name in names]
        found: Matrix = rows @ np.array(weights)
        return found

    def save(self, path: Path) -> None:
        """Writes the model file."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "category_threshold": self.threshold,
            "features": dict(self.weights),
            "trained": dict(self.trained),
        }
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


CONTROL = LinearModel({"co_occurrence": 1.0}, trained={"by": "hand: co-occurrence only, the control"})
"""What re-ranks without a trained model: candidates in the order of their co-occurrence."""


def is_visual(name: str) -> bool:
    """Whether a feature's weight is one of the visual ones."""
    return name in ("visual", "class") or name.startswith(CROSS)


def load(path: Path) -> LinearModel:
    """Reads a model file.

    Raises:
        Misconfigured: it is not there or is no model of this version; the message says what to do.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT or content.get("version") != VERSION:
            raise Misconfigured(f"{path} is no {FORMAT} file of version {VERSION}; `dotstream train related` makes one")
        weights = {str(name): float(weight) for name, weight in content["features"].items()}
        threshold, trained = float(content["category_threshold"]), dict(content.get("trained", {}))
    except OSError as error:
        raise Misconfigured(f"cannot read the model {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misconfigured(f"{path} is no model file: {error}") from error
    unknown = [name for name in weights if name not in BASE and not name.startswith(CROSS)]
    if unknown or not all(map(math.isfinite, weights.values())) or not 0 <= threshold <= 1:
        raise Misconfigured(f"{path}: unknown features {unknown}, or weights that are no numbers")
    model = LinearModel(weights, threshold, trained)
    if len(model.categories) > MAX_CATEGORIES:
        raise Misconfigured(f"{path} has {len(model.categories)} cross features, {MAX_CATEGORIES} at most")
    return model


def columns_of(model: LinearModel) -> tuple[str, ...]:
    """The feature columns that a model needs, in the order of `feature_rows`."""
    return feature_names(model.categories)
