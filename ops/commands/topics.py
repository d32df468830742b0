"""`dotstream topics ensure`: create the topics that are missing, and say where the others differ."""

from __future__ import annotations

import typer

from ops.commands.options import Json, answer, settings_of

app = typer.Typer(help="Create and check the topics of the stream.", no_args_is_help=True)


@app.callback()
def topics() -> None:
    """Create and check the topics of the stream."""


@app.command()
def ensure(as_json: Json = False) -> None:
    """Create the topics that are missing; nothing that exists is changed."""
    from dataclasses import asdict

    from ops import topics

    settings = settings_of().settings
    plan = settings.topics.plan()
    report = topics.ensure(settings.kafka.connection(), topics.all_topics(plan, [settings.generation]), settings=plan)
    if as_json:
        answer(asdict(report))
        return
    for name in report.created:
        print(f"created {name}")
    for difference in report.differences:
        print(f"differs: {difference}")
    print(f"{len(report.created)} created, {len(report.existing)} were there, {len(report.differences)} differences")
