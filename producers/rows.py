"""One row of a catalogue of pins, or one picture on disk, as a pin event.

What producers/manifests.py reads from CSV, JSONL and Parquet arrives here as a dictionary; what is wrong with it leaves
as `Poison`, whose detail the caller puts beside the place of the row.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from dotstream.errors import Poison
from producers.events import validate_pin
from producers.events_pb2 import PinEvent

INLINE_LIMIT = 900_000
"""Bytes up to which a picture on disk travels inside its event; larger ones go by file:// URL."""

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
COLUMNS = frozenset(
    {
        "pin_id",
        "image",
        "board_id",
        "title",
        "annotations",
        "category",
        "category_weights",
        "buyable",
        "link",
        "version",
        "event_time",
    }
)
"""What a row may hold. Of category and category_weights one is enough; only pin_id and image are needed."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TRUE, _FALSE = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0", ""})


@dataclass(frozen=True)
class Defaults:
    """What an event takes where its row says nothing.

    Attributes:
        kind: of every event of this reading; a delete needs no picture.
        version: of every event; 0 lets the event's time stand for it.
        now_ms: gives event_time, Unix milliseconds.
    """

    kind: PinEvent.Kind
    version: int
    now_ms: Callable[[], int]


def pin_from_row(row: Mapping[str, object], folder: Path, defaults: Defaults) -> PinEvent:
    """The event of one row.

    Args:
        row: column -> value; None and empty text count as absent. Values may be text or typed:
            annotations: a list, a JSON array, or words joined by "|";
            category: one name, weight 1.0; category_weights: an object, a JSON object, or pairs;
            buyable: true/false, yes/no, 1/0; version and event_time: integers, in digits or not.
        folder: where relative picture paths begin.
        defaults: kind, version and time.

    Raises:
        Poison: the row is not a good event; `detail` says why.
    """
    unknown = sorted(str(name) for name in row if name not in COLUMNS)
    if unknown:
        raise _bad(f"unknown column {', '.join(unknown)} (known: {', '.join(sorted(COLUMNS))})")
    try:
        event = PinEvent(
            pin_id=text(row, "pin_id"),
            kind=defaults.kind,
            version=integer(row, "version") or defaults.version,
            board_id=text(row, "board_id"),
            title=text(row, "title"),
            annotations=_words(row.get("annotations")),
            category_weights=_weights(row),
            buyable=_flag(row.get("buyable")),
            link=text(row, "link"),
            event_time=integer(row, "event_time") or defaults.now_ms(),
        )
    except ValueError as error:
        raise _bad(f"text that is not UTF-8: {error}") from error
    image = text(row, "image")
    if image and defaults.kind != PinEvent.KIND_DELETED:
        event.image.CopyFrom(image_of(image, folder))
    validate_pin(event)
    return event


def pin_from_picture(path: Path, root: Path, defaults: Defaults) -> PinEvent:
    """The event of a picture without a row: its id from its path, its title from its name, its board from its folder.

    Args:
        path: the picture, somewhere below `root`.
        root: the folder that was named, or the folder of a picture that was named itself.
        defaults: kind, version and time.

    Raises:
        Poison: it cannot be read, or is not a JPEG, PNG or WebP file by its first bytes.
    """
    event = PinEvent(
        pin_id=derived_pin_id(path, root),
        kind=defaults.kind,
        version=defaults.version,
        board_id=path.resolve().parent.name,
        title=path.stem,
        event_time=defaults.now_ms(),
    )
    if defaults.kind != PinEvent.KIND_DELETED:
        event.image.CopyFrom(image_of(str(path), Path()))
    validate_pin(event)
    return event


def derived_pin_id(path: Path, root: Path) -> str:
    """A stable id for a picture: words from its path below `root`, `root`'s own name included, and a hash of that path.

    It stays the same wherever the folder is moved to, and can stand in a URL.
    """
    below = f"{root.resolve().name}/{path.resolve().relative_to(root.resolve()).as_posix()}"
    words = re.sub(r"[^a-z0-9]+", "-", below.rpartition(".")[0].lower()).strip("-")
    return f"{words[-60:].lstrip('-')}-{sha256(below.encode(errors='surrogateescape')).hexdigest()[:10]}".lstrip("-")


def image_of(text: str, folder: Path) -> PinEvent.Image:
    """A picture by its URL as it is, or by its path: inline when it is small, by file:// URL when it is not.

    Raises:
        Poison: a path that cannot be read or does not begin as a JPEG, PNG or WebP file does.
    """
    if _URL.match(text):
        return PinEvent.Image(url=text)
    path = folder / text
    try:
        with path.open("rb") as file:
            data = file.read(INLINE_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise _bad(f"image {text}: {getattr(error, 'strerror', None) or error}") from error
    if not is_picture(data):
        raise _bad(f"image {text} is not a JPEG, PNG or WebP file")
    if len(data) > INLINE_LIMIT:
        return PinEvent.Image(url=path.resolve().as_uri())
    return PinEvent.Image(inline=data)


def is_picture(data: bytes) -> bool:
    """Whether these bytes begin as a JPEG, PNG or WebP file does; nothing more is looked at."""
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def _bad(detail: str) -> Poison:
    return Poison("bad_row", detail)


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _bad(f"text that is not UTF-8: {error}") from error
    return value


def text(row: Mapping[str, object], name: str) -> str:
    """A column's text, trimmed; "" where there is none. Raises Poison for what is neither UTF-8 text nor an integer."""
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, str):
        return _encodable(value).strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _bad(f"{name} is {value!r}, text is needed")


def integer(row: Mapping[str, object], name: str, most: int = 2**63 - 1) -> int:
    """A column's integer, 0 where there is none. Raises Poison for what is none, or not in 0..most."""
    digits = text(row, name)
    try:
        number = int(digits or 0)
    except ValueError as error:
        raise _bad(f"{name} is {digits!r}, an integer is needed") from error
    if not 0 <= number <= most:
        raise _bad(f"{name} is {number}, outside 0..{most}")
    return number


def _words(value: object) -> list[str]:
    if isinstance(value, str):
        value = _json(value, "annotations") if value.lstrip().startswith("[") else value.split("|")
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise _bad(f"annotations is {value!r}, a list of texts is needed")
    return [word.strip() for word in value if word.strip()]


def _weights(row: Mapping[str, object]) -> dict[str, float]:
    category, value = text(row, "category"), row.get("category_weights")
    if isinstance(value, str):
        value = _json(value, "category_weights") if value.strip() else None
    if not value:
        return {category: 1.0} if category else {}
    if category:
        raise _bad("category and category_weights are both set; one is enough")
    pairs = value.items() if isinstance(value, Mapping) else value
    try:
        weights = {str(name): weight for name, weight in pairs if weight is not None}  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise _bad(f"category_weights is {value!r}, an object of numbers is needed") from error
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise _bad(f"category_weights[{name!r}] is {weight!r}, a number is needed")
    return {name: float(weight) for name, weight in weights.items()}


def _flag(value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise _bad(f"buyable is {value!r}, true or false is needed")
    return text in _TRUE


def _json(text: str, name: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise _bad(f"{name} is not JSON: {error}") from error
