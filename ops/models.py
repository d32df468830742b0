"""The vision path put together from the settings: client, pipeline, fingerprint, decoder, fetcher, picture stores."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dotstream.clock import Clock
from dotstream.errors import Misconfigured
from ops.generations import Pipeline
from ops.settings import Settings
from triton_models.cards import ModelCard, read_card
from triton_models.pictures import Picture, PictureLimits, crop_resize, decode
from triton_models.pipeline import Vision, VisionSettings, codes_at, fingerprint, widened
from triton_models.seen import Box
from triton_models.served import CODES, Extra

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    from consumers.crops import Embeds
    from consumers.fetch import Fetcher
    from indexer.pictures import PictureStore, ResultCache
    from triton_models.calls import Observer
    from triton_models.client import TritonClient

CONFIG = "config.pbtxt"
LABELS = "labels.txt"
EVERY_NETWORK = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


@dataclass(frozen=True)
class Cards:
    """The models of a generation: `extra` has a (card, output) for each extra feature."""

    detector: ModelCard
    embedder: ModelCard
    extra: tuple[tuple[ModelCard, str], ...]

    @property
    def versions(self) -> dict[str, str]:
        """Model name -> version.

        Raises:
            Misconfigured: one model is named at two versions.
        """
        found: dict[str, str] = {}
        for card in (self.detector, self.embedder, *(card for card, _ in self.extra)):
            version = found.setdefault(card.name, str(card.version))
            if version != str(card.version):
                raise Misconfigured(f"{card.name} is named at the versions {version} and {card.version}: use one")
        return found


def cards_of(settings: Settings) -> Cards:
    """The cards of the models that the settings name.

    Raises:
        Misconfigured: a model is not exported into the repository, or not the file that its card names.
    """
    repository, triton = settings.repository_folder, settings.triton
    features = [_feature(text) for text in triton.extra_features]
    return Cards(
        read_card(repository, *named(triton.detector)),
        read_card(repository, *named(triton.embedder)),
        tuple((read_card(repository, *named(model)), output) for model, output in features),
    )


def _feature(text: str) -> tuple[str, str]:
    """An extra feature as settings name it: its model, as `named` takes it, and its output."""
    model, _, output = text.partition("/")
    return model, output or CODES


def named(text: str) -> tuple[str, int]:
    """A served model as settings name it: NAME, which is its version 1, or NAME@VERSION.

    Raises:
        Misconfigured: the version is no number above 0.
    """
    name, at, version = text.partition("@")
    if at and not (version.isdecimal() and int(version) > 0):
        raise Misconfigured(f"{text!r} names no model: NAME or NAME@VERSION")
    return name, int(version) if at else 1


def labels_file(settings: Settings) -> Path:
    """The detector's labels, one on each line, in the order of its indices."""
    return settings.repository_folder / named(settings.triton.detector)[0] / LABELS


def triton_client(settings: Settings, observer: Observer, *, extra: bool = True) -> TritonClient:
    """A client of the served models, pinned to the versions of their cards.

    Args:
        settings: which models.
        observer: who counts.
        extra: with the extra features, which records carry; queries are searched without them.

    Raises:
        Misconfigured: there is no address, or no cards.
    """
    from triton_models.client import TritonClient

    if not settings.triton.address:
        raise Misconfigured("no Triton address: start a local stack (dotstream up) or set triton.address")
    cards = cards_of(settings)
    return TritonClient(
        settings.triton.address,
        labels=labels_file(settings),
        detector=cards.detector.name,
        embedder=cards.embedder.name,
        extra=[Extra(card.name, output) for card, output in cards.extra] if extra else (),
        versions=cards.versions,
        deadline_s=settings.triton.deadline_s,
        shared_memory=settings.triton.co_located,
        observer=observer,
    )


def vision_settings(settings: Settings) -> VisionSettings:
    """What counts as an object, and the pictures that the two models take.

    Raises:
        Misconfigured: a model has no readable configuration, or it takes no square pictures.
    """
    vision = settings.vision
    return VisionSettings(
        detection_threshold=vision.detection_threshold,
        max_objects=vision.max_objects,
        crop_margin=vision.crop_margin,
        detector_size=_picture_side(settings, settings.triton.detector),
        embedder_size=_picture_side(settings, settings.triton.embedder),
    )


def _picture_side(settings: Settings, model: str) -> int:
    config, path = _model_config(settings, model)
    sides = [int(side) for one in config.input for side in one.dims if one.name == "image"]
    if len(sides) != 3 or sides[0] != sides[1] or sides[0] < 1:
        raise Misconfigured(f"{path} declares no input `image` of square pictures")
    return sides[0]


def vision_of(settings: Settings, client: TritonClient) -> Vision:
    """The pipeline over `client`."""
    return Vision(client, vision_settings(settings))


def box_embedder(settings: Settings, client: TritonClient, pictures: PictureStore) -> Embeds:
    """Cuts boxes out of a stored picture as the pipeline does, and embeds them."""
    import numpy as np

    decoded, vision = decoder_of(settings), vision_settings(settings)

    def embed(image_ref: str, boxes: Sequence[Box]) -> list[tuple[bytes, ...]]:
        pixels = decoded(pictures.get(image_ref)).pixels
        cuts = [widened(box, vision.crop_margin) for box in boxes]
        crops = np.stack([crop_resize(pixels, cut, vision.embedder_size) for cut in cuts])
        codes = client.codes(crops)
        return [codes_at(codes, row) for row in range(len(crops))]

    return embed


def pipeline_of(settings: Settings) -> Pipeline:
    """What the generation must have been made with for this process to work for it."""
    cards = cards_of(settings)
    labels = hashlib.sha256(labels_file(settings).read_bytes()).hexdigest()
    digests = {"detector": cards.detector.sha256, "embedder": cards.embedder.sha256, "labels": labels}
    digests |= {f"extra {n}/{output}": card.sha256 for n, (card, output) in enumerate(cards.extra)}
    print_of = fingerprint(digests, vision_settings(settings))
    names = tuple(f"{card.label}/{output}" for card, output in cards.extra)
    widths = tuple(_bits(settings, *_feature(text)) for text in settings.triton.extra_features)
    return Pipeline(print_of, cards.detector.label, cards.embedder.label, code_bits(settings), names, widths)


def code_bits(settings: Settings) -> int:
    """Width of the embedder's codes, as the configuration that Triton serves it with declares it.

    Raises:
        Misconfigured: the model has no readable configuration with an output `codes`.
    """
    return _bits(settings, settings.triton.embedder, CODES)


def _bits(settings: Settings, model: str, name: str) -> int:
    config, path = _model_config(settings, model)
    for output in config.output:
        if output.name == name:
            return int(output.dims[0]) * 8
    raise Misconfigured(f"{path} declares no output `{name}`")


def _model_config(settings: Settings, model: str) -> tuple[ModelConfig, Path]:
    """The configuration that Triton serves a model with, and its file."""
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    path = settings.repository_folder / named(model)[0] / CONFIG
    try:
        return text_format.Parse(path.read_text(), ModelConfig()), path
    except (OSError, text_format.ParseError) as error:
        raise Misconfigured(f"{path} cannot be read: {error}") from error


def picture_limits(settings: Settings) -> PictureLimits:
    limits = settings.pictures
    return PictureLimits(
        max_bytes=limits.max_bytes, max_pixels=limits.max_pixels, min_side=limits.min_side, max_side=limits.max_side
    )


def decoder_of(settings: Settings) -> Callable[[bytes], Picture]:
    """The guarded decoder with the limits of the settings."""
    limits = picture_limits(settings)
    return lambda data: decode(data, limits)


def fetcher_of(settings: Settings, clock: Clock) -> Fetcher:
    """The fetcher with the policy of the settings."""
    from consumers.addresses import FetchPolicy
    from consumers.buckets import open_buckets
    from consumers.fetch import Fetcher

    fetch = settings.fetch
    policy = FetchPolicy(
        http="http" in fetch.schemes,
        hosts=fetch.hosts,
        ports=frozenset(fetch.ports),
        private_networks=EVERY_NETWORK if fetch.private_networks else (),
        file_roots=tuple(Path(root) for root in fetch.file_roots) if "file" in fetch.schemes else (),
        max_bytes=settings.pictures.max_bytes,
        limit_s=fetch.timeout_s,
    )
    return Fetcher(policy, clock=clock, buckets=open_buckets(fetch.buckets, policy))


def pictures_of(settings: Settings) -> PictureStore:
    from indexer.pictures import PictureStore

    return PictureStore(settings.pictures_url)


def results_of(settings: Settings) -> ResultCache:
    """The cache of vision results, beside the pictures."""
    from indexer.pictures import ResultCache

    return ResultCache(settings.results_url)
