"""Where a detector's weights begin: torchvision's download, a local file, the package of the light detector, or random.

Random weights come only when they are asked for by that word, and everything made from them says so. A file is a
checkpoint of `dotstream train embedder`, or a state dict as torchvision names its layers (a fine-tuned classifier, as
the paper's bases are), or nothing at all: what does not fit is refused, never loaded in part. Files are read with
`weights_only`, so that none can run code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

from torch import Tensor, nn
from torchvision.models import ResNet101_Weights, VGG16_Weights

from dotstream.errors import Unavailable
from triton_models.detectors.spec import WrongCheckpoint
from triton_models.files import sha256_of
from triton_models.training.records import read_state

TORCHVISION = "torchvision"
PACKAGED = "packaged"
RANDOM = "random"


@dataclass(frozen=True)
class Provenance:
    """Where weights came from, for people: every result that rests on them shows it."""

    text: str

    @property
    def is_random(self) -> bool:
        return self.text.startswith("RANDOM")


def random_weights(seed: int) -> Provenance:
    return Provenance(f"RANDOM WEIGHTS (seed {seed})")


def load_classifier(base: nn.Module, source: str) -> Provenance:
    """Fills a VGG16 or ResNet101 of torchvision.

    Args:
        base: the classifier whose layers the detector shares.
        source: "torchvision" or the path of a file.

    Raises:
        Unavailable: torchvision's download cannot be reached.
        WrongCheckpoint: the file is of another network.
        Misconfigured: the file cannot be read.
    """
    if source == TORCHVISION:
        weights = VGG16_Weights.IMAGENET1K_V1 if hasattr(base, "features") else ResNet101_Weights.IMAGENET1K_V2
        try:
            state = weights.get_state_dict(progress=False, check_hash=True, map_location="cpu")
        except (URLError, OSError, RuntimeError) as error:
            raise Unavailable(
                f"torchvision's weights cannot be fetched ({error}): bring the file of {weights.url} and name it "
                f'(weights = "FILE"), or say weights = "{RANDOM}" to train from nothing'
            ) from error
        origin = f"torchvision {weights}"
    else:
        path = Path(source)
        state = read_state(path)
        origin = f"file {path.name} sha256 {sha256_of(path)[:16]}"
        if "about" in state and "model" in state:
            origin += f", fine-tuned on {state['about'].get('data')} from {state['about'].get('base')}"
            state = {name.removeprefix("body."): value for name, value in state["model"].items()}
    _fill(base, state, origin)
    return Provenance(origin)


def _fill(base: nn.Module, state: Any, origin: str) -> None:
    """The classifier's own last layer may count other classes: the detector does not use it."""
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WrongCheckpoint(f"{origin}: not a state dict of tensors")
    own = base.state_dict()
    last = {name for name in own if name.startswith(("fc.", "classifier.6."))}
    needed = {name: value.shape for name, value in own.items() if name not in last and "num_batches" not in name}
    given = {name: value for name, value in state.items() if name in needed}
    wrong = [name for name, shape in needed.items() if name not in given or given[name].shape != shape]
    if wrong:
        raise WrongCheckpoint(
            f"{origin}: not the weights of this base network; {len(wrong)} of {len(needed)} tensors are missing or of "
            f"another shape, the first is {wrong[0]}"
        )
    base.load_state_dict({**own, **given})
