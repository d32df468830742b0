"""The card of an exported model: what the served file is, where it came from, and its digest.

`card.json` lies beside `model.onnx` in the version's directory. Export reads it to see that nothing is left to do,
and the pipeline's fingerprint takes the digest from it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dotstream.errors import Misconfigured
from triton_models.files import has_sha256, write_whole

MODEL_FILE = "model.onnx"
CARD_FILE = "card.json"


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""A model's name is that of its folder in the repository."""


@dataclass(frozen=True)
class ModelCard:
    """One version of one served model.

    Attributes:
        name, version: as Triton serves them.
        sha256: of `model.onnx`, hexadecimal.
        recipe: the export's revision and settings; a file made by another recipe is exported again.
        source: registry, package, version and file that the weights came from.
        source_sha256: of the weights, hexadecimal.
        licence: SPDX identifier of the weights.
        run: the training that made the weights; empty for published ones.
        data: what it was trained on; empty where the source says it.
        metrics: measured before it was exported, by name.
    """

    name: str
    version: int
    sha256: str
    recipe: str
    source: str
    source_sha256: str
    licence: str
    run: str = ""
    data: str = ""
    metrics: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Misconfigured(f"{self.name!r} is no name of a model: letters, digits, and _ . - behind the first")

    @property
    def label(self) -> str:
        """As records name the model: "name@version"."""
        return f"{self.name}@{self.version}"

    def write(self, folder: Path) -> None:
        """Writes `card.json` into a version's directory."""
        write_whole(folder / CARD_FILE, (json.dumps(asdict(self), indent=2) + "\n").encode())


def read_card(repository: Path, name: str, version: int = 1) -> ModelCard:
    """The card of a model in a repository, its file checked against it.

    Raises:
        Misconfigured: the model is not exported, or its file is not the one of the card.
    """
    folder = repository / name / str(version)
    try:
        card = ModelCard(**json.loads((folder / CARD_FILE).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise Misconfigured(f"{folder} holds no exported model: run `dotstream models export`") from error
    if not has_sha256(folder / MODEL_FILE, card.sha256):
        raise Misconfigured(f"{folder / MODEL_FILE} is not the file of its card: run `dotstream models export`")
    return card


def read_cards(repository: Path) -> list[ModelCard]:
    """The cards of every exported version in a repository, by name and version.

    Raises:
        Misconfigured: a file is not the one of its card.
    """
    found = [path.parent for path in repository.glob(f"*/*/{CARD_FILE}") if path.parent.name.isdigit()]
    places = sorted((folder.parent.name, int(folder.name)) for folder in found)
    return [read_card(repository, name, version) for name, version in places]
