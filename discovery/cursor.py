"""`next` of a page: an opaque word (discovery/opaque.py) for the place behind its last pin. Layout, version 1:
`[1, "recorded_at in ms", "pin_id"]`.
"""

from __future__ import annotations

from discovery import opaque

VERSION = 1
Place = tuple[int, str]
"""recorded_at in Unix milliseconds, and pin_id."""


def write(place: Place) -> str:
    """The opaque word for a place."""
    return opaque.write([VERSION, str(place[0]), place[1]])


def read(word: str) -> Place:
    """The place that an opaque word stands for.

    Raises:
        ValueError: it is no such word, or of another version.
    """
    match opaque.read(word):
        case [int(version), str(at), str(pin_id)] if version == VERSION and at.isdecimal() and len(at) < 19:
            return int(at), pin_id
    raise ValueError(f"not a place of version {VERSION}")
