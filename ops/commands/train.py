"""`dotstream train`: trains a detector by a configuration file; embedders and related pins beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.commands.embedder import train_embedder
from ops.commands.options import Changes, Resume, counted, say, settings_of
from ops.commands.related import train_related

REACH_PICTURES = 1_000
app = typer.Typer(help="Train models on your own pins.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Train models on your own pins."""


app.command("related")(train_related)
app.command("embedder")(train_embedder)


@app.command()
def detector(
    recipe: Annotated[Path, typer.Option("--config", metavar="FILE", help="Configuration file (TOML).")],
    change: Changes = None,
    resume: Resume = False,
) -> None:
    """Train a detector; prints the path of its last checkpoint."""
    from ops.training import DetectorTraining, built, opened, read_recipe
    from triton_models.data.problems import summary
    from triton_models.detectors.reach import anchors_of, within_reach
    from triton_models.detectors.train import train

    config = read_recipe(DetectorTraining, recipe, change or ())
    data = opened(config, say)
    say(f"data: {data.name}, {counted(len(data.samples), 'picture')}, {counted(data.objects, 'object')}")
    if data.problems:
        say(f"left out: {summary(data.problems)}; the run's problems.jsonl lists them")
    model, origin = built(config, data.labels.names, settings_of().settings.cache_folder, say)
    say(f"detector: {model.spec.architecture} at {model.spec.size} pixels, {len(data.labels.names)} classes")
    say(f"weights: {origin.text}")
    anchors = anchors_of(model)
    if anchors is not None:
        reach = within_reach(anchors, data.samples[:REACH_PICTURES], model.spec.match_iou)
        low, high = reach.recall.interval
        say(
            f"an anchor overlaps {reach.recall.value:.1%} ({low:.1%} to {high:.1%}) of {reach.objects} objects by "
            f"{model.spec.match_iou:g}; each of the others has its best anchor alone to learn from"
        )
    print(train(model, origin, data, config.training, config.run.folder, resume=resume, progress=say))
