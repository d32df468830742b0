"""The furniture libraries of Debian's `sweethome3d-furniture`: named, textured 3-D models in `.sh3f` archives.

A library is a zip with `PluginFurnitureCatalog.properties` (entries `key#N=value`), and a folder with a Wavefront OBJ,
its MTL and textures for each model. The hold-out list (held_out.txt) is applied here, at the only door through which
models come in: a listed model is never unpacked.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath

from dotstream.errors import Misconfigured

LIBRARIES = Path("/usr/share/sweethome3d/furniture")
PACKAGE = "sweethome3d-furniture"
CATALOGUE = "PluginFurnitureCatalog.properties"
LICENCES = {
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0-US",
    "Reallusion": "CC-BY-3.0-US",
    "Scopia": "CC-BY-3.0",
}
_ENTRY = re.compile(r"(\w+)#(\d+)=(.*)")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_MATERIAL = re.compile(r"^\s*(newmtl|Ka|Kd|Ks|Ns|d|Tr|illum|map_Kd)\b")
"""What the renderer uses of a material; bump maps and the like only make it complain about options."""


@dataclass(frozen=True)
class FurnitureModel:
    """One 3-D model.

    Attributes:
        library: name of the archive, without its suffix.
        ident: the catalogue's identifier behind its '#'.
        folder: the model's folder in the archive, its last part.
        name, category: English, as the catalogue has them.
        creator, licence: for attribution.
        member: path of the OBJ in the archive.
        rotation: row by row, the 3 x 3 matrix that puts the model upright, or None.
    """

    library: str
    ident: str
    folder: str
    name: str
    category: str
    creator: str
    licence: str
    member: str
    rotation: tuple[float, ...] | None

    @property
    def key(self) -> str:
        """As the hold-out list and all results name it: "library#ident"."""
        return f"{self.library}#{self.ident}"

    @property
    def keys(self) -> frozenset[str]:
        """Every name under which the hold-out list may mean this model."""
        return frozenset({self.key, f"{self.library}#{self.folder}"})


def held_out() -> frozenset[str]:
    """The names on the hold-out list."""
    text = resources.files(__package__).joinpath("held_out.txt").read_text()
    return frozenset(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


def refuse_held_out(model: FurnitureModel, listed: frozenset[str]) -> None:
    """Raises Misconfigured if the model is on the hold-out list."""
    if model.keys & listed:
        raise Misconfigured(f"{model.key} is on the hold-out list (triton_models/data/held_out.txt): never rendered")


def read_libraries(folder: Path = LIBRARIES) -> list[FurnitureModel]:
    """Every model of every library in the folder, held-out ones included, sorted by key.

    Raises:
        Misconfigured: there are no libraries: the Debian package is not installed.
    """
    archives = sorted(folder.glob("*.sh3f"))
    if not archives:
        raise Misconfigured(f"no furniture libraries in {folder}: ops/setup.sh --data (Debian package {PACKAGE})")
    return sorted((model for archive in archives for model in _read_library(archive)), key=lambda model: model.key)


def _read_library(archive: Path) -> list[FurnitureModel]:
    with zipfile.ZipFile(archive) as content:
        lines = content.read(CATALOGUE).decode("latin-1").splitlines()
    entries: dict[str, dict[str, str]] = {}
    for line in lines:
        found = _ENTRY.fullmatch(line)
        if found:
            value = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), found[3].strip())
            entries.setdefault(found[2], {})[found[1]] = value
    return [_model(archive.stem, entry) for entry in entries.values() if entry.get("model", "").endswith(".obj")]


def _model(library: str, entry: dict[str, str]) -> FurnitureModel:
    member = entry["model"].lstrip("/")
    rotation = tuple(float(part) for part in entry.get("modelRotation", "").split())
    return FurnitureModel(
        library=library,
        ident=entry["id"].partition("#")[2],
        folder=PurePosixPath(member).parent.name,
        name=entry["name"],
        category=entry["category"],
        creator=entry.get("creator", ""),
        licence=LICENCES.get(library, "see the library's LICENSE.TXT"),
        member=member,
        rotation=rotation if len(rotation) == 9 else None,
    )


def unpack(model: FurnitureModel, target: Path, libraries: Path = LIBRARIES) -> Path:
    """Unpacks a model's files into `target` and returns its OBJ.

    Raises:
        Misconfigured: the model is on the hold-out list, or not in its library.
    """
    refuse_held_out(model, held_out())
    inside = PurePosixPath(model.member).parent
    with zipfile.ZipFile(libraries / f"{model.library}.sh3f") as content:
        for info in content.infolist():
            path = PurePosixPath(info.filename)
            if info.is_dir() or not path.is_relative_to(inside) or ".." in path.parts:
                continue
            data = content.read(info)
            place = target / path.relative_to(inside)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(_CLEANED.get(place.suffix.lower(), bytes)(data))
    obj = target / PurePosixPath(model.member).name
    if not obj.is_file():
        raise Misconfigured(f"{model.key}: no {model.member} in its library")
    return obj


def _plain_material(data: bytes) -> bytes:
    lines = data.decode("latin-1").splitlines()
    return "\n".join(line for line in lines if _MATERIAL.match(line)).encode("latin-1") + b"\n"


def _whole_faces(data: bytes) -> bytes:
    """Without faces of fewer than three corners, at which the renderer's reader gives up on the whole model."""
    return b"\n".join(line for line in data.splitlines() if not line.startswith(b"f ") or len(line.split()) > 3) + b"\n"


_CLEANED: dict[str, Callable[[bytes], bytes]] = {".mtl": _plain_material, ".obj": _whole_faces}
