"""Which of a pin's dot records counts: their total order, the same for every reader of topic `dots`."""

from __future__ import annotations

from indexer.records_pb2 import DotRecord


def order_of(record: DotRecord) -> tuple[int, bool, int, int]:
    """The place of a record among those of its pin; the greater wins.

    By version, then deleted over live as in the index, then epoch of the generation, then decision.
    """
    return (record.version, record.deleted, record.epoch, record.decision)
