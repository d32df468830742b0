"""Fine-tunes a classifier as section 4 does: the classification layer is new, the lower layers keep their weights.

The new layer learns faster than the ones below (`head_rate`). Pictures are cropped and mirrored at random, decided by
the seed, the epoch and the picture alone. Training and evaluation never share an object: the training split is read
here, and the evaluation reads another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dotstream.errors import Misconfigured
from triton_models.data.manifest import Labelled, labels_of, read_labelled
from triton_models.data.problems import write_problems
from triton_models.data.seeds import generator
from triton_models.embedders.networks import CLASSIFIER, Network
from triton_models.embedders.pictures import square, usable
from triton_models.embedders.weights import FORMAT, load
from triton_models.pixels import crop_resize
from triton_models.training.loop import Run
from triton_models.training.settings import TrainSettings

Say = Callable[[str], None]
IN_MEMORY = 1 << 30
"""Bytes of decoded pictures that are kept; beyond that every picture is decoded again when its turn comes."""


@dataclass(frozen=True)
class EmbedderRecipe:
    """What is fine-tuned on what.

    Attributes:
        architecture: of the catalogue.
        weights: where the lower layers come from, as `weights.load` takes it; "random" trains from nothing.
        side: of the pictures, pixels.
        head_rate: learning rate of the new layer over that of the others.
        smallest_crop: least share of a side that a random crop keeps; 1 crops nothing.
    """

    architecture: str
    weights: str = "default"
    side: int = 224
    head_rate: float = 10.0
    smallest_crop: float = 0.7

    def __post_init__(self) -> None:
        if not 32 <= self.side <= 512 or self.head_rate <= 0 or not 0 < self.smallest_crop <= 1:
            raise Misconfigured(f"side 32..512, head_rate above 0 and smallest_crop in (0, 1] are needed: {self}")


def train(
    recipe: EmbedderRecipe,
    source: Path,
    settings: TrainSettings,
    folder: Path,
    *,
    cache: Path,
    resume: bool = False,
    say: Say = lambda _line: None,
) -> Path:
    """Trains on the split "train" of the data, or on all of data without splits; returns the last checkpoint.

    Raises:
        Misconfigured: data, weights or folder are not fit; see there.
        Unavailable: the weights cannot be fetched.
        LossNotFinite: the last good checkpoint stays.
    """
    pictures, problems = read_labelled(source)
    if any(picture.split for picture in pictures):
        pictures = [picture for picture in pictures if picture.split == "train"]
    pictures, broken = usable(pictures)
    folder.mkdir(parents=True, exist_ok=True)
    write_problems(folder, [*problems, *broken])
    classes = labels_of(pictures)
    if len(classes) < 2:
        raise Misconfigured(f"{source} has {len(classes)} classes with usable training pictures; two are needed")
    say(f"{len(pictures)} pictures of {len(classes)} classes, {len(problems) + len(broken)} left out (problems.jsonl)")
    loaded = load(recipe.architecture, recipe.weights, cache=cache, seed=settings.seed)
    say(f"base weights: {loaded.origin.text}")
    network = with_classes(loaded.network, len(classes), settings.seed)
    about = {
        "format": FORMAT,
        "architecture": recipe.architecture,
        "classes": classes,
        "side": recipe.side,
        "base": loaded.origin.text,
        "licence": loaded.origin.licence if loaded.origin.trained else "yours: trained from nothing",
        "data": described(source, pictures),
        "recipe": asdict(recipe),
        "training": {name: value for name, value in asdict(settings).items() if name not in {"device", "threads"}},
    }
    batch = Batches(pictures, classes, recipe, settings)

    def loss(step: int, device: torch.device) -> tuple[Tensor, Mapping[str, float]]:
        images, wanted = batch(step)
        scores = network(images.to(device))
        value = nn.functional.cross_entropy(scores.float(), wanted.to(device))
        right = (scores.argmax(dim=1).cpu() == wanted).float().mean()
        return value, {"accuracy": round(float(right), 4)}

    return Run(network, _groups(network, recipe, settings), loss, settings, folder, about).go(resume=resume, say=say)


def with_classes(network: Network, classes: int, seed: int) -> Network:
    """The network with a new, random classification layer; all others keep their weights."""
    torch.manual_seed(seed)
    old = network.classifier()
    fresh = nn.Linear(old.in_features, classes)
    nn.init.normal_(fresh.weight, std=0.01)
    nn.init.zeros_(fresh.bias)
    network.body.set_submodule(CLASSIFIER[network.architecture], fresh)
    network.classes = classes
    return network


class Batches:
    """step -> (uint8 [n, side, side, 3], int64 [n]), drawn without repetition within an epoch."""

    def __init__(
        self, pictures: Sequence[Labelled], classes: Sequence[str], recipe: EmbedderRecipe, settings: TrainSettings
    ) -> None:
        self._pictures, self._recipe, self._settings = pictures, recipe, settings
        self._wanted = np.array([classes.index(picture.label) for picture in pictures])
        self._keep = len(pictures) * recipe.side**2 * 3 <= IN_MEMORY
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._pool = ThreadPoolExecutor(max(1, settings.threads or torch.get_num_threads()))
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        places = [self._place(step * self._settings.batch + turn) for turn in range(self._settings.batch)]
        rows = list(self._pool.map(self._augmented, places))
        wanted = self._wanted[[place for place, _ in places]]
        return torch.from_numpy(np.stack(rows)), torch.from_numpy(wanted)

    def _place(self, position: int) -> tuple[int, int]:
        """The picture at a position of the endless stream of epochs: (its place, its epoch)."""
        epoch, turn = divmod(position, len(self._pictures))
        if epoch != self._epoch:
            self._order = generator(self._settings.seed, "epoch", epoch).permutation(len(self._pictures))
            self._epoch = epoch
        return int(self._order[turn]), epoch

    def _augmented(self, place_and_epoch: tuple[int, int]) -> NDArray[np.uint8]:
        place, epoch = place_and_epoch
        pixels = self._kept.get(place)
        if pixels is None:
            pixels = square(self._pictures[place].path, self._recipe.side)
            if self._keep:
                self._kept[place] = pixels
        rng = generator(self._settings.seed, "augment", epoch, place)
        width, height = rng.uniform(self._recipe.smallest_crop, 1.0, 2)
        left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        if min(width, height) < 1:
            pixels = crop_resize(pixels, (left, top, left + width, top + height), self._recipe.side)
        return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def _groups(network: Network, recipe: EmbedderRecipe, settings: TrainSettings) -> list[dict[str, Any]]:
    head = set(network.classifier().parameters())
    lower = [value for value in network.parameters() if value not in head]
    return [
        {"params": lower, "lr": settings.learning_rate},
        {"params": list(head), "lr": settings.learning_rate * recipe.head_rate},
    ]


def described(source: Path, pictures: Sequence[Labelled]) -> str:
    """Data in a few words for people: where it is from, how much, and whether it is synthetic."""
    synthetic = sum(picture.synthetic for picture in pictures)
    kind = "SYNTHETIC " if synthetic == len(pictures) else "partly SYNTHETIC " if synthetic else ""
    name = "/".join(source.resolve().parts[-2:])
    return f"{kind}{name} ({len(pictures)} pictures, {len(labels_of(pictures))} classes)"
