"""Fills the model repository: served ONNX files out of the fetched weights, each with its card.

Configurations, label names and READMEs are part of the source and lie in `repository/`; what this module adds per
model is `<version>/model.onnx` and `<version>/card.json`. The same weights give the same bytes on every machine that
uses the lock file's tools. The exporters (and torch) are imported only when something is to be exported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dotstream.errors import Misconfigured
from triton_models.cards import ModelCard, read_card
from triton_models.fetch import DETECTOR, EMBEDDER, Progress, Source, Weights, _quiet, fetch
from triton_models.files import locked, write_whole
from triton_models.versions import lock, place

REPOSITORY = Path(__file__).parent / "repository"
"""The repository that is part of the source, with everything but the exported files."""


def _detector(weights: Weights) -> bytes:
    from triton_models.export_ssd import detector  # noqa: PLC0415 - the ONNX tools belong to an optional group

    return detector(weights.detector)


def _embedder(weights: Weights) -> bytes:
    from triton_models.export_efficientnet import embedder  # noqa: PLC0415 - torch takes seconds to import

    return embedder(weights.embedder)


@dataclass(frozen=True)
class Served:
    """A model that this project exports. `recipe` rises whenever the same weights would give another file."""

    name: str
    version: int
    recipe: str
    source: Source
    build: Callable[[Weights], bytes]

    def card(self, data: bytes) -> ModelCard:
        source = self.source
        return ModelCard(
            name=self.name,
            version=self.version,
            sha256=hashlib.sha256(data).hexdigest(),
            recipe=self.recipe,
            source=f"{source.registry} {source.package} {source.version} {source.file_name}",
            source_sha256=source.sha256,
            licence=source.licence,
        )

    def is_exported(self, repository: Path) -> bool:
        try:
            card = read_card(repository, self.name, self.version)
        except Misconfigured:
            return False
        return (card.recipe, card.source_sha256) == (self.recipe, self.source.sha256)


SERVED = (
    Served("ssd_mobilenet_v2", 1, "1: nms iou 0.5, floor 0.1, 100 detections", DETECTOR, _detector),
    Served("efficientnet_lite0", 1, "1: pooled features, bit = above zero", EMBEDDER, _embedder),
)


def export(repository: Path, cache: Path, progress: Progress = _quiet) -> list[ModelCard]:
    """Makes the repository ready to serve and returns the cards of its models.

    What is there with the right digest stays untouched, and then neither weights nor network are needed. A repository
    elsewhere than in the source gets the source's configurations, labels and READMEs too.

    Args:
        repository: the model repository to fill; processes may share it.
        cache: where `fetch` keeps the weights.
        progress: told in a line what is being done.

    Raises:
        Misconfigured, Unavailable, Fatal: as `fetch`; or the packages of the `models` group are not installed.
    """
    with locked(cache / "export.lock"):
        _copy_sources(repository)
        if not all(model.is_exported(repository) for model in SERVED):
            weights = fetch(cache, progress)
            with lock(repository):
                for model in SERVED:
                    if not model.is_exported(repository):
                        progress(f"exporting {model.name}")
                        data = _built(model, weights)
                        place(repository / model.name, data, model.card(data))
        return [read_card(repository, model.name, model.version) for model in SERVED]


def _built(model: Served, weights: Weights) -> bytes:
    try:
        return model.build(weights)
    except ModuleNotFoundError as error:
        raise Misconfigured(f"exporting {model.name} needs {error.name}: uv sync --group models") from error


def _copy_sources(repository: Path) -> None:
    """Brings the checked-in files of each model; what is the same stays untouched, so that a server sees no change."""
    if repository.resolve() == REPOSITORY.resolve():
        return
    for source in sorted(REPOSITORY.glob("*/*")):
        target = repository / source.relative_to(REPOSITORY)
        if source.is_file() and not (target.is_file() and target.read_bytes() == source.read_bytes()):
            write_whole(target, source.read_bytes())
