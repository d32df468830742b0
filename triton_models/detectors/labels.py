"""Label maps: the classes of a detector in groups, and what other data sets call them.

The paper reports 79 categories in three groups: fashion, home decor, vehicles. A label map is a TOML file:

    [groups]
    fashion = ["Footwear", "Boot", "High heels"]
    "home decor" = ["Chair", "Table", "Desk"]

    [aliases]           # optional: what a detector says -> the data's class that it means
    Desk = "Table"

Classes that no group names are in the group "other". The order of the classes is that of the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotstream.errors import Misconfigured

OTHER = "other"
FOLDER = Path(__file__).parent / "label_maps"


@dataclass(frozen=True)
class LabelMap:
    """Classes, their groups and their other names.

    Attributes:
        groups: group -> its classes.
        aliases: another name -> the class.
    """

    groups: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self.names
        if not names or len(set(names)) != len(names):
            raise Misconfigured("a label map names each of its classes once, and at least one")
        if unknown := sorted(set(self.aliases.values()) - set(names)):
            raise Misconfigured(f"aliases of classes that no group names: {', '.join(unknown)}")

    @property
    def names(self) -> tuple[str, ...]:
        """All classes, in order."""
        return tuple(name for names in self.groups.values() for name in names)

    def meant(self, name: str) -> str:
        """The class that a name stands for: its alias, or itself."""
        return self.aliases.get(name, name)

    def group_of(self, name: str) -> str:
        return next((group for group, names in self.groups.items() if name in names), OTHER)


def read_label_map(path: Path) -> LabelMap:
    """Reads a label map from a file.

    Raises:
        Misconfigured: it cannot be read, or is no label map; the message says why.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured(f"label map {path}: {error}") from error
    groups, aliases = values.get("groups", {}), values.get("aliases", {})
    if set(values) - {"groups", "aliases"} or not _is_names(groups) or not _is_text(aliases):
        raise Misconfigured(f"label map {path}: needs [groups] with lists of names, and may have [aliases]")
    return LabelMap({group: tuple(names) for group, names in groups.items()}, aliases)


def plain_label_map(names: Sequence[str]) -> LabelMap:
    """A map of classes without groups."""
    return LabelMap({OTHER: tuple(names)})


def _is_names(groups: Any) -> bool:
    if not isinstance(groups, dict) or not groups:
        return False
    return all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in groups.values())


def _is_text(aliases: Any) -> bool:
    return isinstance(aliases, dict) and all(isinstance(name, str) for name in aliases.values())
