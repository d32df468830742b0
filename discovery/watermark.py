"""`indexed_up_to`: an opaque word that says which records of which generation an answer reflects.

A client hands it back to be answered from an index that is at least as far (read your own write). Layout, version 1,
in the words of discovery/opaque.py: `{"v": 1, "g": generation, "w": {"partition": "offset", …}}`; offsets are the last
applied ones, inclusive, as strings because they are int64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from discovery import opaque

VERSION = 1
MAX_CHARS = 8192


@dataclass(frozen=True, slots=True)
class Watermark:
    """A generation and the last applied offset of each of its partitions."""

    generation: str
    offsets: Mapping[int, int]

    def reached_by(self, offsets: Mapping[int, int]) -> bool:
        """Whether an index at `offsets` holds everything that this watermark names."""
        return all(offsets.get(partition, -1) >= offset for partition, offset in self.offsets.items())


def write(watermark: Watermark) -> str:
    """The opaque word for a watermark."""
    offsets = {str(partition): str(offset) for partition, offset in sorted(watermark.offsets.items())}
    return opaque.write({"v": VERSION, "g": watermark.generation, "w": offsets})


def read(word: str) -> Watermark:
    """The watermark that an opaque word stands for.

    Raises:
        ValueError: it is no such word, or of another version.
    """
    if len(word) > MAX_CHARS:
        raise ValueError(f"longer than {MAX_CHARS} characters")
    plain = opaque.read(word)
    if not isinstance(plain, dict) or plain.get("v") != VERSION:
        raise ValueError(f"not of version {VERSION}")
    generation, offsets = plain.get("g"), plain.get("w")
    if not isinstance(generation, str) or not isinstance(offsets, dict):
        raise ValueError("it names no generation or no offsets")  # noqa: TRY004 - the word's fault, not the caller's
    return Watermark(generation, {_int(partition): _int(offset) for partition, offset in offsets.items()})


def _int(text: object) -> int:
    if not isinstance(text, str) or len(text) > 20 or not text.lstrip("-").isdecimal():
        raise ValueError("a partition or offset is no number")
    return int(text)
