"""The table that says what a 3-D model is: `furniture_labels.toml`, names of the catalogue under label and group."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources

from dotstream.errors import Misconfigured
from triton_models.data.library import FurnitureModel

TABLE = "furniture_labels.toml"


@dataclass(frozen=True)
class Label:
    """What a model is: its label, and the group that the paper's Table 3 would count it in."""

    name: str
    group: str


class LabelTable:
    """Catalogue name, or "Category/name", -> label.

    Args:
        text: TOML; a group is a table of label = [names].

    Raises:
        Misconfigured: a name stands under two labels, or a label in two groups.
    """

    def __init__(self, text: str) -> None:
        self._by_name: dict[str, Label] = {}
        self.labels: dict[str, Label] = {}
        for group, labels in tomllib.loads(text).items():
            for name, names in labels.items():
                if name in self.labels:
                    raise Misconfigured(f"label {name} is in two groups: {self.labels[name].group} and {group}")
                self.labels[name] = Label(name, group)
                for catalogue_name in names:
                    if catalogue_name in self._by_name:
                        raise Misconfigured(
                            f"{catalogue_name!r} is both {self._by_name[catalogue_name].name} and {name}"
                        )
                    self._by_name[catalogue_name] = self.labels[name]

    def label_of(self, model: FurnitureModel) -> Label | None:
        """The model's label, or None where the table does not name it. "Category/name" goes before the bare name."""
        specific = self._by_name.get(f"{model.category}/{model.name}")
        return specific or self._by_name.get(model.name)


def furniture_labels() -> LabelTable:
    """The table of this project."""
    return LabelTable(resources.files(__package__).joinpath(TABLE).read_text())
