"""What discovery asks of the other parts, as narrow ports: index, picture store, vision, dots, dead letters.

The real parts fit them as they are (indexer/reader.py, indexer/pictures.py, triton_models/pipeline.py,
discovery/dot_view.py, discovery/dead_letters.py); ops/ puts them together in a `Services`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from indexer.records_pb2 import DotRecord, ObjectRecord
from indexer.search import Scope
from indexer.tags import Tagged
from producers.events_pb2 import EngagementEvent, SaveEvent
from triton_models.pictures import Picture

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in 0..1 of the upright picture, origin at top left."""


class Found(Protocol):
    """One pin as the index answers it."""

    @property
    def record(self) -> ObjectRecord: ...
    @property
    def offset(self) -> int: ...
    @property
    def partition(self) -> int: ...
    @property
    def logged_at(self) -> int: ...


class Hit(Protocol):
    """One code near the query. `object_index` None: the whole picture's code."""

    @property
    def pin_id(self) -> str: ...
    @property
    def object_index(self) -> int | None: ...
    @property
    def distance(self) -> int: ...
    @property
    def similarity(self) -> float: ...
    @property
    def record(self) -> ObjectRecord: ...


class Hits(Protocol):
    """The nearest codes, nearest first, and the offsets that the answer reflects."""

    @property
    def hits(self) -> Sequence[Hit]: ...
    @property
    def watermark(self) -> Mapping[int, int]: ...


class Size(Protocol):
    """Counts of live things in the index."""

    @property
    def pins(self) -> int: ...


class Index(Protocol):
    """A reader of one generation's shards. Thread-safe; sees what `refresh` last saw."""

    @property
    def generation(self) -> str: ...

    def refresh(self) -> Mapping[int, int]:
        """Takes in what the writers committed and renews the lease. Returns partition -> last applied offset."""
        ...

    def pin(self, pin_id: str) -> Found | None:
        """The pin's winning record, deletes included; None for a pin that the index never saw."""
        ...

    def at_hand(self, pin_id: str) -> Found | None:
        """As `pin`, without ever refreshing. Raises LeaseExpired or NotInView where that would be needed."""
        ...

    def pins(self, pin_ids: Sequence[str]) -> Sequence[Found | None]:
        """The winning records of many pins, in their order, each as `pin` gives it."""
        ...

    def newest(self, n: int, before: tuple[int, str] | None = None) -> Sequence[Found]:
        """Live pins by (recorded_at, pin_id), newest first; only those behind `before`."""
        ...

    def newest_places(self, n: int) -> Sequence[tuple[int, str]]:
        """(recorded_at, pin_id) of what `newest` gives; quicker."""
        ...

    def search(
        self,
        code: bytes,
        k: int,
        *,
        scope: Scope = "all",
        exclude_pins: frozenset[str] = frozenset(),
        exclude_sha256: frozenset[bytes] = frozenset(),
        label: str | None = None,
        category: str | None = None,
        buyable: bool | None = None,
        limit_s: float | None = None,
    ) -> Hits:
        """The k nearest codes of live pins. `scope` is "all", "objects" or "images"."""
        ...

    def document_frequency(self, annotations: Sequence[str]) -> tuple[int, Mapping[str, int]]:
        """Live pins with annotations, and how many of them carry each."""
        ...

    def about(self, query: Mapping[str, float], n: int) -> Sequence[tuple[float, Found]]:
        """The n live pins that are most about these words, with scores, best first (indexer/words.py)."""
        ...

    def size(self) -> Size:
        """What the index holds."""
        ...


class Pictures(Protocol):
    """The content-addressed picture store."""

    def get(self, ref: str) -> bytes:
        """The picture's bytes as they were published. Raises Poison when there is none under that key."""
        ...


class SeenObject(Protocol):
    """One detected object of a query picture."""

    @property
    def box(self) -> Box: ...
    @property
    def label(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def code(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen in a query picture: its own code, its objects, most certain first, its sha256, and its salient
    colours as (0xRRGGBB, share), largest share first.
    """

    code: bytes
    objects: Sequence[SeenObject]
    sha256: bytes
    colours: Sequence[tuple[int, float]] = ()


class Eyes(Protocol):
    """Triton's models behind the same crop and resize as the stream uses, so that codes are comparable."""

    def open(self, picture: bytes) -> Picture:
        """Decodes in safety. Raises Poison for a bad picture."""
        ...

    def see(self, picture: Picture) -> Sight:
        """Detects and embeds. Raises Retryable without Triton."""
        ...

    def look(self, picture: Picture, box: Box) -> bytes:
        """The code of one part of a picture. Raises as `see`."""
        ...


class Tags(Protocol):
    """Expert tags for Shop-the-Look, as topic `tags` tells them."""

    def of(self, pin_id: str) -> Sequence[Tagged]:
        """The products attached to a pin, latest first. Raises Retryable while the store is away."""
        ...


class NoTags:
    """For an API without a tag store."""

    def of(self, pin_id: str) -> Sequence[Tagged]:
        """Nothing."""
        _ = pin_id
        return ()


class Engagement(Protocol):
    """Engagement aggregated for each query object, as topic `engagements` tells it."""

    def of(self, pin_id: str, object_index: int | None, results: Sequence[str]) -> Mapping[str, float]:
        """Result pin -> decayed weight of what people did with it, of these results. Raises Retryable while the store
        is away.
        """
        ...


class NoEngagement:
    """For an API without an engagement store."""

    def of(self, pin_id: str, object_index: int | None, results: Sequence[str]) -> Mapping[str, float]:
        """Nothing."""
        _ = pin_id, object_index, results
        return {}


class Dots(Protocol):
    """The dots of each pin, as the topic `dots` last said.

    Attributes:
        only: the one generation whose dots are answered; None when it is the active one, which decides them.
    """

    only: str | None

    def get(self, pin_id: str) -> DotRecord | None:
        """The pin's dots, a record with `deleted` for one that was taken out, None for one never seen."""
        ...

    @property
    def ready(self) -> bool:
        """Whether everything that was in the topic at the start has been taken in."""
        ...


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why an event of a pin could not pass, with the coordinates of the original. Times are Unix milliseconds.

    Attributes:
        topic, partition, offset: where the original stood.
        event_timestamp: the log's timestamp of the original.
        dead_at: when it was given up.
        event_time: what the original says of its own time (`ce_time`); None when it says nothing.
    """

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    event_timestamp: int
    dead_at: int
    event_time: int | None = None


@dataclass(frozen=True, slots=True)
class Letters:
    """The dead letters of a pin, latest first.

    Attributes:
        found: those that were read.
        newest_only: None when all dead letters were looked at, else how many of a partition's newest were.
    """

    found: Sequence[DeadLetter] = ()
    newest_only: int | None = None


class DeadLetters(Protocol):
    """Where events that could not pass are looked up."""

    def find(self, pin_id: str) -> Letters:
        """The pin's dead letters, latest first. Raises Retryable while the broker is away."""
        ...


class NoDeadLetters:
    """For an API that has no access to the dead-letter topics: nothing is ever found there."""

    def find(self, pin_id: str) -> Letters:
        """Nothing."""
        _ = pin_id
        return Letters()


class Reports(Protocol):
    """Where what people did is published: topics `engagements` and `saves`. Used by one thread at a time."""

    @property
    def taken(self) -> bool:
        """Whether this API takes reports at all."""
        ...

    def publish(self, events: Sequence[EngagementEvent | SaveEvent]) -> None:
        """Returns when all of them, which are checked, are acknowledged. Raises Retryable when some may not be."""
        ...


class NoReports:
    """For an API that only reads."""

    taken = False

    def publish(self, events: Sequence[EngagementEvent | SaveEvent]) -> None:
        """Takes nothing; nobody asks while `taken` is false."""
        raise AssertionError(f"{len(events)} reports to an API that takes none")
