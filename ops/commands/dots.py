"""`dotstream dots calibrate` and `dotstream eval dots`: thresholds of the signals, and how right shown dots are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import Json, answer, settings_of

if TYPE_CHECKING:
    from ops.evals.dots import Proposal

app = typer.Typer(help="Dots and their thresholds.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Dots and their thresholds."""


@app.command()
def calibrate(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SCENES]", help="Folder of labelled scenes in COCO's format (otherwise the index in --data)."
        ),
    ] = None,
    *,
    split: Annotated[str, typer.Option(help="Of the scenes.")] = "val",
    precision: Annotated[float, typer.Option(min=0.05, max=1, help="Wanted share of right dots.")] = 0.9,
    score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least detector score (otherwise dots.score).")
    ] = None,
    categories: Annotated[str, typer.Option(help="Categories of a scene's pin: group or label.")] = "group",
    pins: Annotated[int, typer.Option(min=10, help="At most so many pins.")] = 2_000,
    as_json: Json = False,
) -> None:
    """Measure the signals of right and wrong detections, and propose thresholds.

    With SCENES they go through a private stack. Without, the index in the data folder is asked: a detection counts as
    right when most of what is found shares an annotation with its pin. Status 1 when the precision cannot be reached.
    """
    from ops.evals.dots import distributions, of_index, of_scenes, propose

    settings = settings_of().settings
    least = settings.dots.score if score is None else score
    evidence = of_index(settings, pins) if data is None else of_scenes(data, split, categories, pins)
    proposals = propose(evidence.table, precision, least)
    spread = distributions(evidence.table)
    if as_json:
        answer(
            {
                "conditions": evidence.conditions | {"precision": precision, "score": least},
                "signals": spread,
                "proposals": {one.preset: _facts(one) for one in proposals},
            }
        )
    else:
        for name, value in evidence.conditions.items():
            print(f"{name}: {value}")
        print(f"\n{'signal':<12}{'':<8}{'5 %':>9}{'25 %':>9}{'50 %':>9}{'75 %':>9}{'95 %':>9}")
        for name, words in spread.items():
            for word, values in words.items():
                print(f"{name:<12}{word:<8}" + "".join(f"{value:>9.3f}" for value in values))
        print(f"\nthresholds for a precision of {precision:.2f} at a detector score of {least} or more:")
        for one in proposals:
            _print(one)
    if all(one.rule is None for one in proposals):
        raise typer.Exit(1)


def measure(
    data: Annotated[Path, typer.Argument(metavar="SCENES", help="Folder of labelled scenes in COCO's format.")],
    *,
    split: Annotated[str, typer.Option(help="Of the scenes.")] = "test",
    score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least detector score (otherwise dots.score).")
    ] = None,
    categories: Annotated[str, typer.Option(help="Categories of a scene's pin: group or label.")] = "group",
    pins: Annotated[int | None, typer.Option(min=10, help="Only the first so many.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw the curves into this file.")] = None,
    as_json: Json = False,
) -> None:
    """Precision of shown dots and coverage under each preset of Table 5, through a private stack."""
    from dataclasses import replace

    from ops.dots import rule_of
    from ops.evals.dots import evaluate, of_scenes

    rule = rule_of(settings_of().settings)
    if score is not None:
        rule = replace(rule, score=score)
    evaluate(of_scenes(data, split, categories, pins), rule, plot).show(as_json=as_json)


def _facts(one: Proposal) -> dict[str, object]:
    if one.rule is None or one.outcome is None:
        return {"reachable": False}
    facts: dict[str, object] = {"reachable": True, "similarity": one.rule.similarity}
    facts |= {"annotation": one.rule.annotation, "conformity": one.rule.conformity}
    facts |= {"precision": one.outcome.precision, "coverage": one.outcome.coverage, "kept": one.outcome.kept}
    if one.held_out is not None:
        facts["held_out"] = {"precision": one.held_out.precision, "coverage": one.held_out.coverage}
    return facts


def _print(one: Proposal) -> None:
    if one.rule is None or one.outcome is None:
        print(f"\n# {one.preset}: not reachable with 20 dots or more")
        return
    low, high = one.outcome.interval
    print(
        f"\n# {one.preset}: {one.outcome.shown} dots, precision {one.outcome.precision:.3f} ({low:.3f} to {high:.3f})"
    )
    print(f"# coverage {one.outcome.coverage:.3f}, {one.outcome.kept:.0%} of the right detections shown")
    if one.held_out is not None:
        print(f"# chosen so on one half of the pins, precision on the other is {one.held_out.precision:.3f}")
    print(f'[dots]\npreset = "{one.preset}"\nscore = {one.rule.score}')
    for name in ("similarity", "annotation", "conformity"):
        value = getattr(one.rule, name)
        if value is not None:
            print(f"{name} = {value:.4f}")
