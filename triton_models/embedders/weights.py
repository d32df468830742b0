"""Where an embedder's weights come from, and the record of it that goes with every result.

    torchvision   torchvision's own ImageNet weights, downloaded into the cache and checked against their digest
    package       the registry package that carries EfficientNet-Lite0, or the detector whose trunk is MobileNetV2
    FILE          a checkpoint of `dotstream train embedder`, or a state file as torchvision publishes them
    random        untrained, only when asked for by that word, and labelled RANDOM everywhere

What cannot be reached is an error; nothing falls back to random weights. Files are read with `weights_only`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
import torch
from torch import Tensor
from torchvision import models

from dotstream.errors import Fatal, Misconfigured, Unavailable
from triton_models.detectors.packaged import packaged_network
from triton_models.embedders.catalogue import PACKAGED, specs_of
from triton_models.embedders.networks import CLASSIFIER, IMAGENET_CLASSES, Network
from triton_models.fetch import DETECTOR, EMBEDDER, fetch, fetch_embedder
from triton_models.files import locked, sha256_of, write_whole
from triton_models.training.records import read_state

FORMAT = "dotstream embedder 1"
DOWNLOAD_LIMIT_S = 30.0
LARGEST_DOWNLOAD = 1 << 30

PUBLISHED: Mapping[str, Any] = {
    "alexnet": models.AlexNet_Weights.IMAGENET1K_V1,
    "googlenet": models.GoogLeNet_Weights.IMAGENET1K_V1,
    "vgg16": models.VGG16_Weights.IMAGENET1K_V1,
    "resnet101": models.ResNet101_Weights.IMAGENET1K_V1,
    "resnet152": models.ResNet152_Weights.IMAGENET1K_V1,
}


@dataclass(frozen=True)
class Origin:
    """Which weights these are.

    Attributes:
        text: for a person, in every result.
        sha256: of the file, hexadecimal; empty for random ones.
        licence: SPDX identifier, or what is known.
        trained: whether anybody trained them; False is shown as RANDOM.
    """

    text: str
    sha256: str
    licence: str
    trained: bool = True


@dataclass(frozen=True)
class Loaded:
    """A network in evaluation mode, where its weights came from, and what a checkpoint says of it.

    Attributes:
        side: of the picture that it was trained on.
        about: the checkpoint's description; empty for published weights.
        thresholds: layer -> calibrated thresholds float32 [d] that were stored with it.
    """

    network: Network
    origin: Origin
    side: int
    about: Mapping[str, Any]
    thresholds: Mapping[str, Tensor]


def load(architecture: str, source: str, *, cache: Path, seed: int = 0) -> Loaded:
    """A network with its weights.

    Args:
        architecture: of the catalogue.
        source: "torchvision", "package", "random", "default" (package where there is one, else torchvision), or a path.
        cache: folder of downloads.
        seed: of random weights.

    Raises:
        Unavailable: the download cannot be reached.
        Misconfigured: no such source, file or architecture, or the file is of another architecture.
        Fatal: a download is not what its digest says.
    """
    side = specs_of(architecture)[0].side
    if source == "default":
        source = "package" if architecture in PACKAGED else "torchvision"
    if source == "random":
        torch.manual_seed(seed)
        origin = Origin(f"RANDOM, untrained (seed {seed})", "", "none", trained=False)
        return Loaded(Network(architecture).eval(), origin, side, {}, {})
    if source == "package":
        return _packaged(architecture, cache, side)
    if source == "torchvision":
        return _published(architecture, *_downloaded(architecture, cache), side)
    return _of_file(architecture, Path(source), side)


def _packaged(architecture: str, cache: Path, side: int) -> Loaded:
    if architecture not in PACKAGED:
        raise Misconfigured(f"no package carries weights of {architecture}; use torchvision or a file")
    if architecture == "mobilenet_v2":
        network = Network(architecture)
        network.body = packaged_network(fetch(cache).detector)
        text = f"{DETECTOR.registry} {DETECTOR.package} {DETECTOR.version} (Open Images v4 detection)"
        return Loaded(network.eval(), Origin(text, DETECTOR.sha256, DETECTOR.licence), side, {}, {})
    text = f"{EMBEDDER.registry} {EMBEDDER.package} {EMBEDDER.version} (ImageNet)"
    return _published(architecture, fetch_embedder(cache), Origin(text, EMBEDDER.sha256, EMBEDDER.licence), side)


def _of_file(architecture: str, path: Path, side: int) -> Loaded:
    if architecture not in CLASSIFIER:
        raise Misconfigured(f"{architecture} is no classifier: only its package's weights are known")
    state = read_state(path)
    sha256 = sha256_of(path)
    if state.get("format") != FORMAT:
        return _published(
            architecture, path, Origin(f"file {path.name} ({sha256[:12]})", sha256, "as the file's"), side
        )
    about = state["about"]
    if about["architecture"] != architecture:
        raise Misconfigured(f"{path} is a checkpoint of {about['architecture']}, not of {architecture}")
    network = Network(architecture, len(about["classes"]))
    _fill(network, state["model"], path, architecture)
    text = f"trained by dotstream on {about['data']}: step {state['step']} of {path.name} ({sha256[:12]})"
    origin = Origin(f"{text}, from {about['base']}", sha256, about["licence"])
    return Loaded(network.eval(), origin, int(about["side"]), about, state.get("thresholds", {}))


def _published(architecture: str, path: Path, origin: Origin, side: int) -> Loaded:
    """A state file of torchvision or the package; its classifier may have any number of classes."""
    state = {f"body.{name}": value for name, value in read_state(path).items() if not name.startswith("aux")}
    last = state.get(f"body.{CLASSIFIER[architecture]}.weight")
    network = Network(architecture, IMAGENET_CLASSES if last is None else len(last))
    _fill(network, state, path, architecture)
    return Loaded(network.eval(), origin, side, {}, {})


def _fill(network: Network, state: Mapping[str, Any], path: Path, architecture: str) -> None:
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).splitlines()[:2]
        raise Misconfigured(f"{path} is not of {architecture}: {' '.join(first)}") from error


def _downloaded(architecture: str, cache: Path) -> tuple[Path, Origin]:
    if architecture not in PUBLISHED:
        raise Misconfigured(f"torchvision has no {architecture}; use the package or a file")
    published = PUBLISHED[architecture]
    name = PurePosixPath(httpx.URL(published.url).path).name
    digest = name.rpartition("-")[2].removesuffix(".pth")
    path = cache / "weights" / name
    with locked(path.parent / "lock"):
        if not path.is_file():
            write_whole(path, _download(published.url, digest))
        sha256 = sha256_of(path)
    if not sha256.startswith(digest):
        raise Fatal(f"{path} is not the file that torchvision names: remove it")
    return path, Origin(f"torchvision {published} (ImageNet)", sha256, "BSD-3-Clause (torchvision)")


def _download(url: str, digest: str) -> bytes:
    data = bytearray()
    try:
        with httpx.stream("GET", url, timeout=DOWNLOAD_LIMIT_S, follow_redirects=True) as response:
            response.raise_for_status()
            for part in response.iter_bytes():
                data += part
                if len(data) > LARGEST_DOWNLOAD:
                    raise Fatal(f"{url} is larger than {LARGEST_DOWNLOAD} bytes")
    except httpx.HTTPError as error:
        raise Unavailable(
            f"torchvision's weights cannot be downloaded ({error}): fetch {url} where it can be reached and name the "
            "file, or ask for random weights by that word"
        ) from error
    if not hashlib.sha256(data).hexdigest().startswith(digest):
        raise Fatal(f"{url} gave a file whose SHA-256 does not begin with {digest}")
    return bytes(data)
