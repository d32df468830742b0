"""Annotation search: which pins are about these words (the paper's image search by annotations, section 8).

An inverted index over annotations and titles in the catalogue's family `words`, written in the same atomic batch as the
pin's row, so that it is exact under updates, deletes, replays and crashes:

    word                                  -> u64, live pins that have it
    word, NUL, 255 - impact u8, pin_id    -> nothing; a word's pins lie from the greatest impact down

A word is a run of letters, digits and underscores in NFKC and case-folded form, at most 64 characters. Its impact in a
pin is round(255 f / sqrt(n)), at least 1: f is 1 for a word of an annotation, 1/2 for one of the title only, and n the
number of the pin's different words, of which the first `MAX_WORDS` count, annotations before the title. For query words
with weights q,

    score(pin) = sum over words of  q(w) * idf(w) * impact(w, pin) / 255
    idf(w)     = ln((1 + N) / (1 + df(w)))        N live pins, df(w) of them with the word

Of each word and partition at most `POSTINGS` pins are read, those of the greatest impact: answers are exact for words
with fewer, and for greater ones miss only pins in which the word counts little.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import chain, islice, repeat
from typing import Protocol

from indexer.catalogue import Catalogue
from indexer.commit_page import State
from indexer.database import Batch
from indexer.records_pb2 import ObjectRecord

FAMILY = "words"
MAX_WORDS = 64
MAX_CHARS = 64
POSTINGS = 2_000
FULL = 255
_WORD = re.compile(r"\w+")
_TITLE = 0.5


@lru_cache(maxsize=65_536)
def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, in order. Annotations come again and again, so what was found is remembered."""
    return tuple(word[:MAX_CHARS] for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def impacts(record: ObjectRecord) -> dict[str, int]:
    """Word -> impact, 1 to 255, of a live pin."""
    full = dict.fromkeys(chain.from_iterable(map(words_of, record.annotations)))
    half = [word for word in dict.fromkeys(words_of(record.title)) if word not in full]
    if len(full) + len(half) > MAX_WORDS:
        full = dict.fromkeys(islice(full, MAX_WORDS))
        half = half[: MAX_WORDS - len(full)]
    strong, weak = _impacts_among(len(full) + len(half))
    return dict.fromkeys(full, strong) | dict.fromkeys(half, weak)


@cache
def _impacts_among(n: int) -> tuple[int, int]:
    """The impact of a word of an annotation, and of one of the title only, in a pin of n words."""
    length = math.sqrt(max(1, n))
    return max(1, round(FULL / length)), max(1, round(FULL * _TITLE / length))


def posting_keys(found: Mapping[str, int], key: bytes) -> list[bytes]:
    """The family's keys for the words of one pin."""
    return [_start(word, impact) + key for word, impact in found.items()]


@lru_cache(maxsize=65_536)
def _start(word: str, impact: int) -> bytes:
    return word.encode() + bytes((0, FULL - impact))


class WordStager:
    """Works out what a batch of pins changes in the family.

    Args:
        catalogue: before the batch.
        batch: what the changes join.
    """

    def __init__(self, catalogue: Catalogue, batch: Batch) -> None:
        self._catalogue = catalogue
        self._batch = batch
        self._gone: list[str] = []
        self._come: list[str] = []
        self._postings: list[bytes] = []

    def take_out(self, key: bytes, record: ObjectRecord) -> None:
        """A live pin's words go."""
        found = impacts(record)
        for old in posting_keys(found, key):
            self._batch.delete(FAMILY, old)
        self._gone += found

    def put_in(self, key: bytes, record: ObjectRecord) -> None:
        """A live pin's words come."""
        found = impacts(record)
        self._postings += posting_keys(found, key)
        self._come += found

    def finish(self) -> None:
        """What came, and the words' new counts, join the batch behind what went. Once for a batch."""
        self._batch.put_many(FAMILY, self._postings, repeat(b""))
        self._catalogue.count(FAMILY, self._come, self._gone, self._batch)


class Part(Protocol):
    """One partition at a committed version."""

    @property
    def catalogue(self) -> Catalogue: ...
    @property
    def state(self) -> State: ...


def best(parts: Sequence[Part], words: Mapping[str, float], n: int) -> list[tuple[float, str]]:
    """(score, pin_id) of the n best pins of all partitions, best first, ties by pin_id.

    `words` is query word -> weight, words as `words_of` writes them.
    """
    documents = sum(part.state.live_pins for part in parts)
    keys = [word.encode() for word in words]
    frequencies = [sum(each) for each in zip(*(part.catalogue.numbers(FAMILY, keys) for part in parts), strict=True)]
    scores: dict[str, float] = {}
    for (word, weight), frequency in zip(words.items(), frequencies, strict=False):
        factor = weight * math.log((1 + documents) / (1 + min(documents, frequency)))
        if factor <= 0:
            continue
        for pin_id, impact in (each for part in parts for each in _postings(part.catalogue, word)):
            scores[pin_id] = scores.get(pin_id, 0.0) + factor * impact / FULL
    ranked = sorted(scores.items(), key=lambda each: (-each[1], each[0]))
    return [(score, pin_id) for pin_id, score in ranked[:n]]


def _postings(catalogue: Catalogue, word: str) -> Iterable[tuple[str, int]]:
    start = word.encode() + b"\0"
    with catalogue.scan(FAMILY, start, word.encode() + b"\1") as found:
        return [
            (key[len(start) + 1 :].decode(), FULL - key[len(start)])
            for (key, _), _ in zip(found, range(POSTINGS), strict=False)
        ]
