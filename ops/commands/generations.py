"""`dotstream generations begin`: a further generation beside the active one, with models of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.commands.options import settings_of

app = typer.Typer(help="Begin generations: pairs of models with an index of their own.", no_args_is_help=True)


@app.callback()
def generations() -> None:
    """Begin generations: pairs of models with an index of their own."""


@app.command()
def begin(
    name: Annotated[
        str | None, typer.Argument(help="Which one; without it the settings' generation.", show_default=False)
    ] = None,
) -> None:
    """Create the topics of a further generation and record it, with the models and vision settings of the settings."""
    from dotstream.clock import SystemClock
    from ops import topics
    from ops.generations import begin_generation
    from ops.models import pipeline_of

    settings = settings_of(generation=name).settings
    pipeline, plan, connection = pipeline_of(settings), settings.topics.plan(), settings.kafka.connection()
    topics.ensure(connection, topics.all_topics(plan, [settings.generation]), settings=plan)
    record = begin_generation(
        connection,
        topics.TopicNames(settings.topics.prefix).generations,
        settings.generation,
        pipeline,
        partitions=plan.record_partitions,
        now_ms=SystemClock().now_ms(),
    )
    print(f"generation {record.name} by {record.detector} and {record.embedder}; start its workers")
