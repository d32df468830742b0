"""Memory of a process that opens segments and searches them, for `dotstream bench hamming`."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from dotstream.errors import Unavailable
from indexer.asks import Ask, Terms, Wanted
from indexer.crew import ALONE
from indexer.scan import Codes
from indexer.search import nearest, warm
from indexer.segments import Segment, SegmentName, SegmentSpec
from indexer.view import View
from ops.bench._codes import SEGMENT_SLOTS, Corpus

LIMIT_S = 300.0


@dataclass(frozen=True)
class Used:
    """What a process holds more than before it opened the first segment.

    Attributes:
        private: MiB of its own.
        mapped: MiB of files, in the system's cache, which all processes share and the system may take back.
    """

    private: float
    mapped: float


def memory(corpus: Corpus, growth: Sequence[int]) -> list[Used]:
    """After one query over the first so many segments, for each of these ascending numbers, in one new process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    args = (corpus.folder, corpus.spec, tuple(growth), corpus.queries[0], theirs)
    process = context.Process(target=_open_and_search, args=args, daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(LIMIT_S):
            raise Unavailable(f"the process that measures memory said nothing for {LIMIT_S:g} s")
        used: list[Used] = ours.recv()
    except EOFError:
        raise Unavailable("the process that measures memory ended before it had an answer") from None
    finally:
        process.join(10)
        process.kill()
    return used


def _open_and_search(folder: Path, spec: SegmentSpec, growth: Sequence[int], code: Codes, pipe: Connection) -> None:
    warm(spec.bits)
    terms = (Terms(Wanted(), {}),)
    before = _held()
    used: list[Used] = []
    segments: list[Segment] = []
    for count in growth:
        names = (SegmentName(number, number) for number in range(len(segments), count))
        segments += [Segment(folder, spec, name, "read") for name in names]
        view = View(0, 0, tuple((segment, SEGMENT_SLOTS) for segment in segments))
        nearest([view], [Ask(code, 10, spec.bits, terms)], crew=ALONE, checkpoint=lambda: None)
        now = _held()
        used.append(Used(*(np.subtract(now, before) / 2**20)))
    pipe.send(used)


def _held() -> tuple[int, int]:
    """(bytes of its own, bytes of files) that this process has in memory."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    own, files, shared = (int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile", "RssShmem"))
    return own, files + shared
