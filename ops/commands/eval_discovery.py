"""`dotstream eval flashlight|objects|lens`: how good the answers of discovery are on labelled scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.commands.options import Json

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder with SPLIT/annotations.json in COCO's format, or such a file.")
]
Split = Annotated[str, typer.Option(help="Of a folder.")]
Most = Annotated[int, typer.Option(min=10, help="Only the first so many scenes.")]
Queries = Annotated[int, typer.Option(min=1, help="Questions at most.")]
Seed = Annotated[int, typer.Option(help="Decides every draw.")]


def flashlight(
    data: Data,
    *,
    split: Split = "test",
    most: Most = 500,
    queries: Queries = 200,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Precision of crop search on known things, with and without re-ranking, and of its annotations."""
    from ops.evals import flashlight as evaluation

    evaluation.run(data, split, most=most, queries=queries, seed=seed).show(as_json=as_json)


def objects(
    data: Data,
    *,
    split: Split = "test",
    most: Most = 500,
    queries: Queries = 200,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Scene recall of object search: other scenes that hold the very same thing."""
    from ops.evals import objects as evaluation

    evaluation.run(data, split, most=most, queries=queries, seed=seed).show(as_json=as_json)


def lens(
    data: Data,
    *,
    split: Split = "test",
    most: Most = 500,
    queries: Queries = 100,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Annotation precision of Lens, and what blending its sources adds."""
    from ops.evals import lens as evaluation

    evaluation.run(data, split, most=most, queries=queries, seed=seed).show(as_json=as_json)
