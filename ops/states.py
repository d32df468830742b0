"""Opens the local states of a worker, rebuilding one whose content is not of the topic at hand."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from consumers.ports import Partition
from dotstream.clock import Clock
from indexer.at_once import AT_ONCE
from indexer.errors import NeedsRebuild
from indexer.keyed_layout import Store
from indexer.keyed_state import KeyedState
from ops.settings import Settings
from ops.topics import topic_id

log = logging.getLogger(__name__)


def store_folder(settings: Settings, store: Store) -> Path:
    """Where the states of a store lie, one folder for each partition."""
    return settings.data.absolute() / "states" / store.name


def state_opener(
    settings: Settings, store: Store, clock: Clock, syncs: Executor = AT_ONCE
) -> Callable[[Partition, int], KeyedState]:
    """Opens the state of a partition, given the offset that its topic's next record will get.

    A state that reflects another topic, or offsets that the topic does not have, is replayed into a new folder beside
    it, which takes its place once it has caught up; readers keep the old one until then.

    Args:
        settings: of the data folder, the cluster and the lock's limit.
        store: what the states hold.
        clock: time for syncs and waits.
        syncs: where the disk is waited for.
    """
    connection = settings.kafka.connection()

    def opened(source: Partition, *, rebuild: bool) -> KeyedState:
        topic, partition = source
        return KeyedState.open(
            store_folder(settings, store) / str(partition),
            store,
            partition=partition,
            topic_id=topic_id(connection, topic),
            clock=clock,
            lock_limit_s=settings.index.lock_limit_s,
            rebuild=rebuild,
            syncs=syncs,
        )

    def open_state(source: Partition, end: int) -> KeyedState:
        try:
            state = opened(source, rebuild=False)
        except NeedsRebuild as error:
            log.warning("%s of %s[%d] is replayed into a new folder: %s", store.name, *source, error)
            return opened(source, rebuild=True)
        try:
            state.check_log_end(end)
        except NeedsRebuild as error:
            log.warning("%s of %s[%d] is replayed into a new folder: %s", store.name, *source, error)
            state.abandon()
            return opened(source, rebuild=True)
        return state

    return open_state
