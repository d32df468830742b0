"""Saves for the benchmark of the API: co-occurrence stores for its filler pins, and a model with every feature.

Synthetic: each pin is on `BOARDS_OF` boards drawn at random, so that a board holds about 66 pins and a query has more
candidates than are re-ranked. Written as the saves worker would leave them, without Kafka.
"""

from __future__ import annotations

import numpy as np

from discovery.related.features import BASE, CROSS
from discovery.related.model import LinearModel
from dotstream.clock import SystemClock
from indexer.cooccurrence import BOARDS, PINS
from indexer.keyed_layout import Store
from indexer.keyed_state import KeyedState
from indexer.partition import partition_of
from indexer.timed_sets import SAVED, TimedSet, order_of
from ops.bench._api_index import CATEGORIES
from ops.settings import Settings
from ops.states import store_folder

BOARDS_OF = 20
PINS_OF = 66
CAPACITY = 256
MODEL = LinearModel(dict.fromkeys(BASE, 1.0) | {f"{CROSS}category{n}": 1.0 for n in range(CATEGORIES)})
"""All features and all 32 crosses are computed; the weights are no trained ones."""


def fill(settings: Settings, pins: int) -> None:
    """Both stores for pins `filler-0` to `filler-<pins - 1>`."""
    draw = np.random.default_rng(2)
    boards = [f"board-{n}".encode() for n in range(max(1, pins * BOARDS_OF // PINS_OF))]
    of_board: dict[bytes, TimedSet] = {}
    of_pin: dict[bytes, TimedSet] = {}
    now = SystemClock().now_ms()
    for number in range(pins):
        pin = f"filler-{number}".encode()
        for at in draw.integers(len(boards), size=BOARDS_OF).tolist():
            order = order_of(now - int(draw.integers(1, 10**10)), SAVED)
            of_board.setdefault(boards[at], TimedSet()).apply(pin, order, CAPACITY)
            of_pin.setdefault(pin, TimedSet()).apply(boards[at], order, CAPACITY)
    _write(settings, BOARDS, of_board)
    _write(settings, PINS, of_pin)


def _write(settings: Settings, store: Store, sets: dict[bytes, TimedSet]) -> None:
    partitions = settings.topics.keyed_partitions
    for number in range(partitions):
        home = store_folder(settings, store) / str(number)
        state = KeyedState.open(home, store, partition=number, topic_id="bench", clock=SystemClock())
        batch = state.database.batch()
        for key, kept in sets.items():
            if partition_of(key, partitions) == number:
                batch.put(store.families[0], key, kept.pack())
        state.commit(batch, 0)
        state.close()
