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
    """The exported models: version, digest, where the weights came from, and their licence."""
    from dataclasses import asdict

    from triton_models.cards import read_card
    from triton_models.export import SERVED

    place = repository or settings_of().settings.repository_folder
    cards = [read_card(place, model.name, model.version) for model in SERVED]
    if as_json:
        answer([asdict(card) for card in cards])
        return
    for card in cards:
        print(f"{card.label}  {card.sha256[:16]}  {card.licence}  {card.source}")


@app.command()
def fetch() -> None:
    """Bring the weights into the machine's cache, each checked by its SHA-256."""
    from triton_models.fetch import fetch as fetch_weights

    weights = fetch_weights(settings_of().settings.cache_folder, say)
    for path in (weights.detector, weights.labels, weights.embedder):
        print(path)


@app.command()
def export(repository: Repository = None) -> None:
    """Make the files that Triton serves, out of the weights; what is there already stays."""
    from triton_models.export import export as export_models

    settings = settings_of().settings
    for card in export_models(repository or settings.repository_folder, settings.cache_folder, say):
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
