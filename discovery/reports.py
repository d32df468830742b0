"""Publishes what people did to the topics `engagements` and `saves`, for those who tell the API instead of Kafka.

An event is told as taken only when all replicas have it. After a failure the producer is made anew, so that nothing
that was given up is sent later behind the back of a client that tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dotstream.errors import DotstreamError
from producers.events_pb2 import EngagementEvent, SaveEvent
from producers.publisher import Publisher


class KafkaReports:
    """See `discovery.ports.Reports`. Not for concurrent use.

    Args:
        connect: opens a publisher; called again after a failure.
        limit_s: how long acknowledgements may take.
    """

    taken = True

    def __init__(self, connect: Callable[[], Publisher], *, limit_s: float = 2.0) -> None:
        self._connect = connect
        self._limit_s = limit_s
        self._publisher: Publisher | None = None

    def publish(self, events: Sequence[EngagementEvent | SaveEvent]) -> None:
        """Publishes checked events and waits for their acknowledgements.

        Raises:
            Retryable: some were not acknowledged in time, and may or may not be in their topic.
        """
        publisher = self._publisher = self._publisher or self._connect()
        try:
            for event in events:
                if isinstance(event, SaveEvent):
                    publisher.save(event)
                else:
                    publisher.engagement(event)
            publisher.flush(self._limit_s)
        except DotstreamError:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the connection."""
        if self._publisher is not None:
            self._publisher.close()
        self._publisher = None
