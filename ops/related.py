"""Related Pins put together from the settings: the reader of co-occurrence and the re-ranking model."""

from __future__ import annotations

from discovery.related.model import CONTROL, LinearModel, load
from indexer.cooccurrence import BOARDS, PINS, CoOccurrence, Rules
from indexer.keyed_reader import KeyedReader
from ops.settings import Settings
from ops.states import store_folder

DAY_MS = 86_400_000


def co_occurrence_of(settings: Settings) -> CoOccurrence:
    """Reads what the saves worker of this data folder keeps; empty while there is nothing."""
    partitions = settings.topics.keyed_partitions
    related = settings.related
    return CoOccurrence(
        KeyedReader(store_folder(settings, BOARDS), BOARDS, partitions),
        KeyedReader(store_folder(settings, PINS), PINS, partitions),
        Rules(
            half_life_ms=int(related.half_life_days * DAY_MS),
            window_ms=int(related.window_days * DAY_MS),
            boards_max=related.boards,
            members_max=related.board_pins,
        ),
    )


def related_model_of(settings: Settings) -> LinearModel:
    """The model that the settings name, else the control.

    Raises:
        Misconfigured: the file is no model.
    """
    return CONTROL if settings.related.model is None else load(settings.related.model)
