"""`dotstream train embedder` and `dotstream eval retrieval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dotstream.errors import Misconfigured
from ops.commands.options import Changes, Json, Resume, say, settings_of
from ops.commands.problems import ProblemsFile, tell

FLOORS_AND_SERVED = ["pixels", "efficientnet_lite0"]

Recipe = Annotated[Path, typer.Option("--config", metavar="FILE", help="Recipe (TOML); docs/embedders.md shows one.")]
Data = Annotated[Path, typer.Option("--on", metavar="DATA", help="Manifest, or folder with a subfolder per label.")]
Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder of the run.")]


def train_embedder(recipe: Recipe, on: Data, out: Out, change: Changes = None, resume: Resume = False) -> None:
    """Fine-tune a classifier on labelled pictures; its layers are then embedders (section 4 of the paper)."""
    from ops.training import EmbedderTraining, read_recipe
    from triton_models.embedders.train import train

    read = read_recipe(EmbedderTraining, recipe, change or ())
    cache = settings_of().settings.cache_folder
    print(train(read.embedder, on, read.training, out, cache=cache, resume=resume, say=say))


def eval_retrieval(  # noqa: PLR0917  typer reads the options from the signature
    source: Annotated[Path, typer.Argument(metavar="DATA", help="Manifest, or folder with a subfolder per label.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME[=WEIGHTS]", help="Embedder or `pixels`; may be repeated."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Split of the data; `all` takes every picture.")] = "test",
    queries: Annotated[int, typer.Option("--queries", min=1, help="Queries; the rest is indexed.")] = 2000,
    per_class: Annotated[
        int | None, typer.Option("--per-class", min=1, help="Queries of each class, as the paper's 25 on Pascal VOC.")
    ] = None,
    most: Annotated[int | None, typer.Option("--most", min=4, help="At most so many pictures, drawn by seed.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides every draw.")] = 0,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures of one pass.")] = 32,
    noise_plot: Annotated[Path | None, typer.Option("--noise-plot", metavar="PNG", help="Draw Figure 5.")] = None,
    embedding_plot: Annotated[
        Path | None, typer.Option("--embedding-plot", metavar="PNG", help="Draw Figure 6.")
    ] = None,
    listed: ProblemsFile = None,
    as_json: Json = False,
) -> None:
    """Precision at 1, 5 and 10 of features and codes, by section 4's protocol, with 95 % bootstrap intervals.

    WEIGHTS is torchvision, package, a file, or the word random; what was used is printed with every result.
    """
    from ops.retrieval import draw_embedding, draw_noise, report
    from triton_models.data.manifest import read_labelled
    from triton_models.data.seeds import shuffled
    from triton_models.retrieval.evaluate import evaluate as run
    from triton_models.retrieval.features import Asked
    from triton_models.retrieval.protocol import Protocol

    asked = [Asked.parse(one) for one in model or FLOORS_AND_SERVED]
    every, problems = read_labelled(source)
    has_splits = any(picture.split for picture in every)
    chosen = [picture for picture in every if not has_splits or split in ("all", picture.split)]
    if not chosen:
        splits = ", ".join(sorted({picture.split for picture in every}))
        raise Misconfigured(f"{source} has no picture of split {split!r}; there are {splits}, and all")
    if most is not None and len(chosen) > most:
        keep = set(shuffled(seed, [str(picture.path) for picture in chosen], "most")[:most])
        chosen = [picture for picture in chosen if str(picture.path) in keep]
    apart = split not in ("all", "train")
    calibration = [picture for picture in every if apart and picture.split == "train"]
    cache = settings_of().settings.cache_folder
    evaluation = run(
        chosen, asked, Protocol(queries, per_class, seed), cache=cache, calibration=calibration, batch=batch, say=say
    )
    tell([*problems, *evaluation.problems], listed)
    if embedding_plot is not None:
        draw_embedding(embedding_plot, evaluation, asked, seed)
    plots = draw_noise(noise_plot, evaluation, asked, cache, seed) if noise_plot is not None else {}
    report(evaluation, source, split if has_splits else "none", plots, len(problems), seed).show(as_json=as_json)
