"""A user's own pins as data: catalogues that `dotstream publish` takes, read for their pictures and annotations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dotstream.clock import SystemClock
from dotstream.errors import Misconfigured
from producers.events_pb2 import PinEvent
from producers.manifests import ManifestError, read
from triton_models.data.annotated import Annotated
from triton_models.data.problems import Problem
from triton_models.files import write_whole

_SUFFIX = {b"\xff\xd8": ".jpg", b"\x89P": ".png"}


def annotated_pins(catalogues: Sequence[Path], images: Path) -> tuple[list[Annotated], list[Problem]]:
    """Pins with their pictures and annotations, and rows that cannot be used: no good, or their picture is not here.

    Args:
        catalogues: as `dotstream publish` takes them.
        images: folder for pictures that the catalogue's reader gives as bytes, which it does with small files.
    """
    pictures: list[Annotated] = []
    problems: list[Problem] = []
    for item in read(catalogues, now_ms=SystemClock().now_ms):
        if isinstance(item, ManifestError):
            problems.append(Problem(item.where, "bad_row", item.reason))
            continue
        path = _picture(item, images)
        if path is None:
            problems.append(Problem(item.pin_id, "picture_not_local", item.image.url or "no picture"))
        else:
            pictures.append(Annotated(item.pin_id, path, tuple(item.annotations)))
    return pictures, problems


def _picture(pin: PinEvent, images: Path) -> Path | None:
    if pin.image.inline:
        path = images / f"{hashlib.sha256(pin.image.inline).hexdigest()}{_SUFFIX.get(pin.image.inline[:2], '.webp')}"
        if not path.is_file():
            write_whole(path, pin.image.inline)
        return path
    address = urlsplit(pin.image.url)
    return Path(unquote(address.path)) if address.scheme == "file" else None


def read_queries(path: Path) -> list[str]:
    """Search queries, one on each line, the most frequent first.

    Raises:
        Misconfigured: the file cannot be read or is empty.
    """
    try:
        queries = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} cannot be read: {error}") from error
    if not queries:
        raise Misconfigured(f"{path} has no queries: one on each line, the most frequent first")
    return queries
