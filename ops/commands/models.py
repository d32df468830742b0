"""`dotstream models`: bring the weights, make the served files, look at what a Triton serves and load it anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.commands.options import Json, answer, say, settings_of

app = typer.Typer(help="The models that Triton serves.", no_args_is_help=True)
Repository = Annotated[
    Path | None,
    typer.Option("--repository", metavar="FOLDER", help="Model repository.", show_default="triton_models/repository"),
]


@app.command("list")
def list_models(repository: Repository = None, as_json: Json = False) -> None:
    """The exported models: version, digest, where the weights came from, their licence, and how they were measured."""
    from dataclasses import asdict

    from dotstream.errors import Misconfigured
    from triton_models.cards import read_cards

    place = repository or settings_of().settings.repository_folder
    cards = read_cards(place)
    if not cards:
        raise Misconfigured(f"{place} holds no exported model: run `dotstream models export`")
    if as_json:
        answer([asdict(card) for card in cards])
        return
    for card in cards:
        print(f"{card.label}  {card.sha256[:16]}  {card.licence}  {card.source}")
        for about in (card.recipe, card.data, ", ".join(f"{name} {value:g}" for name, value in card.metrics.items())):
            if about:
                print(f"    {about}")


@app.command()
def fetch() -> None:
    """Bring the weights into the machine's cache, each checked by its SHA-256."""
    from triton_models.fetch import fetch as fetch_weights

    weights = fetch_weights(settings_of().settings.cache_folder, say)
    for path in (weights.detector, weights.labels, weights.embedder):
        print(path)


@app.command()
def export(  # noqa: PLR0917  typer reads the options from the signature
    name: Annotated[
        str | None, typer.Argument(help="Embedder, or a detector's name; none: the packaged models.")
    ] = None,
    repository: Repository = None,
    weights: Annotated[str, typer.Option("--weights", help="torchvision, package, random, or a file.")] = "default",
    served_as: Annotated[str | None, typer.Option("--as", metavar="MODEL", help="Name of the served model.")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            "--beside", metavar="LAYER", help="Also the codes of this layer of an embedder, as fc8; repeatable."
        ),
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option("--calibrate", metavar="DATA", help="Binarise at the medians of these pictures.")
    ] = None,
    metrics: Annotated[
        Path | None, typer.Option("--metrics", metavar="JSON", help="Output of `eval --json` to keep with the model.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="FILE", help="Of a trained detector, which NAME will serve.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Of a trained detector's weights, SPDX.")] = "LicenseRef-unstated",
    proposals: Annotated[int | None, typer.Option(min=1, help="Regions of Faster R-CNN.")] = None,
    objectness: Annotated[float | None, typer.Option(min=0, max=1, help="Least of Faster R-CNN's regions.")] = None,
) -> None:
    """Make the files that Triton serves; an export that differs from torch is refused.

    Without a name: the packaged detector and embedder; what is there already stays. With one: the next version of it.
    """
    from dotstream.errors import Misconfigured
    from triton_models.export import export as export_models

    settings = settings_of().settings
    place = repository or settings.repository_folder
    if checkpoint is not None:
        from ops.detectors import export_checkpoint

        if name is None:
            raise Misconfigured("a trained detector needs a name: dotstream models export NAME --checkpoint FILE")
        use = {"proposals": proposals, "objectness": objectness}
        card = export_checkpoint(checkpoint, place, name=name, licence=licence, metrics=metrics, options=use)
        print(f"{card.label}  {card.sha256[:16]}  {card.recipe}")
        return
    if name is not None:
        from ops.embedders import export_named

        card = export_named(
            name,
            place,
            settings.cache_folder,
            weights=weights,
            served_as=served_as,
            extra=beside or (),
            calibrate=calibrate,
            metrics=metrics,
        )
        print(f"{card.label}  {card.sha256[:16]}  {card.recipe}")
        return
    for card in export_models(place, settings.cache_folder, say):
        print(f"{card.label}  {card.sha256[:16]}")


@app.command()
def load(name: Annotated[str, typer.Argument(help="Model in the server's repository.")]) -> None:
    """Have Triton load a version that was put in place; requests go on meanwhile.

    The server must run with --model-control-mode=explicit, as the local stack's does.
    """
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    from dotstream.errors import Misconfigured, Unavailable

    settings = settings_of().settings
    if not settings.triton.address:
        raise Misconfigured("no Triton address: start a local stack (dotstream up) or set triton.address")
    client = InferenceServerClient(settings.triton.address)
    try:
        client.load_model(name, client_timeout=settings.triton.deadline_s * 10)
    except InferenceServerException as error:
        raise Unavailable(f"Triton did not load {name}: {error.message()}") from error
    finally:
        client.close()
    print(f"{name} is loaded")
