"""`indexer.search.nearest` on a GPU: the same slots in the same order, found where the device's memory is fast.

The device gives distances of all rows at once; those that a filter stops, or that do not belong to the version, are put
out of reach; then the k-th distance is known, and all up to it is taken, so that ties are complete as on the CPU.
Segments that do not fit, and the few rows of selective filters and allow lists, are looked at by the CPU.

One search at a time runs on the device, which a single one fills. When it fails the CPU answers, the reason is logged
and counted, and the device is left alone for a minute.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Protocol

import numpy as np
import torch

from dotstream.clock import Clock
from dotstream.errors import DotstreamError
from indexer.asks import Ask
from indexer.crew import Crew
from indexer.device import FAR, DeviceMemory, Distances, Place
from indexer.scan import Ints, Mask, Nearest
from indexer.search import Candidates, by_view, nearest
from indexer.sweeps import Job, Part, Parts, jobs, parts_of, sweep
from indexer.view import View

REST_S = 60.0
_LOOK_S = 0.01
_MOST_QUERIES = 1024
_FEW_SHARE = 100
"""One row in so many, and fewer, are looked at by the CPU."""
log = logging.getLogger(__name__)
_Masks = Sequence[Sequence[Mask | None]]


class DeviceObserver(Protocol):
    """Who counts what becomes of searches on a device."""

    def fell_back(self, reason: str) -> None:
        """The CPU answered instead: `memory` when the device had none left, `error` for anything else."""
        ...

    def holds(self, held: int, left: int) -> None:
        """So many bytes lie on the device; so many rows of the last search did not fit."""
        ...


class DeviceSearch:
    """The searches of one reader on a device.

    Args:
        memory: of the device.
        distances: the kernel.
        clock: for the rest after a failure.
        observer: told what becomes of it.
    """

    def __init__(self, memory: DeviceMemory, distances: Distances, *, clock: Clock, observer: DeviceObserver) -> None:
        self._memory = memory
        self._distances = distances
        self._clock = clock
        self._observer = observer
        self._mutex = threading.Lock()
        self._rests_until = float("-inf")

    def nearest(
        self, views: Sequence[View], asks: Sequence[Ask], *, crew: Crew, checkpoint: Callable[[], None]
    ) -> list[list[Candidates]]:
        """As `indexer.search.nearest`."""
        checkpoint()
        if self._clock.monotonic() >= self._rests_until:
            try:
                return self._find(views, asks, crew, checkpoint)
            except DotstreamError:
                raise
            except Exception as error:  # noqa: BLE001 - driver, torch or compiler: whatever it is, the CPU can answer
                self._failed(error)
        return nearest(views, asks, crew=crew, checkpoint=checkpoint)

    def _failed(self, error: Exception) -> None:
        self._rests_until = self._clock.monotonic() + REST_S
        reason = "memory" if isinstance(error, torch.OutOfMemoryError) else "error"
        self._observer.fell_back(reason)
        log.warning("the search on %s failed, the CPU answers for %.0f s: %s", self._memory.device, REST_S, error)

    def _find(
        self, views: Sequence[View], asks: Sequence[Ask], crew: Crew, checkpoint: Callable[[], None]
    ) -> list[list[Candidates]]:
        parts = parts_of(views)
        found: list[list[Candidates]] = [[]] * len(asks)
        for job in jobs(parts, asks):
            if job.rows is not None and sum(map(len, job.rows)) * _FEW_SHARE <= sum(part.length for part in parts):
                swept = sweep(parts, asks, job, crew, checkpoint)
            else:
                swept = self._swept(parts, asks, job, crew, checkpoint)
            for number, one in zip(job.asks, swept, strict=True):
                found[number] = by_view(parts, len(views), asks[number], one)
        return found

    def _swept(
        self, parts: Parts, asks: Sequence[Ask], job: Job, crew: Crew, checkpoint: Callable[[], None]
    ) -> list[Nearest]:
        """What each of a job's queries finds, on the device and in what does not fit there."""
        chosen = [asks[number] for number in job.asks]
        found: list[list[tuple[Ints, Ints]]] = [[] for _ in chosen]
        while not self._mutex.acquire(timeout=_LOOK_S):
            checkpoint()
        try:
            masks = _masks(parts, job)
            places, rest = self._placed(parts, checkpoint)
            for queries, group in self._pieces(places, len(chosen)):
                checkpoint()
                for number, slots, distances in self._look(group, chosen, queries, masks):
                    found[number].append((slots, distances))
        except DotstreamError:
            raise
        except Exception:
            self._memory.clear()
            raise
        finally:
            self._mutex.release()
        if rest:
            for number, one in enumerate(sweep(*_only(parts, rest, job, asks), crew, checkpoint)):
                found[number].append((one.slots, one.distances))
        return [_joined(one, ask) for one, ask in zip(found, chosen, strict=True)]

    def _placed(self, parts: Sequence[Part], checkpoint: Callable[[], None]) -> tuple[list[Place], list[Part]]:
        """(parts that lie on the device, those that do not fit)."""
        places: list[Place] = []
        rest: list[Part] = []
        for part in parts:
            checkpoint()
            held = self._memory.hold(part)
            if held is None:
                rest.append(part)
            else:
                places.append(Place(part, held, 0))
        self._observer.holds(self._memory.bytes_held, sum(part.length for part in rest))
        return places, rest

    def _pieces(self, places: Sequence[Place], queries: int) -> Iterator[tuple[range, list[Place]]]:
        """Queries and parts whose distances fit the device's memory at once: rather all queries, to read codes once."""
        if not places:
            return
        step = max(1, min(_MOST_QUERIES, self._memory.cells // max(place.part.length for place in places)))
        for start in range(0, queries, step):
            asked = range(start, min(start + step, queries))
            group: list[Place] = []
            columns = 0
            for place in places:
                if group and (columns + place.part.length) * len(asked) > self._memory.cells:
                    yield asked, group
                    group, columns = [], 0
                group.append(replace(place, column=columns))
                columns += place.part.length
            yield asked, group

    def _look(
        self, group: Sequence[Place], chosen: Sequence[Ask], queries: range, masks: _Masks
    ) -> Iterator[tuple[int, Ints, Ints]]:
        """(number of a query, slots, distances) for what it finds in a group of parts; a query may come repeatedly."""
        asked = chosen[queries.start : queries.stop]
        columns = group[-1].column + group[-1].part.length
        codes = self._memory.tensor(np.stack([ask.code for ask in asked]))
        table = torch.empty((len(asked), columns), dtype=torch.int32, device=self._memory.device)
        self._distances(group, codes, table)
        self._put_out_of_reach(table, group, masks[queries.start : queries.stop])
        bounds = self._bounds(table, asked)
        starts = np.array([place.column for place in group])
        bases = np.array([place.part.base for place in group])
        for number, at, distances in _within(table, bounds, self._memory.cells // 8):
            part = np.searchsorted(starts, at, side="right") - 1
            slots = bases[part] + at - starts[part]
            edges = np.searchsorted(number, np.arange(len(asked) + 1))
            for n in np.unique(number):
                mine = slice(edges[n], edges[n + 1])
                yield queries.start + int(n), slots[mine], distances[mine]

    def _put_out_of_reach(self, table: torch.Tensor, group: Sequence[Place], masks: _Masks) -> None:
        """Rows that a filter stops; queries with the same filter stand together."""
        start = 0
        for _, same in groupby(masks, key=id):
            stop = start + len(list(same))
            for place in group:
                mask = masks[start][place.part.number]
                if mask is not None:
                    columns = slice(place.column, place.column + place.part.length)
                    table[start:stop, columns].masked_fill_(self._memory.tensor(~mask), FAR)
            start = stop

    def _bounds(self, table: torch.Tensor, asked: Sequence[Ask]) -> torch.Tensor:
        """The largest distance that each query takes, int32 [nq, 1]: its k-th, or the largest wanted."""
        columns = table.shape[1]
        wanted = np.array([min(ask.k + ask.left_out, columns) for ask in asked])
        smallest = table.topk(int(wanted.max()), dim=1, largest=False, sorted=True).values
        last = smallest.gather(1, self._memory.tensor(wanted - 1)[:, None])
        within = self._memory.tensor(np.array([min(ask.within, FAR - 1) for ask in asked], np.int32))
        return torch.minimum(last, within[:, None])


def _within(table: torch.Tensor, bounds: torch.Tensor, most: int) -> Iterator[tuple[Ints, Ints, Ints]]:
    """(query, column, distance), int64 [m] each, ascending by query, of all up to the bounds; some `most` at once."""

    def pieces(queries: slice, columns: slice) -> Iterator[tuple[Ints, Ints, Ints]]:
        mine = table[queries, columns]
        near = mine <= bounds[queries]
        if int(near.sum()) > most and near.numel() > most:
            high, wide = near.shape
            if high > 1:
                middle = queries.start + high // 2
                halves = [(slice(queries.start, middle), columns), (slice(middle, queries.stop), columns)]
            else:
                middle = columns.start + wide // 2
                halves = [(queries, slice(columns.start, middle)), (queries, slice(middle, columns.stop))]
            del near
            for half in halves:
                yield from pieces(*half)
            return
        number, column = near.nonzero(as_tuple=True)
        yield (
            number.cpu().numpy() + queries.start,
            column.cpu().numpy() + columns.start,
            mine[number, column].cpu().numpy().astype(np.int64),
        )

    high, wide = table.shape
    yield from pieces(slice(0, high), slice(0, wide))


def _masks(parts: Sequence[Part], job: Job) -> _Masks:
    """For each query of a job which rows of each part pass."""
    if job.rows is None:
        return job.masks
    listed: list[Mask | None] = []
    for part, rows in zip(parts, job.rows, strict=True):
        mask = np.zeros(part.length, bool)
        mask[rows - part.base] = True
        listed.append(mask)
    return [listed] * len(job.asks)


def _only(parts: Parts, rest: Sequence[Part], job: Job, asks: Sequence[Ask]) -> tuple[Parts, Sequence[Ask], Job]:
    """A job confined to some of its parts; they find slots as before."""
    numbers = [part.number for part in rest]
    if job.rows is not None:
        return parts, asks, Job(job.asks, rows=[job.rows[number] for number in numbers])
    confined = Parts(replace(part, number=n) for n, part in enumerate(rest))
    return confined, asks, Job(job.asks, [[masks[number] for number in numbers] for masks in job.masks])


def _joined(found: Sequence[tuple[Ints, Ints]], ask: Ask) -> Nearest:
    none = np.empty(0, np.int64)
    slots = np.concatenate([none, *(slots for slots, _ in found)])
    return Nearest(slots, np.concatenate([none, *(distances for _, distances in found)]), ask.within, len(slots))
