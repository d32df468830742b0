"""`dotstream eval`: how well detectors find what is in labelled pictures; other evaluations beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.dots import measure as dots
from ops.commands.embedder import eval_retrieval
from ops.commands.eval_discovery import flashlight, lens, objects
from ops.commands.options import Json, answer, say, settings_of
from ops.commands.problems import ProblemsFile, tell
from ops.commands.related import eval_related

if TYPE_CHECKING:
    from ops.detection_report import Measured
    from triton_models.detectors.dataset import DetectionData
    from triton_models.detectors.predict import Predictor

app = typer.Typer(help="Measure models on labelled pictures.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Measure models on labelled pictures."""


app.command("dots")(dots)
app.command("related")(eval_related)
for command in (flashlight, objects, lens):
    app.command()(command)
app.command("retrieval")(eval_retrieval)


@app.command()
def detection(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="COCO file, folder of COCO files, or Pascal VOC folder.")
    ],
    *,
    split: Annotated[str, typer.Option(help="Of a folder.")] = "test",
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME[@VERSION]", help="Of the model repository; again for more."),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option("--checkpoint", metavar="FILE", help="Of a training; again for more.")
    ] = None,
    label_map: Annotated[
        Path | None, typer.Option("--label-map", metavar="FILE", help="Classes, groups, aliases.")
    ] = None,
    iou: Annotated[float, typer.Option(min=0.05, max=0.95, help="Least overlap of a right detection.")] = 0.7,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Least score that counts.")] = 0.5,
    calibrate: Annotated[
        str | None,
        typer.Option(metavar="SPLIT", help="Take each detector's best threshold (F1) on this split instead."),
    ] = None,
    proposals: Annotated[
        list[int] | None, typer.Option(min=1, help="Regions of Faster R-CNN; again to compare several.")
    ] = None,
    objectness: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least objectness of Faster R-CNN's regions.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Pictures whose latency is measured.")] = 100,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda, for checkpoints.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as many as there are cores.")] = 0,
    listed: ProblemsFile = None,
    as_json: Json = False,
) -> None:
    """Precision and recall per group of classes, COCO's average precision, and latency.

    Without --model and --checkpoint the detector of the settings is measured.
    """
    from ops.bench._report import machine
    from ops.detection_report import as_json as json_of
    from ops.detection_report import show
    from triton_models.data.problems import summary
    from triton_models.detectors.labels import read_label_map
    from triton_models.detectors.sources import open_data

    labels = read_label_map(label_map) if label_map else None
    test = open_data(data, split, labels=labels, progress=say)
    tuning = open_data(data, calibrate, labels=test.labels, progress=say) if calibrate else None
    tell([*test.problems, *(tuning.problems if tuning else ())], listed)
    names = model or ([] if checkpoint else [settings_of().settings.triton.detector])
    if threads:
        import torch

        torch.set_num_threads(threads)
    predictors = [*_served(names, threads), *_checkpoints(checkpoint or [], device, proposals or [None], objectness)]
    _require_names(predictors)
    measured = [_measure(one, test, tuning, iou=iou, threshold=threshold, rounds=rounds) for one in predictors]
    conditions = {
        "data": test.name,
        "split": split,
        "pictures": len(test.samples),
        "objects": test.objects,
        "left_out": summary(test.problems),
        "iou": iou,
        "threshold": f"best F1 on split {calibrate}" if calibrate else threshold,
        "latency_pictures": rounds,
        "threads": threads or "all cores",
        **{name: value for name, value in machine().items() if name != "gpu"},
    }
    if as_json:
        answer(json_of(conditions, measured))
    else:
        show(conditions, measured)


def _served(names: Sequence[str], threads: int) -> list[Predictor]:
    from dotstream.errors import Misconfigured
    from triton_models.detectors.predict import ServedPredictor

    made: list[Predictor] = []
    for text in names:
        name, _, version = text.partition("@")
        if version and not version.isdecimal():
            raise Misconfigured(f"{text!r}: a version is a number, as in {name}@2")
        made.append(ServedPredictor(settings_of().settings.repository_folder, name, int(version or 1), threads=threads))
    return made


def _checkpoints(
    paths: Sequence[Path], device: str, proposals: Sequence[int | None], objectness: float | None
) -> list[Predictor]:
    """The checkpoints' detectors; one with regions once for each count of them that is asked for."""
    from dotstream.errors import Misconfigured
    from triton_models.detectors.checkpoints import read_checkpoint
    from triton_models.detectors.predict import TorchPredictor
    from triton_models.detectors.spec import has_regions

    read = [read_checkpoint(path) for path in paths]
    regional = [has_regions(one.spec.architecture) for one in read]
    if not any(regional) and (objectness is not None or any(count is not None for count in proposals)):
        raise Misconfigured("--proposals and --objectness are of Faster R-CNN's checkpoints, and none is given")
    uses = [{"proposals": count, "objectness": objectness} for count in proposals]
    return [
        TorchPredictor(one, device=device, options=use)
        for one, has in zip(read, regional, strict=True)
        for use in (uses if has else [{}])
    ]


def _require_names(predictors: Sequence[Predictor]) -> None:
    from dotstream.errors import Misconfigured

    names = [one.name for one in predictors]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Misconfigured(f"two detectors would be called {', '.join(twice)}: give their runs folders of other names")


def _measure(
    predictor: Predictor,
    test: DetectionData,
    tuning: DetectionData | None,
    *,
    iou: float,
    threshold: float,
    rounds: int,
) -> Measured:
    from ops.detection_report import Measured
    from triton_models.detectors.coco_ap import average_precision
    from triton_models.detectors.metrics import best_threshold, matched, qualities
    from triton_models.detectors.predict import answers_of, latency
    from triton_models.detectors.reach import within_reach

    if tuning is not None:
        said, _ = answers_of(predictor, tuning.samples, tuning.labels, say)
        threshold = best_threshold(tuning.samples, said, labels=tuning.labels, iou=iou)
    said, unknown = answers_of(predictor, test.samples, test.labels, say)
    kept = [one.above(threshold) for one in said]
    matches = matched(test.samples, kept, classes=len(test.labels.names), iou=iou)
    return Measured(
        predictor.name,
        predictor.weights,
        predictor.device,
        threshold,
        unknown,
        qualities(matches, test.labels),
        average_precision(test.samples, said, test.labels.names),
        latency(predictor, test.samples, rounds),
        None if predictor.anchors is None else within_reach(predictor.anchors, test.samples, iou),
    )
