"""`dotstream data prepare`: build data sets to train and to evaluate on, out of packages."""

from __future__ import annotations

import os
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
    for reason, count in reasons.items():
        print(f"  left out, {reason}: {count} (problems.jsonl)")
