"""`dotstream data prepare`: build data sets to train and to evaluate on, out of packages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ops.commands.options import Json, answer, counted, say
from ops.commands.related import prepare_related, prepare_synthetic

app = typer.Typer(help="Data sets to train and to evaluate on.", no_args_is_help=True)
prepare = typer.Typer(help="Build a data set.", no_args_is_help=True)
app.add_typer(prepare, name="prepare")
prepare.command("related")(prepare_related)
prepare.command("related-synthetic")(prepare_synthetic)

Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where to build it.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same data.")]


@prepare.command()
def furniture(  # noqa: PLR0917  typer reads the options from the signature
    out: Out,
    seed: Seed = 0,
    views: Annotated[int, typer.Option("--views", min=1, max=99, help="Views of each 3-D model.")] = 8,
    scenes: Annotated[
        tuple[int, int, int], typer.Option("--scenes", metavar="TRAIN VAL TEST", help="Scenes with boxes.")
    ] = (4000, 400, 1000),
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="LIBRARY#MODEL", help="Only this one; may be repeated.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=0, help="Processes at once.", show_default="cores")] = 0,
    as_json: Json = False,
) -> None:
    """SYNTHETIC views and scenes with exact boxes, rendered from the 3-D models of Debian's sweethome3d-furniture.

    Models on the hold-out list (triton_models/data/held_out.txt) are refused. A build that was interrupted goes on.
    """
    from triton_models.data.furniture import FurnitureSettings, build
    from triton_models.data.problems import counted as counted_problems

    settings = FurnitureSettings(
        seed=seed, views=views, scenes=scenes, only=tuple(model or ()), jobs=jobs or os.cpu_count() or 1
    )
    built = build(out, settings, say)
    reasons = counted_problems(built.problems)
    if as_json:
        facts = {"models": built.models, "views": built.views, "scenes": built.scenes, "boxes": built.boxes}
        answer({"folder": str(out), "synthetic": True, **facts, "problems": reasons})
        return
    print(f"{out}: SYNTHETIC, {counted(built.views, 'view')} of {counted(sum(built.models.values()), '3-D model')}")
    for split, count in built.scenes.items():
        print(f"  {split}: {built.models.get(split, 0)} models, {counted(count, 'scene')}, {built.boxes[split]} boxes")
    _left_out(reasons)


@prepare.command("fashion-mnist")
def fashion_mnist(
    out: Out,
    per_class: Annotated[
        int | None, typer.Option("--per-class", min=1, help="At most so many of each class.", show_default="all")
    ] = None,
    as_json: Json = False,
) -> None:
    """70,000 real product photographs of 10 classes, 28 x 28 pixels, from Debian's dataset-fashion-mnist."""
    from triton_models.data.fashion_mnist import build

    counts = build(out, per_class, say)
    if as_json:
        answer({"folder": str(out), "synthetic": False, "pictures": counts})
        return
    print(f"{out}: real photographs, " + ", ".join(f"{count} for {split}" for split, count in counts.items()))


@prepare.command()
def pins(  # noqa: PLR0917  typer reads the options from the signature
    catalogue: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST...", help="Catalogues, as `publish` takes them.")
    ],
    top_queries: Annotated[
        Path,
        typer.Option("--top-queries", metavar="FILE", help="A search query on each line, the most frequent first."),
    ],
    out: Out,
    classes: Annotated[int, typer.Option("--classes", min=2, help="Queries to sample as classes.")] = 20_000,
    top: Annotated[int, typer.Option("--top", min=2, help="Sample from so many of the first queries.")] = 100_000,
    train: Annotated[int, typer.Option("--train", min=1, help="Training pictures of each class.")] = 50,
    evaluate: Annotated[int, typer.Option("--evaluate", min=1, help="Evaluation pictures of each class.")] = 5,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Balanced classes from your own pins' annotations, as section 4 of the paper draws them; writes a manifest."""
    from ops.pin_data import annotated_pins, read_queries
    from triton_models.data.annotated import Choice, draw
    from triton_models.data.manifest import MANIFEST_FILE, write_manifest
    from triton_models.data.problems import counted as counted_problems
    from triton_models.data.problems import write_problems

    pictures, problems = annotated_pins(catalogue, out / "images")
    drawn = draw(pictures, read_queries(top_queries), Choice(top, classes, train, evaluate, seed))
    problems += drawn.problems
    write_manifest(out / MANIFEST_FILE, drawn.rows)
    write_problems(out, problems)
    facts = {
        "classes": len(drawn.classes),
        "too_small": len(drawn.too_small),
        "pictures": len(drawn.rows),
        "unmatched": drawn.unmatched,
        "doubled": drawn.doubled,
    }
    reasons = counted_problems(problems)
    if as_json:
        answer({"folder": str(out), **facts, "problems": reasons})
        return
    for name, value in facts.items():
        print(f"{name}: {value}")
    _left_out(reasons)


def _left_out(reasons: Mapping[str, int]) -> None:
    for reason, count in reasons.items():
        print(f"left out, {reason}: {count} (problems.jsonl)")
