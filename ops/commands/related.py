"""`dotstream train related`, `dotstream eval related`, and where their logs come from: `dotstream data prepare …`."""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dotstream.errors import Misconfigured
from ops.commands.options import Json, answer, counted, say, settings_of

if TYPE_CHECKING:
    from discovery.related.evaluation import Interval, Measured
    from discovery.related.evaluation import Report as Evaluated

Logs = Annotated[list[Path], typer.Argument(help="Files of `dotstream data prepare related` or related-synthetic.")]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write.")]


class Without(str, Enum):  # noqa: UP042  typer shows the values of a str enumeration
    """Features left out of training, for ablations."""

    CROSS = "cross"
    VISUAL = "visual"


def prepare_related(out: Out) -> None:
    """Write what people did with Related Pins answers, with features: examples out of topic `engagements`."""
    from ops.related import stream_examples

    written = stream_examples(settings_of().settings, out, say)
    print(f"{counted(written, 'impression')} written to {out}")


def prepare_synthetic(
    out: Out,
    queries: Annotated[int, typer.Option(min=1, help="Answers in the log.")] = 4_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same log.")] = 0,
    dominant_truth: Annotated[
        float, typer.Option(min=0, help="How many times pictures count where there is a dominant object.")
    ] = 2.5,
) -> None:
    """SYNTHETIC log of Related Pins with a known truth: made-up pins, made-up people."""
    from discovery.related.examples import write
    from discovery.related.synthetic import SyntheticSettings, synthetic_log

    settings = SyntheticSettings(queries=queries, seed=seed, dominant_truth=dominant_truth)
    print(f"{out}: SYNTHETIC, {counted(write(out, synthetic_log(settings)), 'impression')}")


def train_related(
    logs: Logs,
    out: Out,
    c: Annotated[float, typer.Option("--c", min=1e-6, help="Of the SVM; greater fits closer.")] = 1.0,
    without: Annotated[list[Without] | None, typer.Option(help="Features to leave out; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Train the model that re-ranks Related Pins: Rank-SVM on pairs of logged impressions."""
    from discovery.related.examples import by_request, read
    from discovery.related.features import CROSS
    from discovery.related.training import TrainingSettings, train

    left_out: list[str] = []
    if without and Without.VISUAL in without:
        left_out += ["visual", "visual_missing", "class", "class_missing", CROSS]
    if without and Without.CROSS in without:
        left_out += [CROSS]
    trained = train(by_request(read(logs)), TrainingSettings(c=c, without=tuple(left_out)))
    trained.model.save(out)
    if as_json:
        answer({"model": str(out), "weights": dict(trained.model.weights), **trained.model.trained})
        return
    mark = "SYNTHETIC, " if trained.model.trained["synthetic"] else ""
    print(f"{out}: {mark}{counted(trained.pairs, 'pair')}, {trained.agreement:.1%} of them ordered as people did")
    print(f"use it: DOTSTREAM_RELATED__MODEL={out}")


def eval_related(  # noqa: PLR0917  typer reads the options from the signature
    logs: Logs,
    model: Annotated[Path, typer.Option("--model", metavar="FILE", help="Of `dotstream train related`.")],
    control: Annotated[
        Path | None, typer.Option("--control", metavar="FILE", help="Model to hold it against; none: co-occurrence.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Pins that a user sees of a ranking.")] = 5,
    resamples: Annotated[int, typer.Option(min=10, help="Of the bootstrap.")] = 1_000,
    as_json: Json = False,
) -> None:
    """Replay a log: save propensity of the model's rankings against the control's, by variant and category."""
    from discovery.related.evaluation import evaluate, ranker
    from discovery.related.examples import by_request, read
    from discovery.related.model import Variant, load

    chosen, held = load(model), None if control is None else ranker(load(control), Variant.PLAIN)
    requests = by_request(read(logs))
    if not requests:
        raise Misconfigured(f"no impression in {', '.join(map(str, logs))}: there is nothing to replay")
    synthetic = any(one.synthetic for seen in requests.values() for one in seen)
    found = {each: evaluate(requests, ranker(chosen, each), control=held, k=k, resamples=resamples) for each in Variant}
    conditions = {
        "synthetic": synthetic,
        "kind": "offline replay of logged answers, no live A/B",
        "answers": len(requests),
        "users": found[Variant.PLAIN].saves.users,
        "k": k,
        "control": "co-occurrence" if control is None else str(control),
        "intervals": f"95 %, bootstrap over users, {resamples} resamples",
    }
    if as_json:
        figures = {name: one for each, report in found.items() for name, one in _figures(each.value, report).items()}
        answer({"name": "related", "conditions": conditions, "figures": figures})
        return
    for name, value in conditions.items():
        print(f"{name}: {value}")
    print("SYNTHETIC LOG: these figures say nothing of real people" if synthetic else "")
    for each, report in found.items():
        print(f"{each.value:6}  save propensity {_line(report.saves)}  engagement {_line(report.engagement)}")
    print("save propensity by category (plain):")
    for name, one in found[Variant.PLAIN].categories.items():
        print(f"  {name:16} {_line(one)}  ({one.users} users)")


def _line(one: Measured) -> str:
    gain = _interval(one.gain) if one.control else "unknown (nothing of the control's to compare with)"
    return f"{one.propensity:.4f} against {one.control:.4f}, gain {gain}"


def _interval(gain: Interval) -> str:
    return f"{gain.value:+.1%} ({gain.low:+.1%} to {gain.high:+.1%})"


def _figures(variant: str, report: Evaluated) -> dict[str, dict[str, Any]]:
    rows = {"saves": report.saves, "engagement": report.engagement}
    rows |= {f"saves of {name}": one for name, one in report.categories.items()}
    return {
        f"{variant}: {name}": {"value": one.propensity, "unit": "share of users", "peer": one.control}
        | {"gain": dataclasses.asdict(one.gain), "users": one.users}
        for name, one in rows.items()
    }
